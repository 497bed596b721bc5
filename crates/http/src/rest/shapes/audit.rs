//! The log as evidence: rows, ladders, what the verifier found.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

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
