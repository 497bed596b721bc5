//! A dispatch: admitted or refused once, for ever; a stop may be asked for while it is admitted.

mod decide;
#[cfg(test)]
mod tests;

use custody_contracts::events::{DispatchAdmitted, DispatchRefused, DispatchStopRequested};

/// What one dispatch is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DispatchState {
    /// The admission.
    pub admitted: Option<Box<DispatchAdmitted>>,
    /// The refusal.
    pub refused: Option<DispatchRefused>,
    /// Whether a stop was asked for.
    pub stop_requested: bool,
}

/// What can be commanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DispatchCommand {
    /// Admit, with what a permit stands for.
    Admit(Box<DispatchAdmitted>),
    /// Refuse.
    Refuse(DispatchRefused),
    /// Ask it to stop.
    RequestStop(DispatchStopRequested),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DispatchRefusal {
    /// Another message has this id.
    #[error("the message id was used before for another message (launch sequence {first})")]
    IdReused {
        /// Sequence of the first message in LAUNCH.
        first: u64,
    },
    /// There is no such dispatch, or it was refused.
    #[error("dispatch {0} was never admitted")]
    NotAdmitted(String),
}

/// The rule.
#[derive(Debug)]
pub struct Dispatch;
