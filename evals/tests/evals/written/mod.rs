//! The written scenarios: one script each, and every mutant is the same script with one lie in it.

mod approvals;
mod behind;
mod crash;
mod effects;
mod grants;
mod in_process;
mod one_container;
mod resume;
mod stranger;
mod tokens;
mod turns;
mod workspace;

use crate::book::Book;

/// One lie.
pub(crate) struct Lie {
    pub name: &'static str,
    pub why: &'static str,
    pub must_fail_by: &'static str,
}

/// A scenario that is written by a script.
pub(crate) struct Script {
    pub id: &'static str,
    /// The log, with the lie of this name or, for the empty name, honest.
    pub write: fn(&str) -> Book,
    pub lies: &'static [Lie],
}

const fn lie(name: &'static str, must_fail_by: &'static str, why: &'static str) -> Lie {
    Lie { name, why, must_fail_by }
}

pub(crate) const SCRIPTS: &[Script] = &[
    in_process::SCRIPT,
    one_container::SCRIPT,
    resume::SCRIPT,
    stranger::SCRIPT,
    crash::SCRIPT,
    turns::SCRIPT,
    workspace::SCRIPT,
    effects::TOOLS,
    effects::BUDGET,
    effects::CALLS,
    grants::REQUIRED,
    grants::REVOKED,
    grants::ATTENUATED,
    approvals::EXACT,
    approvals::PROPOSES,
    tokens::BOUNDS,
    behind::RESOLVES,
];
