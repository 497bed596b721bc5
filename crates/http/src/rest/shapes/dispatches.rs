//! Dispatches: rows, pages, events, output, and the commands over them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

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
