//! What REST answers about cards: calls that wait for a person, and what was decided.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// One card, as the projection has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CardShape {
    /// Its id: the dispatch's, `-t`, and the call's number.
    #[schema(example = "d-7f3a-t2")]
    pub card: String,
    /// The dispatch whose call it is.
    pub dispatch: String,
    /// In whose name.
    pub subject: String,
    /// Who launched it.
    pub launcher: String,
    /// Who may decide.
    pub approvers: Vec<String>,
    /// The tool.
    pub tool: String,
    /// The scope that the call would use.
    pub scope: String,
    /// read, write or irreversible.
    pub effect: String,
    /// trusted or untrusted.
    pub input_trust: String,
    /// The rule that asks for a person.
    pub rule: String,
    /// The version that waits: 1, and one more for each edit.
    pub version: u32,
    /// Digest of that version's arguments.
    pub args_digest: String,
    /// waiting, approved, rejected, expired, refused, running, succeeded, failed or in_doubt.
    pub state: String,
    /// Whether somebody has still to decide.
    pub open: bool,
    /// Deferred until then. Unix milliseconds.
    pub until: Option<u64>,
    /// Its time is up then. Unix milliseconds.
    pub expires_at: u64,
    /// Who decided last.
    pub by: Option<String>,
    /// Why it was rejected, refused or failed.
    pub reason: Option<String>,
    /// When the call was made. RFC 3339.
    pub opened_at: String,
    /// Sequence of its first event.
    pub first_seq: u64,
    /// Sequence of its last event.
    pub last_seq: u64,
    /// What a newer server adds.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// Cards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CardPage {
    /// The projections held everything up to here.
    pub as_of: u64,
    /// What ends soonest comes first.
    pub rows: Vec<CardShape>,
}

/// A card and what would be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CardOne {
    /// The projections held everything up to here.
    pub as_of: u64,
    /// The card.
    pub row: CardShape,
    /// The exact arguments, which the card's digest is of.
    #[schema(value_type = Object)]
    pub args: Value,
    /// The same as text over several lines, to be shown: a browser's numbers are not exact.
    pub text: String,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideBody {
    /// approve, reject, edit or defer.
    pub decision: String,
    /// The version that was shown.
    pub version: u32,
    /// For an approval: the digest that was shown.
    #[serde(default)]
    pub args_digest: Option<String>,
    /// For an edit: the arguments of the next version.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub args: Option<Value>,
    /// For a rejection: why.
    #[serde(default)]
    #[schema(max_length = 2048)]
    pub reason: Option<String>,
    /// For a deferral: when to ask again. Unix milliseconds.
    #[serde(default)]
    pub until: Option<u64>,
}

/// A decision that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Decided {
    /// The card.
    pub card: String,
    /// Sequence in the ledger; absent when it was decided so before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Whether anything changed.
    pub changed: bool,
}
