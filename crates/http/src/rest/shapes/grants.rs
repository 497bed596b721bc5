//! Grants: rows, words, drafts, and launchers that can be given one.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

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

/// Whether the web chat may act for a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConsentShape {
    /// needed, given or revoked.
    pub state: String,
    /// The grant that stands, or that was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// GrantTerms of ledger.v2 to agree to, when they are needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub terms: Option<Value>,
    /// What they let happen, one sentence a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// Digest of these words: what a consent names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement_digest: Option<String>,
}
