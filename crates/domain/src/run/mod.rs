//! A run: the one container of a dispatch, claimed, started, finished. Exactly one terminal event.

mod decide;
mod outcome;
#[cfg(test)]
mod tests;

use custody_contracts::events::{RunClaimed, RunFinished, RunStarted};

pub use outcome::{Ended, is_parked, verdict};

/// Container name, a function of dispatch and attempt: on one engine the name is a free mutex.
pub fn container_name(dispatch: &str, attempt: u32) -> String {
    if attempt <= 1 { ["custody-", dispatch].concat() } else { format!("custody-{dispatch}-{attempt}") }
}

/// What one run is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RunState {
    /// Nobody claimed it.
    #[default]
    Unclaimed,
    /// Claimed, not known to run.
    Claimed(RunClaimed),
    /// Runs.
    Started(RunClaimed, RunStarted),
    /// Ended.
    Finished(Box<RunFinished>),
}

/// What can be commanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunCommand {
    /// Claim it.
    Claim(RunClaimed),
    /// Record that it runs.
    Start(RunStarted),
    /// Record that it ended.
    Finish(Box<RunFinished>),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunRefusal {
    /// Another runtime has it.
    #[error("claimed by runtime {0}")]
    ClaimedByOther(String),
    /// It ended before.
    #[error("it has ended already")]
    AlreadyFinished,
    /// It cannot start or end before it was claimed.
    #[error("it was never claimed")]
    NotClaimed,
    /// Another attempt's event.
    #[error("attempt {asked} is not the current attempt {current}")]
    WrongAttempt {
        /// The event's.
        asked: u32,
        /// The state's.
        current: u32,
    },
}

/// The rule.
#[derive(Debug)]
pub struct Run;
