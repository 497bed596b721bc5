//! What seal.json says: which schemas never change again, and whether they have not. Must never write a seal:
//! `cargo xtask seal --add` does, and nothing else.

use crate::canonical::{canonical, digest};
use crate::catalogue::{self, CheckError, Contract};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// `unit.v1` to `sha256:` and 64 hexadecimal digits, as they were sealed.
pub static SEALS: LazyLock<BTreeMap<String, String>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../seal.json")).unwrap_or_default());

/// Whether a contract's schema may still change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealState {
    /// It never changes again, and it has not.
    Sealed,
    /// It may still change; nothing that must outlive this version may hold it.
    Unsealed,
    /// It was sealed and has changed since: nothing may be read or written with it.
    Broken {
        /// The digest it was sealed with.
        sealed: String,
        /// The digest it has.
        now: String,
    },
}

impl SealState {
    /// Its word: `sealed`, `unsealed` or `broken`.
    pub fn as_str(&self) -> &'static str {
        match self {
            SealState::Sealed => "sealed",
            SealState::Unsealed => "unsealed",
            SealState::Broken { .. } => "broken",
        }
    }
}

/// The digest that a seal holds: over the canonical JSON of the schema, so that its layout does not count. A schema that
/// is no JSON has the digest of its text, which no seal ever had.
pub fn digest_of(contract: &Contract) -> String {
    match serde_json::from_str::<Value>(contract.schema) {
        Ok(schema) => digest(canonical(&schema).as_bytes()),
        Err(_) => digest(contract.schema.as_bytes()),
    }
}

/// Whether the contract of a name is sealed.
///
/// # Errors
/// As [`catalogue::find`].
pub fn state(name: &str) -> Result<SealState, CheckError> {
    let contract = catalogue::find(name)?;
    Ok(state_in(&SEALS, contract))
}

/// Whether a contract is sealed by these seals.
pub fn state_in(seals: &BTreeMap<String, String>, contract: &Contract) -> SealState {
    let Some(sealed) = seals.get(contract.name) else { return SealState::Unsealed };
    let now = digest_of(contract);
    if *sealed == now { SealState::Sealed } else { SealState::Broken { sealed: sealed.clone(), now } }
}
