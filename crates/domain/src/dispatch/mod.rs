//! A dispatch: admitted or refused once, for ever. While it is admitted a stop may be asked for, and more may be said to
//! it, as often as it has turns. A message that says more and is refused is an entity of its own.

mod decide;
#[cfg(test)]
mod tests;

use custody_contracts::events::{
    DispatchAdmitted, DispatchRefused, DispatchStopRequested, FollowUpAccepted, FollowUpRefused,
};

/// What one dispatch is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DispatchState {
    /// The admission.
    pub admitted: Option<Box<DispatchAdmitted>>,
    /// The refusal.
    pub refused: Option<DispatchRefused>,
    /// The shortest grace that a stop was asked for with, in milliseconds.
    pub stop_grace_ms: Option<u64>,
    /// How often more was said to it.
    pub follow_ups: u32,
    /// Whether this is a message that said more and was refused.
    pub follow_up_refused: bool,
}

/// What can be commanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DispatchCommand {
    /// Admit, with what a permit stands for.
    Admit(Box<DispatchAdmitted>),
    /// Refuse.
    Refuse(DispatchRefused),
    /// Ask it to stop, or to stop sooner.
    RequestStop(DispatchStopRequested),
    /// Say more to it. The rule gives the number; the one inside the command is not looked at.
    FollowUp(FollowUpAccepted),
    /// Refuse a message that says more.
    RefuseFollowUp(FollowUpRefused),
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
    /// It was launched for one turn.
    #[error("dispatch {0} takes no follow-up: it was launched for one turn")]
    OneTurn(String),
    /// All its turns are taken.
    #[error("dispatch {dispatch} takes {turns} turns, and all of them are taken")]
    NoTurnLeft {
        /// Which.
        dispatch: String,
        /// How many turns its box takes.
        turns: u64,
    },
}

/// The rule.
#[derive(Debug)]
pub struct Dispatch;
