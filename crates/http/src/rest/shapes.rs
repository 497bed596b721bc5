//! What REST answers. Rows are the projector's rows with their names; what a newer projector adds is passed on. Must never
//! rename a field of a row.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Who is signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// The person, as units and events name them.
    #[schema(example = "u_jane")]
    pub subject: String,
    /// What people call them.
    pub name: String,
    /// Whether they see everybody's dispatches.
    pub admin: bool,
    /// Who vouched for them.
    pub provider: crate::auth::Provider,
    /// When the session ends. Unix milliseconds.
    pub expires_at: u64,
    /// The launcher that their messages are launched through: `user:<launcher>` in a unit.
    #[schema(example = "web-chat")]
    pub launcher: String,
    /// The server's version.
    pub version: String,
}

/// What a run used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct UsageShape {
    /// Milliseconds from start to end.
    pub wall_ms: u64,
    /// Tokens sent to the model.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Calls of the model.
    pub model_calls: u64,
    /// What a newer server adds.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// Digest, size and place of a run's output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct OutputShape {
    /// The topic.
    pub subject: String,
    /// Frames on it.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Digest over them.
    pub digest: String,
    /// Whether some were dropped.
    pub truncated: bool,
}

/// One dispatch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DispatchShape {
    /// Its id.
    #[schema(example = "d-7f3a")]
    pub dispatch: String,
    /// queued, refused, starting, running, stopping, completed or ended.
    pub status: String,
    /// The person.
    pub subject: Option<String>,
    /// The launcher.
    pub launcher: String,
    /// The session.
    pub session: Option<String>,
    /// The runner.
    pub runner: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// The first words of what was asked.
    pub what: String,
    /// When it was admitted or refused. RFC 3339.
    pub decided_at: String,
    /// Stable code of the refusal, or why the run ended.
    pub reason: Option<String>,
    /// The same in a sentence.
    pub detail: Option<String>,
    /// The next step.
    pub hint: Option<String>,
    /// Which attempt.
    pub attempt: u32,
    /// The engine's container id.
    pub container: Option<String>,
    /// Unix milliseconds.
    pub started_at: Option<u64>,
    /// Unix milliseconds.
    pub finished_at: Option<u64>,
    /// Exit code of the container.
    pub exit_code: Option<i64>,
    /// What it used.
    pub usage: Option<UsageShape>,
    /// Its output.
    pub output: Option<OutputShape>,
    /// Digest of the session file that it left.
    pub session_digest: Option<String>,
    /// Digest of the session file that it resumed from.
    pub resume_digest: Option<String>,
    /// Sequence of its first event.
    pub first_seq: u64,
    /// Sequence of its last event.
    pub last_seq: u64,
    /// What a newer server adds.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// One turn of a session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct TurnShape {
    /// The dispatch.
    pub dispatch: String,
    /// Container that ran it.
    pub container: Option<String>,
    /// How it ended; absent while it runs.
    pub outcome: Option<String>,
    /// Digest of the file it resumed from.
    pub resumed_from: Option<String>,
    /// Digest of the file it left.
    pub left: Option<String>,
    /// What a newer server adds.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// One session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SessionShape {
    /// Its id.
    pub session: String,
    /// The person of its first turn.
    pub subject: String,
    /// The runner of its newest turn.
    pub runner: String,
    /// The newest turns, oldest first.
    pub turns: Vec<TurnShape>,
    /// All turns.
    pub turn_count: u64,
    /// Digest of the newest session file.
    pub digest: Option<String>,
    /// Its size.
    pub bytes: u64,
    /// When it began. RFC 3339.
    pub began_at: String,
    /// Sequence of its last event.
    pub last_seq: u64,
    /// What a newer server adds.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// A page of dispatches, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DispatchPage {
    /// The ledger sequence up to which everything is in it.
    pub as_of: u64,
    /// The rows.
    pub rows: Vec<DispatchShape>,
    /// Ask for `before_seq` of this for the next page; absent on the last.
    pub next_before_seq: Option<u64>,
}

/// One dispatch as of a sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DispatchOne {
    /// The ledger sequence up to which everything is in it.
    pub as_of: u64,
    /// The row.
    pub row: DispatchShape,
}

/// A page of sessions, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionPage {
    /// The ledger sequence up to which everything is in it.
    pub as_of: u64,
    /// The rows.
    pub rows: Vec<SessionShape>,
    /// Ask for `before_seq` of this for the next page; absent on the last.
    pub next_before_seq: Option<u64>,
}

/// One session as of a sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionOne {
    /// The ledger sequence up to which everything is in it.
    pub as_of: u64,
    /// The row.
    pub row: SessionShape,
}

/// One turn with its words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConversationTurn {
    /// The dispatch.
    pub dispatch: DispatchShape,
    /// What was asked.
    pub prompt: String,
    /// What was said: frames of box.v1, words joined.
    #[schema(value_type = Vec<Object>)]
    pub frames: Vec<Value>,
    /// The cursor of `output/<dispatch>` after these frames.
    pub output_seq: u64,
    /// Whether there is more on the topic than is here.
    pub more_output: bool,
}

/// A page of a conversation: its newest turns, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Conversation {
    /// The ledger sequence up to which everything is in it.
    pub as_of: u64,
    /// The session.
    pub session: String,
    /// The turns.
    pub turns: Vec<ConversationTurn>,
    /// All turns of the session.
    pub turn_count: u64,
    /// Ask for `before` of this for the turns before; absent at the beginning.
    pub next_before: Option<String>,
}

/// Events of one dispatch: each as in an `ev` frame of ws.v1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventList {
    /// The ledger sequence up to which everything is in it.
    pub as_of: u64,
    /// Oldest first.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<Value>,
}

/// Output of one dispatch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutputPage {
    /// The dispatch.
    pub dispatch: String,
    /// Chunks of output.v2, each with its sequence in OUTPUT.
    #[schema(value_type = Vec<Object>)]
    pub chunks: Vec<Value>,
    /// Ask for `after` of this for more; absent when there is no more now.
    pub next_after: Option<u64>,
}

/// A launch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LaunchBody {
    /// Made by the client: the same id and unit are the same dispatch, however often they are sent.
    #[schema(min_length = 1, max_length = 128)]
    pub id: String,
    /// A unit.v1 without token. Its subject is the signed-in person.
    #[schema(value_type = Object)]
    pub unit: Value,
}

/// Launching again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryBody {
    /// Made by the client: the same id is the same dispatch.
    #[schema(min_length = 1, max_length = 128)]
    pub id: String,
}

/// A launch that is stored, and what was decided if that is known already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LaunchedShape {
    /// The dispatch.
    pub dispatch: String,
    /// Sequence in LAUNCH.
    pub launch_seq: u64,
    /// `admitted`, or `stored` when it is not decided yet. A refusal is a problem.
    pub outcome: String,
    /// Sequence of the decision in the ledger.
    pub seq: Option<u64>,
    /// The session.
    pub session: Option<String>,
}

/// Stopping.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StopBody {
    /// Milliseconds between TERM and KILL.
    pub grace_ms: Option<u64>,
}

/// A stop that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stopped {
    /// The dispatch.
    pub dispatch: String,
    /// Sequence in the ledger.
    pub seq: u64,
}

/// What to say to a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FollowUpBody {
    /// Made by the client: the same id and words are the same follow-up.
    #[schema(min_length = 1, max_length = 128)]
    pub id: String,
    /// The words.
    #[schema(min_length = 1, max_length = 32_768)]
    pub text: String,
}

/// What was said to a dispatch and accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct FollowUpShape {
    /// Its number: the answer is turn `n + 1` of the container.
    pub n: u32,
    /// Who said it.
    pub by: String,
    /// When it was accepted. RFC 3339.
    pub time: String,
    /// Ledger sequence.
    pub seq: u64,
    /// Digest of the words.
    pub digest: String,
    /// Their size.
    pub bytes: u64,
    /// Their sequence in OUTPUT.
    pub input_seq: u64,
    /// The words; absent when they are older than OUTPUT keeps them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Follow-ups of a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FollowUpList {
    /// The projections held everything up to here.
    pub as_of: u64,
    /// In their order.
    pub follow_ups: Vec<FollowUpShape>,
}

/// One grant, as the projection has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct GrantShape {
    /// Its id.
    #[schema(example = "g-91c2")]
    pub grant: String,
    /// requested, issued or revoked. Whether it has ended is in its terms.
    pub status: String,
    /// Who grants.
    pub subject: String,
    /// To whom, for example `integration:calendar`.
    pub launcher: String,
    /// Everything but the consent: GrantTerms of ledger.v2.
    #[schema(value_type = Object)]
    pub terms: Value,
    /// The words that were agreed to; absent in lists.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub statement: String,
    /// What a newer server adds.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// Grants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GrantPage {
    /// The projections held everything up to here.
    pub as_of: u64,
    /// Newest first.
    pub rows: Vec<GrantShape>,
}

/// A grant and its words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GrantOne {
    /// The projections held everything up to here.
    pub as_of: u64,
    /// The grant.
    pub row: GrantShape,
    /// What it lets happen, one sentence a line.
    pub statement: String,
    /// Digest of these words: what a consent names.
    pub statement_digest: String,
}

/// What a grant shall allow, before anybody agreed.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DraftBody {
    /// To whom, for example `integration:calendar`.
    pub launcher: String,
    /// Workspaces and modes, as in unit.v1.
    #[schema(value_type = Object)]
    pub workspaces: Value,
    /// Tools by name.
    #[schema(max_items = 64)]
    pub tools: Vec<String>,
    /// message, scheduled, event, transcription.
    pub triggers: Vec<String>,
    /// Dispatches in a window.
    pub dispatches: u64,
    /// The window, sliding, in milliseconds.
    pub window_ms: u64,
    /// gated, irreversible, writes or always.
    pub approval: String,
    /// How long it lasts; 90 are the most.
    #[schema(minimum = 1, maximum = 90)]
    pub days: u64,
}

/// Terms and the words for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DraftShape {
    /// GrantTerms of ledger.v2.
    #[schema(value_type = Object)]
    pub terms: Value,
    /// What they let happen, one sentence a line.
    pub statement: String,
    /// Digest of these words.
    pub statement_digest: String,
}

/// A grant to give.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantBody {
    /// The terms of a draft.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub terms: Option<Value>,
    /// Or a grant that was asked for.
    #[serde(default)]
    pub request: Option<String>,
    /// Digest of the words that were shown to the person.
    pub statement_digest: String,
}

/// Why a grant is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeBody {
    /// What the record shall say.
    #[schema(min_length = 1, max_length = 200)]
    pub why: String,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct GivenShape {
    /// The grant.
    pub grant: String,
    /// Its sequence in the ledger.
    pub seq: u64,
    /// What a newer server adds.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// One launcher.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct LauncherShape {
    /// Its id.
    pub launcher: String,
    /// What people call it.
    pub name: String,
    /// What a newer server adds.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// One row of the audit tail: audit.v1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditShape {
    /// Always `audit.v1`.
    pub schema: String,
    /// Ledger sequence.
    pub seq: u64,
    /// RFC 3339.
    pub time: String,
    /// Kind of the entity.
    pub kind: String,
    /// CloudEvents type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// ok, refused, failed, …
    pub outcome: String,
    /// The dispatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch: Option<String>,
    /// The person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The launcher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launcher: Option<String>,
    /// The scope it happened under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// The key that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyid: Option<String>,
    /// What it is about, in a few words.
    pub object: String,
    /// The event's id.
    pub id: String,
}

/// A page of the audit tail, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The ledger's last sequence when it was read.
    pub head: u64,
    /// The rows.
    pub rows: Vec<AuditShape>,
    /// Ask for `before_seq` of this to look further back; absent at the beginning. A page may be empty and still have
    /// one: filters that let little through look at a bounded part of the log at a time.
    pub next_before_seq: Option<u64>,
}

/// One rung of the ladder from an effect to the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RungShape {
    /// What it says, for example `admitted`.
    pub what: String,
    /// It, in a sentence.
    pub text: String,
    /// The sequence that says so.
    pub seq: Option<u64>,
}

/// Why something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhyShape {
    /// The event that was asked about.
    pub focus: u64,
    /// From it down to the person.
    pub ladder: Vec<RungShape>,
    /// Every event of the chain.
    pub events: Vec<AuditShape>,
    /// Good signatures on them.
    pub signatures: u64,
    /// Whether a signed checkpoint covers all of them.
    pub checkpoint_covers: bool,
}

/// What the verifier found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifyShape {
    /// `pass` or `fail`.
    pub result: String,
    /// The root over everything, hexadecimal; absent when it failed.
    pub head: Option<String>,
    /// Messages read.
    pub messages: Option<u64>,
    /// Good signatures.
    pub signatures: Option<u64>,
    /// Checkpoints recomputed.
    pub checkpoints: Option<u64>,
    /// Messages under the newest of them.
    pub covered: Option<u64>,
    /// Good signatures by key.
    pub keys: BTreeMap<String, u64>,
    /// The log's first key.
    pub root_key: Option<String>,
    /// Stable code of what is wrong.
    pub code: Option<String>,
    /// What is wrong.
    pub message: Option<String>,
    /// The first bad sequence.
    pub seq: Option<u64>,
    /// Milliseconds that it took.
    pub took_ms: u64,
}

/// One runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunnerShape {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its image id.
    pub image: String,
    /// The whole agent-runner document.
    #[schema(value_type = Object)]
    pub document: Value,
}

/// One contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContractShape {
    /// Its name and version.
    #[schema(example = "unit.v1")]
    pub name: String,
    /// Digest of its schema.
    pub digest: String,
    /// sealed, unsealed or broken.
    pub seal: String,
    /// What it is, in a sentence.
    pub description: String,
    /// Its documents; the first is the default.
    pub shapes: Vec<String>,
}

/// One contract with its page and its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContractOne {
    /// Its name, digest and seal.
    pub contract: ContractShape,
    /// README.md, Markdown.
    pub readme: String,
    /// JSON Schema 2020-12.
    #[schema(value_type = Object)]
    pub schema: Value,
}
