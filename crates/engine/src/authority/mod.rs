//! The authority role: admits or refuses launches, registers launchers and keys, signs checkpoints.
//!
//! Never touches Docker and never holds an upstream credential.

pub mod admission;
pub mod commands;
pub mod launchers;
pub mod notary;
#[cfg(test)]
mod tests;

use custody_contracts::envelope::Meta;
use custody_contracts::ids::UnixMillis;

/// The meta of an event outside any dispatch.
pub(crate) fn meta(now: UnixMillis, correlation: &str) -> Meta {
    Meta { time: now.rfc3339(), correlation: Some(correlation.to_owned()), ..Meta::default() }
}
