//! Blobs by digest: anything too large for the ledger, named `sha256:…` of its bytes.

use futures::future::BoxFuture;

/// The largest blob in bytes (a session file, a request body).
pub const BLOB_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why a blob could not be stored or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// Too large.
    #[error("blob of {bytes} bytes is larger than {max}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// Not there.
    #[error("blob {0} is not stored")]
    Missing(String),
    /// What is stored under the digest has another digest.
    #[error("blob {0} does not match its digest")]
    Corrupt(String),
    /// The store is not reachable.
    #[error("the blob store is not reachable: {0}")]
    Unavailable(String),
}

/// A store of blobs by digest.
pub trait Blobs: Send + Sync {
    /// Stores bytes and returns their digest. Safe to call twice.
    fn put(&self, bytes: Vec<u8>) -> BoxFuture<'_, Result<String, BlobError>>;
    /// The bytes of a digest, checked.
    fn get<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Vec<u8>, BlobError>>;
}
