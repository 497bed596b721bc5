//! What stands in the ledger of a person's content: ciphertext under that person's key, and what became of the key. Must
//! never hold a key.

use crate::canonical::{derived_id, digest};
use crate::events::DispatchAdmitted;
use crate::ids::Subject;
use crate::unit::{Entrypoint, Start};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde::{Deserialize, Serialize};

/// What stands in the unit where sealed words stood.
pub const SEALED: &str = "(sealed)";
/// What is shown in place of words whose key is destroyed.
pub const ERASED: &str = "(erased)";

/// The largest content that stands in the event which names its digest, in bytes as it is kept; larger is a blob. Two durable
/// writes are one then. Source: contract ledger.v2, `ToolIntended` and `ToolFinished`.
pub const INLINE_BYTES_MAX: usize = 4_096;

/// Content as an event holds it: base64url without padding. `None` for what is to be a blob.
pub fn inline(kept: &[u8]) -> Option<String> {
    (kept.len() <= INLINE_BYTES_MAX).then(|| B64.encode(kept))
}

/// Content that an event holds, when it has the digest that the event names.
pub fn from_inline(text: &str, named: &str) -> Option<Vec<u8>> {
    let kept = B64.decode(text).ok()?;
    (kept.len() <= INLINE_BYTES_MAX && digest(&kept) == named).then_some(kept)
}

/// How words are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SealAlg {
    /// draft-irtf-cfrg-xchacha-03, section 2.3.
    #[serde(rename = "XChaCha20-Poly1305")]
    XChaCha20Poly1305,
}

/// Words under a person's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The key's id, `sk-` and 16 hexadecimal digits.
    pub key: String,
    /// How.
    pub alg: SealAlg,
    /// Nonce and ciphertext, base64url; exactly one of this and `blob`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The blob that holds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<String>,
}

/// What a person's key is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubjectKeyState {
    /// It is to be destroyed.
    Erasing,
    /// It is destroyed.
    Erased,
    /// The person is taken in again, with another key.
    Active,
}

impl SubjectKeyState {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            SubjectKeyState::Erasing => "erasing",
            SubjectKeyState::Erased => "erased",
            SubjectKeyState::Active => "active",
        }
    }
}

/// The key that a person's content is sealed with came into another state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectKeyChanged {
    /// The person.
    pub subject: Subject,
    /// What the key is now.
    pub state: SubjectKeyState,
    /// Its id; `None` when there was none to destroy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub why: String,
}

impl SubjectKeyChanged {
    /// The entity of a person's key: a person's id is no token of a log subject, so it is named by its digest.
    pub fn entity_id(subject: &Subject) -> String {
        derived_id("person-", &[subject.as_str().as_bytes()])
    }
}

/// The words of a start, where it holds some.
pub fn words(start: &Start) -> Option<&str> {
    match start {
        Start::Entrypoint(Entrypoint::Inline(text)) => Some(text),
        Start::Entrypoint(Entrypoint::Path(_)) => None,
        Start::Session(turn) => turn.inline.as_deref(),
    }
}

/// The same start with other words; one without words is left as it is.
pub fn set_words(start: &mut Start, text: String) {
    match start {
        Start::Entrypoint(Entrypoint::Inline(words)) => *words = text,
        Start::Entrypoint(Entrypoint::Path(_)) => {}
        Start::Session(turn) => {
            if let Some(words) = &mut turn.inline {
                *words = text;
            }
        }
    }
}

/// What the words of a dispatch's start are sealed about: they open nowhere else.
pub fn about_start(admitted: &DispatchAdmitted) -> String {
    ["dispatch/", admitted.dispatch.as_str(), "/start"].concat()
}
