//! Calls that wait for a person, and what the person decided. A card's words and its arguments are blobs: the ledger holds
//! their digests, and a decision is bound to the digest that was on the screen.

use crate::events::{RuledBy, ToolEffect};
use crate::ids::{DispatchId, Subject, UnixMillis};
use crate::unit::InputTrust;
use serde::{Deserialize, Serialize};

/// A tool call waits for a person. Written before the agent is told so; nothing has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolAwaiting {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// Which of its tool calls.
    pub n: u32,
    /// The tool.
    pub tool: String,
    /// The scope that the call would use.
    pub scope: String,
    /// What it may do to the world.
    pub effect: ToolEffect,
    /// Digest of the canonical arguments; their bytes are the blob of that name.
    pub args_digest: String,
    /// Their size.
    pub args_bytes: u64,
    /// How far the input of the dispatch is trusted.
    pub input_trust: InputTrust,
    /// The key under which the same call is never two effects.
    pub idempotency_key: String,
    /// The rule that asks for a person.
    pub policy: RuledBy,
    /// Digest of the tool as it is offered.
    pub tool_digest: String,
    /// Who may decide: the person, or those that the grant names.
    pub approvers: Vec<Subject>,
    /// After this moment it can no longer be approved, and what was approved is no longer begun.
    pub expires_at: UnixMillis,
}

impl ToolAwaiting {
    /// The id of its card: `<dispatch>-t<n>`, the entity of the effect and of the approval.
    pub fn card(&self) -> String {
        format!("{}-t{}", self.dispatch, self.n)
    }
}

/// What a person decides about a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// Do exactly what was shown.
    Approve,
    /// Replace it by a new version, which waits in its turn.
    Edit,
    /// Never.
    Reject,
    /// Ask again later.
    Defer,
}

impl Choice {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Choice::Approve => "approve",
            Choice::Edit => "edit",
            Choice::Reject => "reject",
            Choice::Defer => "defer",
        }
    }
}

/// A person decided about one version of a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalDecided {
    /// The card.
    pub card: String,
    /// The dispatch whose call it is.
    pub dispatch: DispatchId,
    /// Which version was on the screen: 1, and one more for each edit.
    pub version: u32,
    /// What was decided.
    pub decision: Choice,
    /// Who decided.
    pub by: Subject,
    /// Digest of the arguments: those that were shown, for an approval; those of the next version, for an edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_digest: Option<String>,
    /// Why, for a rejection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When to ask again, for a deferral.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMillis>,
}

/// Nobody decided in time: the call will never be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalExpired {
    /// The card.
    pub card: String,
    /// The dispatch whose call it was.
    pub dispatch: DispatchId,
    /// The version that waited.
    pub version: u32,
    /// When its time was up.
    pub expired_at: UnixMillis,
}

/// Events of kind approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApprovalEvent {
    /// Decided.
    Decided(ApprovalDecided),
    /// Expired.
    Expired(ApprovalExpired),
}

impl ApprovalEvent {
    /// The card.
    pub fn card(&self) -> &str {
        match self {
            ApprovalEvent::Decided(e) => &e.card,
            ApprovalEvent::Expired(e) => &e.card,
        }
    }

    /// The dispatch whose call it is.
    pub fn dispatch(&self) -> &DispatchId {
        match self {
            ApprovalEvent::Decided(e) => &e.dispatch,
            ApprovalEvent::Expired(e) => &e.dispatch,
        }
    }
}

/// The approval that an intent rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovedBy {
    /// The ledger sequence of the decision.
    pub seq: u64,
    /// The version that was approved.
    pub version: u32,
    /// Who approved.
    pub by: Subject,
}
