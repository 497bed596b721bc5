//! Admission: from the bytes that a launcher published to a permit or a refusal. Everything here is a function of the
//! message, the launcher's state and the runner catalogue; nothing is looked up.

mod judge;
mod read;
#[cfg(test)]
mod tests;

pub use judge::{Grants, Installed, Mounts, Permit, RunnerEntry, judge};
pub(crate) use judge::{check_clock, check_sender};
pub use read::{Asked, UNIT_BYTES_MAX, dispatch_id, event_id, launch_ref, read};

/// The furthest that a launch message's `time` may be from the moment the server stored it.
pub const CLOCK_SKEW_MS_MAX: i64 = 600_000;

/// Why a launch was refused, with the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// Stable code.
    pub code: &'static str,
    /// What was wrong, in a sentence, cut to 1,000 characters.
    pub detail: String,
    /// What to do next.
    pub hint: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Refusal { code, detail: detail.into().chars().take(1_000).collect(), hint: hint.into() }
    }
}
