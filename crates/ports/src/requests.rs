//! Commands and queries over request and reply: `command.<verb…>` to authority, `query.<verb…>` to the
//! projector, `content.<verb…>` to the runtime.

use futures::future::BoxFuture;

/// The largest request or answer in bytes.
pub const REQUEST_BYTES_MAX: usize = 512 * 1024;

/// Why requests cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("requests cannot be served: {0}")]
pub struct RequestError(pub String);

/// One request that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The subject it came on, for example `command.launcher.register`.
    pub subject: String,
    /// Its body.
    pub bytes: Vec<u8>,
    /// Where the answer goes.
    pub reply_to: String,
}

/// A queue of requests, shared by every replica of the role that serves them.
pub trait Requests: Send + Sync {
    /// The next request; waits for one.
    fn next(&self) -> BoxFuture<'_, Result<Request, RequestError>>;
    /// Answers one.
    fn answer<'a>(&'a self, reply_to: &'a str, bytes: Vec<u8>) -> BoxFuture<'a, Result<(), RequestError>>;
}
