//! ledger.v2: every event of the ledger. These serde types are the events; there is no second set.
//!
//! An enum per kind, matched without a wildcard, so that a new event breaks every fold that must think about it.
//! Long because the events are one list, and the matches that keep it whole stand beside it.

use crate::approval::{ApprovalEvent, ApprovedBy, ToolAwaiting};
use crate::grant::GrantEvent;
use crate::ids::{DispatchId, GrantId, LauncherId, RunnerName, SessionId, Subject, UnixMillis};
use crate::isolation::{Isolation, Sockets};
use crate::runner::{Resources, Runner, SessionKind};
use crate::sealed::{Sealed, SubjectKeyChanged};
use crate::token::{TokenEvent, TokenKeyChanged};
use crate::unit::{InputTrust, Invocation};
use crate::workspace::{MountBase, RunCommit, WorkspaceEvent};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which entity family an event belongs to; the second token of `ledger.<kind>.<id>`. One kind has one writing role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Written by authority.
    Dispatch,
    /// Written by runtime.
    Run,
    /// Written by gateway.
    Effect,
    /// Written by authority.
    Launcher,
    /// Written by authority.
    Key,
    /// Written by authority.
    Checkpoint,
    /// Written by authority.
    Workspace,
    /// Written by authority.
    Grant,
    /// Written by authority.
    Approval,
    /// Written by authority.
    Token,
}

impl Kind {
    /// Every kind, in the order of the contract.
    pub const ALL: [Kind; 10] = [
        Kind::Dispatch,
        Kind::Run,
        Kind::Effect,
        Kind::Launcher,
        Kind::Key,
        Kind::Checkpoint,
        Kind::Workspace,
        Kind::Grant,
        Kind::Approval,
        Kind::Token,
    ];

    /// The subject token.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Dispatch => "dispatch",
            Kind::Run => "run",
            Kind::Effect => "effect",
            Kind::Launcher => "launcher",
            Kind::Key => "key",
            Kind::Checkpoint => "checkpoint",
            Kind::Workspace => "workspace",
            Kind::Grant => "grant",
            Kind::Approval => "approval",
            Kind::Token => "token",
        }
    }

    /// The kind of a subject token.
    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.as_str() == text)
    }

    /// The one role that may append this kind.
    pub fn writer(self) -> Role {
        match self {
            Kind::Dispatch
            | Kind::Launcher
            | Kind::Key
            | Kind::Checkpoint
            | Kind::Workspace
            | Kind::Grant
            | Kind::Approval
            | Kind::Token => Role::Authority,
            Kind::Run => Role::Runtime,
            Kind::Effect => Role::Gateway,
        }
    }
}

/// A role of the one binary. Source: architecture, "Roles".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// REST, websocket bridge.
    Api,
    /// Admission, launchers, keys, checkpoints.
    Authority,
    /// Containers; the only one that touches Docker.
    Runtime,
    /// The socket of each box, inference, tools.
    Gateway,
    /// Schedules.
    Scheduler,
    /// Folds; writes nothing.
    Projector,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 6] =
        [Role::Api, Role::Authority, Role::Runtime, Role::Gateway, Role::Scheduler, Role::Projector];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Api => "api",
            Role::Authority => "authority",
            Role::Runtime => "runtime",
            Role::Gateway => "gateway",
            Role::Scheduler => "scheduler",
            Role::Projector => "projector",
        }
    }

    /// The role of a word.
    pub fn parse(text: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|r| r.as_str() == text)
    }
}

/// Where a dispatch was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchRef {
    /// Sequence of the message in the LAUNCH stream.
    pub stream_seq: u64,
    /// Who published, as the account boundary says it.
    pub launcher: LauncherId,
    /// The message's own id, when it could be read.
    pub event_id: Option<String>,
    /// Digest of the stored bytes.
    pub digest: String,
    /// When LAUNCH stored it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_at: Option<UnixMillis>,
}

/// The runner that a dispatch will use, pinned at admission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerRef {
    /// Its name.
    pub name: RunnerName,
    /// Its version.
    pub version: String,
    /// Its image id.
    pub image: String,
    /// Whether its boxes may make TCP sockets on their loopback device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loopback: Option<bool>,
    /// The least isolation that it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// What its sessions are made of.
    #[serde(default, skip_serializing_if = "SessionKind::is_file")]
    pub session_kind: SessionKind,
    /// The least that its box must offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

impl RunnerRef {
    /// A runner whose box is like any other.
    pub fn plain(name: RunnerName, version: impl Into<String>, image: impl Into<String>) -> RunnerRef {
        RunnerRef {
            name,
            version: version.into(),
            image: image.into(),
            loopback: None,
            isolation: None,
            session_kind: SessionKind::File,
            resources: None,
        }
    }

    /// What an admission pins of a runner.
    pub fn of(runner: Runner) -> RunnerRef {
        RunnerRef {
            name: runner.name,
            version: runner.version,
            image: runner.image,
            loopback: runner.loopback.then_some(true),
            isolation: runner.isolation,
            session_kind: runner.session.kind,
            resources: runner.resources,
        }
    }
}

/// Which grant covers a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantCheck {
    /// Written before grants existed, and never since.
    NotChecked,
    /// This one.
    Checked(GrantUse),
}

impl GrantCheck {
    /// The grant, when there is one.
    pub fn id(&self) -> Option<&GrantId> {
        match self {
            GrantCheck::NotChecked => None,
            GrantCheck::Checked(used) => Some(&used.id),
        }
    }
}

/// A grant as it stood when a dispatch was admitted under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantUse {
    /// Which.
    pub id: GrantId,
    /// The ledger sequence at which it was issued.
    pub seq: u64,
}

/// What was found of a launch message's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureCheck {
    /// Present and good for the registered key.
    Verified,
    /// Absent, and this launcher need not sign.
    Absent,
}

/// A dispatch was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatchAdmitted {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// Its session.
    pub session: SessionId,
    /// What was asked, without token.
    pub unit: Invocation,
    /// Where it was asked.
    pub launch: LaunchRef,
    /// What will run it.
    pub runner: RunnerRef,
    /// Which grant covers it.
    pub grant: GrantCheck,
    /// Whether the message was signed.
    pub signature: SignatureCheck,
    /// The words of the start under the person's key; then the unit holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
}

/// A dispatch was refused; refusals are events too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatchRefused {
    /// The id that it would have had.
    pub dispatch: DispatchId,
    /// Where it was asked.
    pub launch: LaunchRef,
    /// Stable code, for example `LAUNCHER_UNKNOWN`.
    pub reason: String,
    /// What was wrong, in a sentence.
    pub detail: String,
    /// What to do next.
    pub hint: String,
}

/// Somebody asked for a dispatch to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatchStopRequested {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// Who asked.
    pub by: String,
    /// Milliseconds between TERM and KILL.
    pub grace_ms: u64,
    /// What the run's end will say: stopped, revoked or budget; `None` is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<StopReason>,
}

/// Somebody said more to a dispatch that has not ended, and may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowUpAccepted {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// 1 for its first follow-up.
    pub n: u32,
    /// Who said it.
    pub by: String,
    /// The message it came in; `None` for an operator's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<LaunchRef>,
    /// What was found of the message's signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureCheck>,
    /// Digest of the text as it is kept, sealed with the person's key.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
    /// Where it is: a sequence of OUTPUT.
    pub input_seq: u64,
}

/// Somebody said more to a dispatch and was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowUpRefused {
    /// The message's own id: the entity.
    pub message: DispatchId,
    /// The dispatch that was meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch: Option<DispatchId>,
    /// Who said it.
    pub by: String,
    /// The message it came in; `None` for an operator's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<LaunchRef>,
    /// Digest of the text, or of the whole message when it had none.
    pub digest: String,
    /// Its size, at most 65,536.
    pub bytes: u64,
    /// Stable code, for example `FOLLOW_UP_CLOSED`.
    pub reason: String,
    /// What was wrong, in a sentence.
    pub detail: String,
    /// What to do next.
    pub hint: String,
}

/// Events of kind dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DispatchEvent {
    /// Admitted.
    Admitted(Box<DispatchAdmitted>),
    /// Refused.
    Refused(DispatchRefused),
    /// Stop requested.
    StopRequested(DispatchStopRequested),
    /// More was said to it.
    FollowUpAccepted(FollowUpAccepted),
    /// More was said to it, and refused.
    FollowUpRefused(FollowUpRefused),
}

/// A runtime claimed a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunClaimed {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// 1 for the first container of this dispatch.
    pub attempt: u32,
    /// The runtime's instance id.
    pub runtime: String,
    /// The image id.
    pub image: String,
    /// The container's name, a function of dispatch and attempt.
    pub container_name: String,
    /// Digest over the container's create options.
    pub spec_digest: String,
    /// The session.
    pub session: SessionId,
    /// The session file it resumes from; `None` for a first turn.
    pub resume_digest: Option<String>,
    /// When it must have ended.
    pub deadline_at: UnixMillis,
    /// Whether its container is a blank one that ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<bool>,
    /// The workspaces it mounts, and at which commit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountBase>,
}

/// The container runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunStarted {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// Which attempt.
    pub attempt: u32,
    /// The engine's container id.
    pub container: String,
    /// When the engine says that it started.
    pub started_at: UnixMillis,
    /// Milliseconds by phase of the start.
    pub phases_ms: BTreeMap<String, u64>,
    /// What stands around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<InForce>,
}

/// The profile of one container, as it was set and read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InForce {
    /// Whether it is a blank container that ran before its dispatch was known.
    pub warm: bool,
    /// Which sockets it may make.
    pub sockets: Sockets,
    /// Digest of its seccomp profile.
    pub seccomp_digest: String,
    /// Its class.
    pub isolation: Isolation,
    /// The engine's runtime that made it.
    pub oci_runtime: String,
    /// Whether it has user ids of its own.
    pub userns: bool,
    /// Which control groups hold its limits: `1`, `2` or `unknown`.
    pub cgroup_version: String,
    /// Bytes of memory, with no swap; 0 when none is set.
    pub memory_bytes: u64,
    /// Billionths of a processor; 0 when none is set.
    pub nano_cpus: u64,
    /// Processes; 0 when none is set.
    pub pids: u64,
}

/// Why a run ended. Source: contract runtime.v1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It did what it was asked.
    Completed,
    /// Somebody stopped it.
    Stopped,
    /// It was silent for too long.
    IdleTimeout,
    /// It failed.
    Failed,
    /// It ran out of memory.
    Oom,
    /// It never ran.
    StartFailed,
    /// It lived too long.
    MaxLifetime,
    /// Its grant was revoked.
    Revoked,
    /// Its budget was used up.
    Budget,
}

impl StopReason {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            StopReason::Completed => "completed",
            StopReason::Stopped => "stopped",
            StopReason::IdleTimeout => "idle_timeout",
            StopReason::Failed => "failed",
            StopReason::Oom => "oom",
            StopReason::StartFailed => "start_failed",
            StopReason::MaxLifetime => "max_lifetime",
            StopReason::Revoked => "revoked",
            StopReason::Budget => "budget",
        }
    }
}

/// A session file as it was when a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionFile {
    /// The session.
    pub id: SessionId,
    /// Digest of the file; its bytes are the blob of that name.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
}

/// Digest, size and place of a run's output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputRef {
    /// The topic.
    pub subject: String,
    /// Frames on it.
    pub frames: u64,
    /// Bytes of the frames as stored.
    pub bytes: u64,
    /// Digest over the stored frames, in order.
    pub digest: String,
    /// Whether some were dropped.
    pub truncated: bool,
}

/// What a run used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Milliseconds from start to end.
    pub wall_ms: u64,
    /// Tokens sent to the model.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Calls of the model.
    pub model_calls: u64,
}

/// The one terminal event of a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFinished {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// Which attempt.
    pub attempt: u32,
    /// The engine's container id, when there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The container's exit code, when there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Why it ended.
    pub reason: StopReason,
    /// More, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub finished_at: UnixMillis,
    /// The session file that it left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionFile>,
    /// Its output.
    pub output: OutputRef,
    /// What it used.
    pub usage: Usage,
    /// The agent's own session id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_session: Option<String>,
    /// Milliseconds by phase that the start does not know yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub phases_ms: BTreeMap<String, u64>,
    /// What became of its changes, by workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commits: Vec<RunCommit>,
    /// Whether its time was up and its session file is kept, so that a later turn resumes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parked: bool,
    /// Turns that the box took, when they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<u32>,
}

/// Events of kind run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// Claimed.
    Claimed(RunClaimed),
    /// Started.
    Started(RunStarted),
    /// Finished.
    Finished(Box<RunFinished>),
}

/// Whether an effect did what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EffectOutcome {
    /// It did.
    Succeeded,
    /// It did not.
    Failed,
}

/// A model was called for a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCalled {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// 1 for its first call.
    pub n: u32,
    /// The wire format the agent spoke.
    pub api: String,
    /// The upstream's configured name; never an address or a key.
    pub upstream: String,
    /// The model that was asked for.
    pub model: String,
    /// Digest of the request body.
    pub request_digest: String,
    /// Digest of the response body as passed on.
    pub response_digest: String,
    /// HTTP status of the upstream; 0 when none came.
    pub status: u16,
    /// Whether an answer came whole.
    pub outcome: EffectOutcome,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Tokens sent, as the upstream counts.
    pub input_tokens: u64,
    /// Tokens received, as the upstream counts.
    pub output_tokens: u64,
    /// Milliseconds from request to the last byte.
    pub duration_ms: u64,
    /// Of the tokens sent, those that the upstream had cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    /// What it cost by the configured prices, in millionths of the accounting currency; absent without prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
    /// How often the upstream was asked; 1 when the first answer stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Who runs the upstream, as OpenTelemetry's `gen_ai.provider.name` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model that answered, as the upstream named it (`gen_ai.response.model`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_model: Option<String>,
}

/// What a tool does to the world. Source: contract tool.v1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolEffect {
    /// It changes nothing.
    Read,
    /// What it changes can be undone.
    Write,
    /// What it changes cannot be undone.
    Irreversible,
}

/// A tool call was allowed and is about to be made: written before anything happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolIntended {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// 1 for its first tool call; refused ones count too.
    pub n: u32,
    /// The tool.
    pub tool: String,
    /// The scope that the call uses.
    pub scope: String,
    /// What it may do to the world.
    pub effect: ToolEffect,
    /// Digest of the canonical arguments as they are kept; their bytes are `args`, or the blob of that name.
    pub args_digest: String,
    /// What has that digest, when it is small: base64url without padding. See [`crate::sealed::inline`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<String>,
    /// How far the input of the dispatch is trusted.
    pub input_trust: InputTrust,
    /// The key under which the same call is never two effects.
    pub idempotency_key: String,
    /// Which policy let it through, and by which of its rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<RuledBy>,
    /// Digest of the tool as it was offered: its document, and the definition of it that was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_digest: Option<String>,
    /// The approval that it rests on; absent for a call that needed none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovedBy>,
}

/// What a policy said, and which rule of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuledBy {
    /// Digest of the policy's text.
    pub digest: String,
    /// The rule's id.
    pub rule: String,
}

/// How a tool call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolPhase {
    /// It did what it should.
    Succeeded,
    /// It did not, and that is known.
    Failed,
    /// Nobody knows: the gateway ended between call and outcome.
    InDoubt,
}

impl ToolPhase {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            ToolPhase::Succeeded => "succeeded",
            ToolPhase::Failed => "failed",
            ToolPhase::InDoubt => "in_doubt",
        }
    }
}

/// The outcome of a tool call: written before the agent is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolFinished {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// Which of its tool calls.
    pub n: u32,
    /// How it ended.
    pub phase: ToolPhase,
    /// Stable code, unless it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Digest of the answer that the agent got, as it is kept; its bytes are `result`, or the blob of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_digest: Option<String>,
    /// What has that digest, when it is small: base64url without padding. See [`crate::sealed::inline`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Size of that answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_bytes: Option<u64>,
    /// Milliseconds from the intent to the outcome.
    pub duration_ms: u64,
}

/// A tool call was refused, or a run of calls was: nothing happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolRefused {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// Which of its tool calls.
    pub n: u32,
    /// The tool, when one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Digest of the canonical arguments, when they could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_digest: Option<String>,
    /// Stable code, for example `TOOL_NOT_LISTED`.
    pub reason: String,
    /// What was wrong, in a sentence.
    pub detail: String,
    /// How many calls this stands for: more than one only for calls beyond the rate.
    pub count: u64,
    /// Which policy refused it, and by which of its rules; absent for what no policy was asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<RuledBy>,
}

/// Whose budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BudgetScope {
    /// The dispatch's own.
    Dispatch,
    /// The person's.
    Subject,
    /// The launcher's.
    Launcher,
}

impl BudgetScope {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            BudgetScope::Dispatch => "dispatch",
            BudgetScope::Subject => "subject",
            BudgetScope::Launcher => "launcher",
        }
    }
}

/// What a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetMeasure {
    /// Tokens sent and received.
    Tokens,
    /// Millionths of the accounting currency.
    CostMicros,
}

impl BudgetMeasure {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            BudgetMeasure::Tokens => "tokens",
            BudgetMeasure::CostMicros => "cost_micros",
        }
    }
}

/// How a budget stood when a dispatch came near its end, or to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The dispatch whose calls did it.
    pub dispatch: DispatchId,
    /// Whose budget.
    pub scope: BudgetScope,
    /// What it counts.
    pub measure: BudgetMeasure,
    /// How much is used.
    pub used: u64,
    /// How much there is.
    pub limit: u64,
    /// Length of the window that a person's or launcher's budget counts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<u64>,
}

/// Events of kind effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectEvent {
    /// A model was called.
    ModelCalled(ModelCalled),
    /// A tool is about to be called.
    ToolIntended(ToolIntended),
    /// A tool call is over.
    ToolFinished(ToolFinished),
    /// A tool call was refused.
    ToolRefused(ToolRefused),
    /// A tool call waits for a person.
    ToolAwaiting(Box<ToolAwaiting>),
    /// A budget is nearly used up.
    BudgetWarned(Budget),
    /// A budget is used up: the dispatch ends.
    BudgetExhausted(Budget),
}

impl EffectEvent {
    /// The dispatch that it belongs to.
    pub fn dispatch(&self) -> &DispatchId {
        match self {
            EffectEvent::ModelCalled(e) => &e.dispatch,
            EffectEvent::ToolIntended(e) => &e.dispatch,
            EffectEvent::ToolFinished(e) => &e.dispatch,
            EffectEvent::ToolRefused(e) => &e.dispatch,
            EffectEvent::ToolAwaiting(e) => &e.dispatch,
            EffectEvent::BudgetWarned(e) | EffectEvent::BudgetExhausted(e) => &e.dispatch,
        }
    }

    /// The id of the entity that it is of: `<dispatch>-m<n>` a model call, `<dispatch>-t<n>` a tool call,
    /// `<dispatch>-budget` its budgets.
    pub fn entity_id(&self) -> String {
        match self {
            EffectEvent::ModelCalled(e) => format!("{}-m{}", e.dispatch, e.n),
            EffectEvent::ToolIntended(e) => format!("{}-t{}", e.dispatch, e.n),
            EffectEvent::ToolFinished(e) => format!("{}-t{}", e.dispatch, e.n),
            EffectEvent::ToolRefused(e) => format!("{}-t{}", e.dispatch, e.n),
            EffectEvent::ToolAwaiting(e) => e.card(),
            EffectEvent::BudgetWarned(e) | EffectEvent::BudgetExhausted(e) => format!("{}-budget", e.dispatch),
        }
    }
}

/// Whether a launcher must sign its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureRule {
    /// Every message must carry a good signature.
    Required,
    /// A signature is checked when it is there.
    Optional,
}

/// A launcher was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LauncherRegistered {
    /// Its token.
    pub launcher: LauncherId,
    /// Its NATS user nkey, `U…`.
    pub public_key: String,
    /// What people call it.
    pub name: String,
    /// Whether it must sign.
    pub signature: SignatureRule,
    /// Persons it may ever act for, whatever they grant; `*` is everybody.
    pub subjects: Vec<String>,
    /// Who registered it.
    pub by: String,
}

/// A launcher got a new key; the old one is refused from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LauncherRotated {
    /// Its token.
    pub launcher: LauncherId,
    /// The new key.
    pub public_key: String,
    /// Who did it.
    pub by: String,
}

/// A launcher was disabled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LauncherDisabled {
    /// Its token.
    pub launcher: LauncherId,
    /// Who did it.
    pub by: String,
    /// Why.
    pub why: String,
}

/// Events of kind launcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LauncherEvent {
    /// Registered.
    Registered(LauncherRegistered),
    /// Rotated.
    Rotated(LauncherRotated),
    /// Disabled.
    Disabled(LauncherDisabled),
}

/// A role's signing key was introduced. The first one of a ledger is authority's own and signs itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyIntroduced {
    /// The key's id.
    pub kid: String,
    /// The role it signs for.
    pub role: Role,
    /// Ed25519, 64 hexadecimal digits.
    pub public_key: String,
    /// The instance that holds it.
    pub instance: String,
}

/// A key signs nothing after this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRetired {
    /// The key's id.
    pub kid: String,
    /// Why.
    pub why: String,
}

/// Events of kind key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyEvent {
    /// Introduced.
    Introduced(KeyIntroduced),
    /// Retired.
    Retired(KeyRetired),
    /// A key for tokens came into another state.
    TokenKey(TokenKeyChanged),
    /// A person's key came into another state.
    Subject(SubjectKeyChanged),
}

/// The tree over the first `size` ledger messages was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSigned {
    /// The log's name.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// Root hash, standard base 64.
    pub root: String,
    /// The C2SP signed note.
    pub note: String,
}

/// Events of kind checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointEvent {
    /// Signed.
    Signed(CheckpointSigned),
}

/// Any event of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerEvent {
    /// Kind dispatch.
    Dispatch(DispatchEvent),
    /// Kind run.
    Run(RunEvent),
    /// Kind effect.
    Effect(EffectEvent),
    /// Kind launcher.
    Launcher(LauncherEvent),
    /// Kind key.
    Key(KeyEvent),
    /// Kind checkpoint.
    Checkpoint(CheckpointEvent),
    /// Kind workspace.
    Workspace(WorkspaceEvent),
    /// Kind grant.
    Grant(GrantEvent),
    /// Kind approval.
    Approval(ApprovalEvent),
    /// Kind token.
    Token(TokenEvent),
}

/// Why data is not the event that its type names.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The type is not in ledger.v2.
    #[error("event type {0:?} is not known")]
    UnknownType(String),
    /// The data is not of that shape.
    #[error("data is not a valid {shape}: {source}")]
    BadData {
        /// The shape of ledger.v2.
        shape: &'static str,
        /// What serde found.
        source: serde_json::Error,
    },
}

/// (CloudEvents type, shape of ledger.v2) of every event, in the order of the contract.
pub const TYPES: [(&str, &str); 38] = [
    ("custody.dispatch.admitted.v1", "DispatchAdmitted"),
    ("custody.dispatch.refused.v1", "DispatchRefused"),
    ("custody.dispatch.stop_requested.v1", "DispatchStopRequested"),
    ("custody.dispatch.follow_up_accepted.v1", "FollowUpAccepted"),
    ("custody.dispatch.follow_up_refused.v1", "FollowUpRefused"),
    ("custody.run.claimed.v1", "RunClaimed"),
    ("custody.run.started.v1", "RunStarted"),
    ("custody.run.finished.v1", "RunFinished"),
    ("custody.effect.model_called.v1", "ModelCalled"),
    ("custody.launcher.registered.v1", "LauncherRegistered"),
    ("custody.launcher.rotated.v1", "LauncherRotated"),
    ("custody.launcher.disabled.v1", "LauncherDisabled"),
    ("custody.key.introduced.v1", "KeyIntroduced"),
    ("custody.key.retired.v1", "KeyRetired"),
    ("custody.checkpoint.signed.v1", "CheckpointSigned"),
    ("custody.effect.tool_intended.v1", "ToolIntended"),
    ("custody.effect.tool_finished.v1", "ToolFinished"),
    ("custody.effect.tool_refused.v1", "ToolRefused"),
    ("custody.effect.budget_warned.v1", "BudgetWarned"),
    ("custody.effect.budget_exhausted.v1", "BudgetExhausted"),
    ("custody.workspace.registered.v1", "WorkspaceRegistered"),
    ("custody.workspace.key_rotated.v1", "WorkspaceKeyRotated"),
    ("custody.workspace.imported.v1", "WorkspaceImported"),
    ("custody.workspace.proposal_opened.v1", "WorkspaceProposalOpened"),
    ("custody.workspace.proposal_accepted.v1", "WorkspaceProposalAccepted"),
    ("custody.workspace.proposal_landed.v1", "WorkspaceProposalLanded"),
    ("custody.workspace.proposal_rejected.v1", "WorkspaceProposalRejected"),
    ("custody.grant.requested.v1", "GrantRequested"),
    ("custody.grant.issued.v1", "GrantIssued"),
    ("custody.grant.refused.v1", "GrantRefused"),
    ("custody.grant.revoked.v1", "GrantRevoked"),
    ("custody.effect.tool_awaiting.v1", "ToolAwaiting"),
    ("custody.approval.decided.v1", "ApprovalDecided"),
    ("custody.approval.expired.v1", "ApprovalExpired"),
    ("custody.key.token_key_changed.v1", "TokenKeyChanged"),
    ("custody.token.issued.v1", "TokenIssued"),
    ("custody.token.refused.v1", "TokenRefused"),
    ("custody.key.subject_key_changed.v1", "SubjectKeyChanged"),
];

fn data<'a, T: Deserialize<'a>>(shape: &'static str, raw: &'a str) -> Result<T, DecodeError> {
    serde_json::from_str(raw).map_err(|source| DecodeError::BadData { shape, source })
}

impl LedgerEvent {
    /// The event that a CloudEvents type and its data are. Unknown fields are refused.
    ///
    /// # Errors
    /// [`DecodeError::UnknownType`] for a type outside ledger.v2, [`DecodeError::BadData`] for data of another shape.
    pub fn decode(kind: &str, raw: &str) -> Result<LedgerEvent, DecodeError> {
        use LedgerEvent as L;
        Ok(match kind {
            "custody.dispatch.admitted.v1" => {
                L::Dispatch(DispatchEvent::Admitted(Box::new(data("DispatchAdmitted", raw)?)))
            }
            "custody.dispatch.refused.v1" => L::Dispatch(DispatchEvent::Refused(data("DispatchRefused", raw)?)),
            "custody.dispatch.stop_requested.v1" => {
                L::Dispatch(DispatchEvent::StopRequested(data("DispatchStopRequested", raw)?))
            }
            "custody.dispatch.follow_up_accepted.v1" => {
                L::Dispatch(DispatchEvent::FollowUpAccepted(data("FollowUpAccepted", raw)?))
            }
            "custody.dispatch.follow_up_refused.v1" => {
                L::Dispatch(DispatchEvent::FollowUpRefused(data("FollowUpRefused", raw)?))
            }
            "custody.run.claimed.v1" => L::Run(RunEvent::Claimed(data("RunClaimed", raw)?)),
            "custody.run.started.v1" => L::Run(RunEvent::Started(data("RunStarted", raw)?)),
            "custody.run.finished.v1" => L::Run(RunEvent::Finished(Box::new(data("RunFinished", raw)?))),
            "custody.effect.model_called.v1" => L::Effect(EffectEvent::ModelCalled(data("ModelCalled", raw)?)),
            "custody.effect.tool_intended.v1" => L::Effect(EffectEvent::ToolIntended(data("ToolIntended", raw)?)),
            "custody.effect.tool_finished.v1" => L::Effect(EffectEvent::ToolFinished(data("ToolFinished", raw)?)),
            "custody.effect.tool_refused.v1" => L::Effect(EffectEvent::ToolRefused(data("ToolRefused", raw)?)),
            "custody.effect.budget_warned.v1" => L::Effect(EffectEvent::BudgetWarned(data("BudgetWarned", raw)?)),
            "custody.effect.budget_exhausted.v1" => {
                L::Effect(EffectEvent::BudgetExhausted(data("BudgetExhausted", raw)?))
            }
            "custody.launcher.registered.v1" => {
                L::Launcher(LauncherEvent::Registered(data("LauncherRegistered", raw)?))
            }
            "custody.launcher.rotated.v1" => L::Launcher(LauncherEvent::Rotated(data("LauncherRotated", raw)?)),
            "custody.launcher.disabled.v1" => L::Launcher(LauncherEvent::Disabled(data("LauncherDisabled", raw)?)),
            "custody.key.introduced.v1" => L::Key(KeyEvent::Introduced(data("KeyIntroduced", raw)?)),
            "custody.key.retired.v1" => L::Key(KeyEvent::Retired(data("KeyRetired", raw)?)),
            "custody.checkpoint.signed.v1" => L::Checkpoint(CheckpointEvent::Signed(data("CheckpointSigned", raw)?)),
            "custody.workspace.registered.v1" => {
                L::Workspace(WorkspaceEvent::Registered(data("WorkspaceRegistered", raw)?))
            }
            "custody.workspace.key_rotated.v1" => {
                L::Workspace(WorkspaceEvent::KeyRotated(data("WorkspaceKeyRotated", raw)?))
            }
            "custody.workspace.imported.v1" => L::Workspace(WorkspaceEvent::Imported(data("WorkspaceImported", raw)?)),
            "custody.workspace.proposal_opened.v1" => {
                L::Workspace(WorkspaceEvent::ProposalOpened(data("WorkspaceProposalOpened", raw)?))
            }
            "custody.workspace.proposal_accepted.v1" => {
                L::Workspace(WorkspaceEvent::ProposalAccepted(data("WorkspaceProposalAccepted", raw)?))
            }
            "custody.workspace.proposal_landed.v1" => {
                L::Workspace(WorkspaceEvent::ProposalLanded(data("WorkspaceProposalLanded", raw)?))
            }
            "custody.workspace.proposal_rejected.v1" => {
                L::Workspace(WorkspaceEvent::ProposalRejected(data("WorkspaceProposalRejected", raw)?))
            }
            "custody.grant.requested.v1" => L::Grant(GrantEvent::Requested(Box::new(data("GrantRequested", raw)?))),
            "custody.grant.issued.v1" => L::Grant(GrantEvent::Issued(Box::new(data("GrantIssued", raw)?))),
            "custody.grant.refused.v1" => L::Grant(GrantEvent::Refused(Box::new(data("GrantRefused", raw)?))),
            "custody.grant.revoked.v1" => L::Grant(GrantEvent::Revoked(data("GrantRevoked", raw)?)),
            "custody.effect.tool_awaiting.v1" => {
                L::Effect(EffectEvent::ToolAwaiting(Box::new(data("ToolAwaiting", raw)?)))
            }
            "custody.approval.decided.v1" => L::Approval(ApprovalEvent::Decided(data("ApprovalDecided", raw)?)),
            "custody.approval.expired.v1" => L::Approval(ApprovalEvent::Expired(data("ApprovalExpired", raw)?)),
            "custody.key.token_key_changed.v1" => L::Key(KeyEvent::TokenKey(data("TokenKeyChanged", raw)?)),
            "custody.key.subject_key_changed.v1" => L::Key(KeyEvent::Subject(data("SubjectKeyChanged", raw)?)),
            "custody.token.issued.v1" => L::Token(TokenEvent::Issued(Box::new(data("TokenIssued", raw)?))),
            "custody.token.refused.v1" => L::Token(TokenEvent::Refused(data("TokenRefused", raw)?)),
            other => return Err(DecodeError::UnknownType(other.chars().take(120).collect())),
        })
    }

    /// CloudEvents type and shape of ledger.v2.
    pub fn names(&self) -> (&'static str, &'static str) {
        use LedgerEvent as L;
        let index = match self {
            L::Dispatch(DispatchEvent::Admitted(_)) => 0,
            L::Dispatch(DispatchEvent::Refused(_)) => 1,
            L::Dispatch(DispatchEvent::StopRequested(_)) => 2,
            L::Dispatch(DispatchEvent::FollowUpAccepted(_)) => 3,
            L::Dispatch(DispatchEvent::FollowUpRefused(_)) => 4,
            L::Run(RunEvent::Claimed(_)) => 5,
            L::Run(RunEvent::Started(_)) => 6,
            L::Run(RunEvent::Finished(_)) => 7,
            L::Effect(EffectEvent::ModelCalled(_)) => 8,
            L::Launcher(LauncherEvent::Registered(_)) => 9,
            L::Launcher(LauncherEvent::Rotated(_)) => 10,
            L::Launcher(LauncherEvent::Disabled(_)) => 11,
            L::Key(KeyEvent::Introduced(_)) => 12,
            L::Key(KeyEvent::Retired(_)) => 13,
            L::Checkpoint(CheckpointEvent::Signed(_)) => 14,
            L::Effect(EffectEvent::ToolIntended(_)) => 15,
            L::Effect(EffectEvent::ToolFinished(_)) => 16,
            L::Effect(EffectEvent::ToolRefused(_)) => 17,
            L::Effect(EffectEvent::BudgetWarned(_)) => 18,
            L::Effect(EffectEvent::BudgetExhausted(_)) => 19,
            L::Workspace(WorkspaceEvent::Registered(_)) => 20,
            L::Workspace(WorkspaceEvent::KeyRotated(_)) => 21,
            L::Workspace(WorkspaceEvent::Imported(_)) => 22,
            L::Workspace(WorkspaceEvent::ProposalOpened(_)) => 23,
            L::Workspace(WorkspaceEvent::ProposalAccepted(_)) => 24,
            L::Workspace(WorkspaceEvent::ProposalLanded(_)) => 25,
            L::Workspace(WorkspaceEvent::ProposalRejected(_)) => 26,
            L::Grant(GrantEvent::Requested(_)) => 27,
            L::Grant(GrantEvent::Issued(_)) => 28,
            L::Grant(GrantEvent::Refused(_)) => 29,
            L::Grant(GrantEvent::Revoked(_)) => 30,
            L::Effect(EffectEvent::ToolAwaiting(_)) => 31,
            L::Approval(ApprovalEvent::Decided(_)) => 32,
            L::Approval(ApprovalEvent::Expired(_)) => 33,
            L::Key(KeyEvent::TokenKey(_)) => 34,
            L::Token(TokenEvent::Issued(_)) => 35,
            L::Token(TokenEvent::Refused(_)) => 36,
            L::Key(KeyEvent::Subject(_)) => 37,
        };
        TYPES[index]
    }

    /// The kind, and so the one role that may write it.
    pub fn kind(&self) -> Kind {
        match self {
            LedgerEvent::Dispatch(_) => Kind::Dispatch,
            LedgerEvent::Run(_) => Kind::Run,
            LedgerEvent::Effect(_) => Kind::Effect,
            LedgerEvent::Launcher(_) => Kind::Launcher,
            LedgerEvent::Key(_) => Kind::Key,
            LedgerEvent::Checkpoint(_) => Kind::Checkpoint,
            LedgerEvent::Workspace(_) => Kind::Workspace,
            LedgerEvent::Grant(_) => Kind::Grant,
            LedgerEvent::Approval(_) => Kind::Approval,
            LedgerEvent::Token(_) => Kind::Token,
        }
    }

    /// The event's data as a JSON value.
    ///
    /// # Errors
    /// Only if serde cannot represent it, which for these types means a bug.
    pub fn to_value(&self) -> Result<serde_json::Value, serde_json::Error> {
        use LedgerEvent as L;
        match self {
            L::Dispatch(DispatchEvent::Admitted(e)) => serde_json::to_value(e),
            L::Dispatch(DispatchEvent::Refused(e)) => serde_json::to_value(e),
            L::Dispatch(DispatchEvent::StopRequested(e)) => serde_json::to_value(e),
            L::Dispatch(DispatchEvent::FollowUpAccepted(e)) => serde_json::to_value(e),
            L::Dispatch(DispatchEvent::FollowUpRefused(e)) => serde_json::to_value(e),
            L::Run(RunEvent::Claimed(e)) => serde_json::to_value(e),
            L::Run(RunEvent::Started(e)) => serde_json::to_value(e),
            L::Run(RunEvent::Finished(e)) => serde_json::to_value(e),
            L::Effect(EffectEvent::ModelCalled(e)) => serde_json::to_value(e),
            L::Effect(EffectEvent::ToolIntended(e)) => serde_json::to_value(e),
            L::Effect(EffectEvent::ToolFinished(e)) => serde_json::to_value(e),
            L::Effect(EffectEvent::ToolRefused(e)) => serde_json::to_value(e),
            L::Effect(EffectEvent::BudgetWarned(e) | EffectEvent::BudgetExhausted(e)) => serde_json::to_value(e),
            L::Launcher(LauncherEvent::Registered(e)) => serde_json::to_value(e),
            L::Launcher(LauncherEvent::Rotated(e)) => serde_json::to_value(e),
            L::Launcher(LauncherEvent::Disabled(e)) => serde_json::to_value(e),
            L::Key(KeyEvent::Introduced(e)) => serde_json::to_value(e),
            L::Key(KeyEvent::Retired(e)) => serde_json::to_value(e),
            L::Checkpoint(CheckpointEvent::Signed(e)) => serde_json::to_value(e),
            L::Workspace(WorkspaceEvent::Registered(e)) => serde_json::to_value(e),
            L::Workspace(WorkspaceEvent::KeyRotated(e)) => serde_json::to_value(e),
            L::Workspace(WorkspaceEvent::Imported(e)) => serde_json::to_value(e),
            L::Workspace(WorkspaceEvent::ProposalOpened(e)) => serde_json::to_value(e),
            L::Workspace(WorkspaceEvent::ProposalAccepted(e)) => serde_json::to_value(e),
            L::Workspace(WorkspaceEvent::ProposalLanded(e)) => serde_json::to_value(e),
            L::Workspace(WorkspaceEvent::ProposalRejected(e)) => serde_json::to_value(e),
            L::Grant(GrantEvent::Requested(e)) => serde_json::to_value(e),
            L::Grant(GrantEvent::Issued(e)) => serde_json::to_value(e),
            L::Grant(GrantEvent::Refused(e)) => serde_json::to_value(e),
            L::Grant(GrantEvent::Revoked(e)) => serde_json::to_value(e),
            L::Effect(EffectEvent::ToolAwaiting(e)) => serde_json::to_value(e),
            L::Approval(ApprovalEvent::Decided(e)) => serde_json::to_value(e),
            L::Approval(ApprovalEvent::Expired(e)) => serde_json::to_value(e),
            L::Key(KeyEvent::TokenKey(e)) => serde_json::to_value(e),
            L::Key(KeyEvent::Subject(e)) => serde_json::to_value(e),
            L::Token(TokenEvent::Issued(e)) => serde_json::to_value(e),
            L::Token(TokenEvent::Refused(e)) => serde_json::to_value(e),
        }
    }

    /// The person of the event, when the event itself names one.
    pub fn subject(&self) -> Option<&Subject> {
        match self {
            LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => Some(&e.unit.identity.subject),
            LedgerEvent::Key(KeyEvent::Subject(e)) => Some(&e.subject),
            _ => None,
        }
    }
}
