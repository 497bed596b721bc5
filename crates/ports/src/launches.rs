//! What launchers published, in order, and the replies they get.

use custody_contracts::ids::UnixMillis;
use futures::future::BoxFuture;

/// One message of the LAUNCH stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Its sequence in LAUNCH.
    pub seq: u64,
    /// Second token of its subject: who published, as the account boundary says.
    pub launcher: String,
    /// Third token of its subject.
    pub verb: String,
    /// When the server stored it.
    pub stored_at: UnixMillis,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Why the stream could not be read or answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the launch stream is not reachable: {0}")]
pub struct LaunchError(pub String);

/// A durable reader of LAUNCH, shared by every replica. Messages come again until they are done.
pub trait Launches: Send + Sync {
    /// The next message; waits for one.
    fn next(&self) -> BoxFuture<'_, Result<Launch, LaunchError>>;
    /// This message is decided, and the decision is durable.
    fn done(&self, seq: u64) -> BoxFuture<'_, Result<(), LaunchError>>;
    /// This message could not be decided now; it comes again after a delay.
    fn later(&self, seq: u64) -> BoxFuture<'_, Result<(), LaunchError>>;
    /// Publishes a reply on `reply.<launcher>.<dispatch>`; a launcher that does not listen misses it.
    fn reply<'a>(
        &'a self,
        launcher: &'a str,
        dispatch: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), LaunchError>>;
}
