//! The blob port over the object store `blobs`. A blob's name is the hexadecimal digest of its bytes. One of at most one chunk
//! is one message, and one of before that, or larger, an object that every client of NATS reads. Must never return bytes that do
//! not have the digest they were asked by.

use crate::connect::Connection;
use crate::objects::{Fetched, Store};
use custody_contracts::ids::Subject;
use custody_ports::blobs::{BLOB_BYTES_MAX, BlobError, Blobs, SEAL_BYTES_MAX};
use custody_streams::spec::{BLOB_CHUNK_BYTES, BLOBS, BLOBS_BUCKET};
use futures::future::BoxFuture;
use sha2::{Digest, Sha256};

/// The largest one as it is kept.
const KEPT_BYTES_MAX: u64 = BLOB_BYTES_MAX + SEAL_BYTES_MAX;

/// Blobs on JetStream.
#[derive(Debug, Clone)]
pub struct JetBlobs(Store);

impl JetBlobs {
    /// The blobs of a server.
    pub fn new(connection: &Connection) -> JetBlobs {
        JetBlobs(Store::new(connection, BLOBS, BLOBS_BUCKET, KEPT_BYTES_MAX))
    }

    async fn store(&self, bytes: Vec<u8>) -> Result<String, BlobError> {
        let size = bytes.len() as u64;
        if size > KEPT_BYTES_MAX {
            return Err(BlobError::TooLarge { bytes: size, max: KEPT_BYTES_MAX });
        }
        let hex = hex_of(&Sha256::digest(&bytes));
        // Whoever was there first has stored the same.
        let stored = match bytes.len() {
            ..=BLOB_CHUNK_BYTES => self.0.create_lone(&hex, bytes.into()).await,
            _ => self.0.create(&hex, bytes.into()).await,
        };
        stored.map_err(BlobError::Unavailable)?;
        Ok(named(&hex))
    }

    async fn fetch(&self, name: &str) -> Result<Vec<u8>, BlobError> {
        let missing = || BlobError::Missing(name.chars().take(80).collect());
        let hex = name.strip_prefix("sha256:").filter(|h| is_digest(h)).ok_or_else(missing)?;
        let found = match self.0.fetch_lone(hex).await.map_err(BlobError::Unavailable)? {
            Some(bytes) => Fetched::Bytes(bytes),
            None => self.0.fetch(hex).await.map_err(BlobError::Unavailable)?,
        };
        match found {
            Fetched::Bytes(bytes) if hex_of(&Sha256::digest(&bytes)) == hex => Ok(bytes),
            Fetched::Bytes(_) | Fetched::Corrupt => Err(BlobError::Corrupt(name.to_owned())),
            Fetched::Missing => Err(missing()),
        }
    }
}

fn named(hex: &str) -> String {
    ["sha256:", hex].concat()
}
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
fn hex_of(digest: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    digest.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

impl Blobs for JetBlobs {
    fn put<'a>(&'a self, _of: &'a Subject, bytes: Vec<u8>) -> BoxFuture<'a, Result<String, BlobError>> {
        Box::pin(self.store(bytes))
    }

    fn get<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Vec<u8>, BlobError>> {
        Box::pin(self.fetch(digest))
    }
}
