//! ledger.v1: every event of the ledger. These serde types are the events; there is no second set.
//!
//! An enum per kind, matched without a wildcard, so that a new event breaks every fold that must think about it.

use crate::ids::{DispatchId, LauncherId, RunnerName, SessionId, Subject, UnixMillis};
use crate::unit::Invocation;
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
}

impl Kind {
    /// Every kind, in the order of the contract.
    pub const ALL: [Kind; 6] = [Kind::Dispatch, Kind::Run, Kind::Effect, Kind::Launcher, Kind::Key, Kind::Checkpoint];

    /// The subject token.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Dispatch => "dispatch",
            Kind::Run => "run",
            Kind::Effect => "effect",
            Kind::Launcher => "launcher",
            Kind::Key => "key",
            Kind::Checkpoint => "checkpoint",
        }
    }

    /// The kind of a subject token.
    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.as_str() == text)
    }

    /// The one role that may append this kind.
    pub fn writer(self) -> Role {
        match self {
            Kind::Dispatch | Kind::Launcher | Kind::Key | Kind::Checkpoint => Role::Authority,
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
}

/// Whether a grant was checked. Grants come with the trust stage; until then every admission says so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantCheck {
    /// No grant was checked.
    NotChecked,
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
    /// Whether a grant was checked.
    pub grant: GrantCheck,
    /// Whether the message was signed.
    pub signature: SignatureCheck,
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
}

/// Events of kind effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectEvent {
    /// A model was called.
    ModelCalled(ModelCalled),
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
    /// Persons it may act for until grants exist; `*` is everybody.
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
}

/// Why data is not the event that its type names.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The type is not in ledger.v1.
    #[error("event type {0:?} is not known")]
    UnknownType(String),
    /// The data is not of that shape.
    #[error("data is not a valid {shape}: {source}")]
    BadData {
        /// The shape of ledger.v1.
        shape: &'static str,
        /// What serde found.
        source: serde_json::Error,
    },
}

/// (CloudEvents type, shape of ledger.v1) of every event, in the order of the contract.
pub const TYPES: [(&str, &str); 13] = [
    ("custody.dispatch.admitted.v1", "DispatchAdmitted"),
    ("custody.dispatch.refused.v1", "DispatchRefused"),
    ("custody.dispatch.stop_requested.v1", "DispatchStopRequested"),
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
];

fn data<'a, T: Deserialize<'a>>(shape: &'static str, raw: &'a str) -> Result<T, DecodeError> {
    serde_json::from_str(raw).map_err(|source| DecodeError::BadData { shape, source })
}

impl LedgerEvent {
    /// The event that a CloudEvents type and its data are. Unknown fields are refused.
    ///
    /// # Errors
    /// [`DecodeError::UnknownType`] for a type outside ledger.v1, [`DecodeError::BadData`] for data of another shape.
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
            "custody.run.claimed.v1" => L::Run(RunEvent::Claimed(data("RunClaimed", raw)?)),
            "custody.run.started.v1" => L::Run(RunEvent::Started(data("RunStarted", raw)?)),
            "custody.run.finished.v1" => L::Run(RunEvent::Finished(Box::new(data("RunFinished", raw)?))),
            "custody.effect.model_called.v1" => L::Effect(EffectEvent::ModelCalled(data("ModelCalled", raw)?)),
            "custody.launcher.registered.v1" => {
                L::Launcher(LauncherEvent::Registered(data("LauncherRegistered", raw)?))
            }
            "custody.launcher.rotated.v1" => L::Launcher(LauncherEvent::Rotated(data("LauncherRotated", raw)?)),
            "custody.launcher.disabled.v1" => L::Launcher(LauncherEvent::Disabled(data("LauncherDisabled", raw)?)),
            "custody.key.introduced.v1" => L::Key(KeyEvent::Introduced(data("KeyIntroduced", raw)?)),
            "custody.key.retired.v1" => L::Key(KeyEvent::Retired(data("KeyRetired", raw)?)),
            "custody.checkpoint.signed.v1" => L::Checkpoint(CheckpointEvent::Signed(data("CheckpointSigned", raw)?)),
            other => return Err(DecodeError::UnknownType(other.chars().take(120).collect())),
        })
    }

    /// CloudEvents type and shape of ledger.v1.
    pub fn names(&self) -> (&'static str, &'static str) {
        use LedgerEvent as L;
        let index = match self {
            L::Dispatch(DispatchEvent::Admitted(_)) => 0,
            L::Dispatch(DispatchEvent::Refused(_)) => 1,
            L::Dispatch(DispatchEvent::StopRequested(_)) => 2,
            L::Run(RunEvent::Claimed(_)) => 3,
            L::Run(RunEvent::Started(_)) => 4,
            L::Run(RunEvent::Finished(_)) => 5,
            L::Effect(EffectEvent::ModelCalled(_)) => 6,
            L::Launcher(LauncherEvent::Registered(_)) => 7,
            L::Launcher(LauncherEvent::Rotated(_)) => 8,
            L::Launcher(LauncherEvent::Disabled(_)) => 9,
            L::Key(KeyEvent::Introduced(_)) => 10,
            L::Key(KeyEvent::Retired(_)) => 11,
            L::Checkpoint(CheckpointEvent::Signed(_)) => 12,
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
            L::Run(RunEvent::Claimed(e)) => serde_json::to_value(e),
            L::Run(RunEvent::Started(e)) => serde_json::to_value(e),
            L::Run(RunEvent::Finished(e)) => serde_json::to_value(e),
            L::Effect(EffectEvent::ModelCalled(e)) => serde_json::to_value(e),
            L::Launcher(LauncherEvent::Registered(e)) => serde_json::to_value(e),
            L::Launcher(LauncherEvent::Rotated(e)) => serde_json::to_value(e),
            L::Launcher(LauncherEvent::Disabled(e)) => serde_json::to_value(e),
            L::Key(KeyEvent::Introduced(e)) => serde_json::to_value(e),
            L::Key(KeyEvent::Retired(e)) => serde_json::to_value(e),
            L::Checkpoint(CheckpointEvent::Signed(e)) => serde_json::to_value(e),
        }
    }

    /// The person of the event, when the event itself names one.
    pub fn subject(&self) -> Option<&Subject> {
        match self {
            LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => Some(&e.unit.identity.subject),
            _ => None,
        }
    }
}
