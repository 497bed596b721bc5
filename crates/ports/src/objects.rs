//! Objects in a bucket, as a workspace needs them: made once, read, removed. An object is never changed: whoever makes a
//! key first has it, and that is the whole of the fencing between two writers.

use futures::future::BoxFuture;

/// The largest object in bytes.
pub const OBJECT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What became of making an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is there now, durably, with these bytes.
    New,
    /// The key was taken; what is there was not touched.
    Taken,
}

/// Why a bucket did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Larger than an object may be.
    #[error("object {key} of {bytes} bytes is larger than {OBJECT_BYTES_MAX}")]
    TooLarge {
        /// Which.
        key: String,
        /// Its size.
        bytes: u64,
    },
    /// The bucket's answer makes no sense, or its bytes are not what was stored.
    #[error("object {0} is damaged")]
    Corrupt(String),
    /// Not reachable, or not allowed.
    #[error("the bucket is not reachable: {0}")]
    Unavailable(String),
}

/// A bucket.
pub trait Objects: Send + Sync {
    /// Makes an object if there is none under this key. Of two makers exactly one is told [`Created::New`].
    fn create<'a>(&'a self, key: &'a str, bytes: Vec<u8>) -> BoxFuture<'a, Result<Created, ObjectError>>;
    /// An object's bytes; `None` when there is none.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, ObjectError>>;
    /// Removes an object. Safe to call when it is gone.
    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ObjectError>>;
}
