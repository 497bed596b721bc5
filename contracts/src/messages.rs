//! reply.v1, error.v1, audit.v1 and output.v2: what launchers, people and screens are told.

use crate::box_protocol::Frame;
use serde::{Deserialize, Serialize};

/// What a launcher gets on `reply.<launcher>.<dispatch>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// The dispatch.
    pub dispatch: String,
    /// The launcher.
    pub launcher: String,
    /// The launch message's id.
    pub event_id: Option<String>,
    /// Admitted or refused.
    pub outcome: ReplyOutcome,
    /// Stable code of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The refusal in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where its output will stream.
    pub output: String,
    /// Sequence of the decision in the ledger.
    pub seq: u64,
}

/// Admitted or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplyOutcome {
    /// It will run.
    Admitted,
    /// It will not.
    Refused,
}

/// An error as the command line prints it with `-o json`, and as command replies carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorDoc {
    /// Always `error.v1`.
    pub schema: String,
    /// Stable code.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// The next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where to read more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
}

impl ErrorDoc {
    /// An error.v1 with its schema filled in.
    pub fn new(code: &str, message: impl Into<String>, hint: Option<String>) -> Self {
        ErrorDoc { schema: "error.v1".into(), code: code.into(), message: message.into(), hint, docs: None }
    }
}

/// One line of the audit tail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRow {
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
    /// ok, refused, running, failed, …
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

/// One message on `unit.<dispatch>.out`: consecutive frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// The dispatch.
    pub dispatch: String,
    /// Which attempt.
    pub attempt: u32,
    /// First frame's number.
    pub from: u64,
    /// Last frame's number.
    pub to: u64,
    /// The frames.
    pub frames: Vec<Frame>,
}
