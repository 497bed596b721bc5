//! Where checkpoints go besides the ledger: files, a syslog, a git repository, a witness. What arrives there is out of
//! the reach of whoever holds this machine. Must never hold up the log: every failure is an answer, and every wait ends.

use custody_contracts::events::CheckpointSigned;
use futures::future::BoxFuture;

/// Why a checkpoint did not get out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutsideError {
    /// Nobody answered, or not in time; it is tried again.
    #[error("{0}")]
    Unavailable(String),
    /// It was refused; the same again would be too.
    #[error("{0}")]
    Refused(String),
}

/// One place that takes checkpoints. Safe to give the same one twice.
pub trait Outside: Send + Sync {
    /// What people call it: kind and place, for example `file /mnt/other/checkpoints`.
    fn name(&self) -> &str;
    /// Every how many checkpoints it wants one; 1 is each.
    fn every(&self) -> u64;
    /// Puts one there. Durable, as far as the place can be, when it answers.
    fn put<'a>(&'a self, signed: &'a CheckpointSigned) -> BoxFuture<'a, Result<(), OutsideError>>;
}

/// What a witness says to a checkpoint. Source: C2SP tlog-witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WitnessAnswer {
    /// It signed; signature lines of a note.
    Cosigned(String),
    /// It last saw another size than it was told.
    Conflict(u64),
    /// It did not sign.
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words, cut.
        detail: String,
    },
}

/// A witness, as the loop that feeds it sees it.
pub trait Witness: Send + Sync {
    /// Hands over an `add-checkpoint` request.
    fn add(&self, request: String) -> BoxFuture<'_, Result<WitnessAnswer, OutsideError>>;
}
