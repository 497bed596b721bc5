//! A run again without a model: what a dispatch asked and was answered is read from the ledger and the blobs, and a
//! second dispatch that names the first one gets the same answers to the same questions.
//!
//! Must never call a model or carry out a tool: what is not on the tape is a divergence, told and recorded. Must never
//! hand a recording to another person than the one whose dispatch it was.

mod normal;
mod tape;
#[cfg(test)]
mod tests;

pub(crate) use tape::{Tape, TapedCall};

use custody_contracts::unit::Invocation;

/// How a unit names the dispatch that it is to repeat: `context.ref.uri` is this and the dispatch's id.
pub const REPLAY_URI: &str = "custody:replay/";

/// The dispatch that a unit is to repeat.
pub fn repeats(unit: &Invocation) -> Option<&str> {
    unit.context.as_ref()?.reference.as_ref()?.uri.strip_prefix(REPLAY_URI)
}
