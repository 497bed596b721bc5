//! The output topic of a dispatch: `unit.<id>.out`.

use futures::future::BoxFuture;
use futures::stream::BoxStream;

/// Why the output stream could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// Another writer was there first.
    #[error("output of {0} moved")]
    Conflict(String),
    /// Not reachable; a retry is safe.
    #[error("the output stream is not reachable: {0}")]
    Unavailable(String),
}

/// One stored chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChunk {
    /// Its sequence in OUTPUT.
    pub seq: u64,
    /// output.v2 bytes.
    pub bytes: Vec<u8>,
}

/// The output stream.
pub trait Output: Send + Sync {
    /// Appends one chunk after `last_seq` (0: the topic is empty) and returns its sequence. `message_id` makes a
    /// retry harmless.
    fn append<'a>(
        &'a self,
        dispatch: &'a str,
        last_seq: u64,
        message_id: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<u64, OutputError>>;
    /// Tells whoever launched a dispatch what was stored, as output.v2 and not sealed: only it hears that, if it listens,
    /// and it is kept nowhere.
    fn tell<'a>(
        &'a self,
        launcher: &'a str,
        dispatch: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), OutputError>>;
    /// The last chunk of a dispatch.
    fn last<'a>(&'a self, dispatch: &'a str) -> BoxFuture<'a, Result<Option<StoredChunk>, OutputError>>;
    /// All chunks of a dispatch so far, in order.
    fn all<'a>(&'a self, dispatch: &'a str) -> BoxFuture<'a, Result<Vec<StoredChunk>, OutputError>>;
    /// Chunks of a dispatch from the first on, and then what comes.
    fn follow<'a>(
        &'a self,
        dispatch: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<StoredChunk, OutputError>>, OutputError>>;
}
