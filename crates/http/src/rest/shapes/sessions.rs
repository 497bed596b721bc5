//! Sessions: rows, pages, and a conversation with its words.

use super::DispatchShape;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

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
