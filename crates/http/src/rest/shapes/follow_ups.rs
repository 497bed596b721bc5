//! What was said to a running dispatch.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
