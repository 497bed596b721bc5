//! Blobs by digest: anything too large for the ledger, named `sha256:…` of its bytes as they are kept. Each is of one person,
//! and a store may keep it sealed with that person's key.

use custody_contracts::canonical::digest;
use custody_contracts::ids::Subject;
use futures::future::BoxFuture;

/// The largest blob in bytes (a session file, a request body).
pub const BLOB_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// By how much a sealed one may be larger.
pub const SEAL_BYTES_MAX: u64 = 1_024;

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
    /// The key that it was sealed with, or would be, is destroyed.
    #[error("{0} was erased")]
    Erased(String),
    /// The store is not reachable.
    #[error("the blob store is not reachable: {0}")]
    Unavailable(String),
}

/// A store of blobs by digest.
pub trait Blobs: Send + Sync {
    /// Stores bytes of a person and returns the digest that names them. Safe to call twice.
    fn put<'a>(&'a self, of: &'a Subject, bytes: Vec<u8>) -> BoxFuture<'a, Result<String, BlobError>>;
    /// The bytes of a digest, checked.
    fn get<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Vec<u8>, BlobError>>;
    /// Bytes of a person as they would be kept: the same for the same bytes.
    ///
    /// # Errors
    /// [`BlobError::Erased`] and [`BlobError::Unavailable`].
    fn seal(&self, _of: &Subject, bytes: Vec<u8>) -> Result<Vec<u8>, BlobError> {
        Ok(bytes)
    }
    /// Bytes that were kept somewhere, as they were before [`Blobs::seal`].
    ///
    /// # Errors
    /// [`BlobError::Erased`], [`BlobError::Corrupt`] and [`BlobError::Unavailable`].
    fn open(&self, kept: Vec<u8>) -> Result<Vec<u8>, BlobError> {
        Ok(kept)
    }
    /// The digest that would name bytes of a person.
    ///
    /// # Errors
    /// As [`Blobs::seal`].
    fn name(&self, of: &Subject, bytes: &[u8]) -> Result<String, BlobError> {
        Ok(digest(&self.seal(of, bytes.to_vec())?))
    }
}
