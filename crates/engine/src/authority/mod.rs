//! The authority role: admits or refuses launches and what is said to dispatches, registers launchers and keys, gives grants and takes them back,
//! erases persons, signs checkpoints.
//!
//! Never touches Docker and never holds an upstream credential.

pub mod admission;
pub mod approvals;
pub mod commands;
pub mod erasing;
pub mod grants;
pub mod issuing;
pub mod launchers;
pub mod notary;
pub mod open;
pub mod outside;
pub mod parts;
pub mod say;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_approvals;
#[cfg(test)]
mod tests_erasing;
#[cfg(test)]
mod tests_grants;
pub mod tokens;
pub mod workspaces;

use custody_contracts::envelope::Meta;
use custody_contracts::ids::UnixMillis;

/// The meta of an event outside any dispatch.
pub(crate) fn meta(now: UnixMillis, correlation: &str) -> Meta {
    Meta { time: now.rfc3339(), correlation: Some(correlation.to_owned()), ..Meta::default() }
}
