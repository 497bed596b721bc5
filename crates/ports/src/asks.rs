//! Asking another role, and launching as one launcher: what a role needs that holds neither the ledger's keys nor the
//! engine's socket.

use custody_contracts::ids::DispatchId;
use custody_contracts::unit::Invocation;
use futures::future::BoxFuture;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskFailed {
    /// The role is not running.
    #[error("nobody answers {0}")]
    NobodyThere(String),
    /// Not in time; it may have been carried out.
    #[error("{0} was not answered in time")]
    TimedOut(String),
    /// Anything else.
    #[error("{0}")]
    Lost(String),
}

/// Queries to the projector, commands to the authority, and questions about workspaces to the runtime.
pub trait Asks: Send + Sync {
    /// Sends `query.<verb>`, `command.<verb>` or `content.<verb>` and gives the answer's bytes.
    fn ask<'a>(&'a self, subject: &'a str, body: Vec<u8>) -> BoxFuture<'a, Result<Vec<u8>, AskFailed>>;
}

/// A launch that is stored. Whether it is admitted is the authority's to say, in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// Its sequence in LAUNCH.
    pub seq: u64,
    /// The dispatch that it is, if its message is new: a function of launcher and message id.
    pub dispatch: DispatchId,
    /// The dispatch that it would be refused under, if another message had this id before: a function of its bytes.
    pub refused_as: DispatchId,
}

/// Why a launch is not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchFailed {
    /// The message has more bytes than LAUNCH takes.
    #[error("the message has {0} bytes, more than a launch may have")]
    TooLarge(usize),
    /// The launcher's connection is refused.
    #[error("the launcher is not let in: {0}")]
    Refused(String),
    /// No acknowledgement; sending the same again is safe.
    #[error("{0}")]
    Unavailable(String),
}

/// One launcher of an edge of ours.
pub trait Launcher: Send + Sync {
    /// Publishes a unit under a message id. The same id and unit are the same dispatch, however often it is sent.
    fn launch<'a>(&'a self, id: &'a str, unit: &'a Invocation) -> BoxFuture<'a, Result<Launched, LaunchFailed>>;
}
