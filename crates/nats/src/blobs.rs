//! The blob port over the object store `blobs`, in the form of NATS ADR-20 so that `nats object` can read it. A blob's
//! name is the hexadecimal digest of its bytes. Every upload has chunks of its own and one small record under the name,
//! written last and only if there is none: no upload ever changes or purges another's. Must never return bytes that do
//! not have the digest they were asked by.

use crate::connect::{Connection, REQUEST_TIMEOUT};
use crate::ordered::{Gaps, Ordered, Query};
use crate::wire::{ApiError, code, pub_ack};
use async_nats::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use custody_ports::blobs::{BLOB_BYTES_MAX, BlobError, Blobs};
use custody_streams::spec::{BLOB_CHUNK_BYTES, BLOBS, BLOBS_BUCKET};
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Chunks on their way at the same time.
const CHUNKS_IN_FLIGHT: usize = 8;
/// How often one chunk is sent when no answer comes.
const SENDS_MAX: u32 = 3;

/// Blobs on JetStream.
#[derive(Debug, Clone)]
pub struct JetBlobs {
    connection: Connection,
}

/// The record of one blob: ADR-20's object info.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    bucket: String,
    nuid: String,
    size: u64,
    chunks: u64,
    digest: String,
}

impl JetBlobs {
    /// The blobs of a server.
    pub fn new(connection: &Connection) -> JetBlobs {
        JetBlobs { connection: connection.clone() }
    }

    async fn record(&self, hex: &str) -> Result<Option<Record>, BlobError> {
        let query = json!({ "last_by_subj": record_subject(hex) });
        let Some(message) = self.connection.leader_get(BLOBS, &query).await.map_err(unavailable)? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&message.bytes).map_err(|_| BlobError::Corrupt(named(hex)))?;
        Ok(Some(record))
    }

    async fn store(&self, bytes: Bytes) -> Result<String, BlobError> {
        let size = bytes.len() as u64;
        if size > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge { bytes: size, max: BLOB_BYTES_MAX });
        }
        let digest = Sha256::digest(&bytes);
        let hex = hex_of(&digest);
        if self.record(&hex).await?.is_some() {
            return Ok(named(&hex));
        }
        let nuid = self.connection.unique();
        let chunk_subject = chunk_subject(&nuid);
        let chunks: Vec<Bytes> = chunks_of(&bytes);
        let count = chunks.len() as u64;
        let mut last = 0;
        // The first chunk must be the first of its subject; the others follow in order on one connection.
        let sent: Vec<u64> = stream::iter((1u64..).zip(chunks))
            .map(|(index, chunk)| {
                let id = [&nuid, "/", &index.to_string()].concat();
                self.send(&chunk_subject, id, chunk, None)
            })
            .buffered(CHUNKS_IN_FLIGHT)
            .try_collect()
            .await?;
        for seq in sent {
            if seq <= last {
                return Err(BlobError::Unavailable("chunks were stored out of order".to_owned()));
            }
            last = seq;
        }
        let record = Record {
            name: hex.clone(),
            bucket: BLOBS_BUCKET.to_owned(),
            nuid: nuid.clone(),
            size,
            chunks: count,
            digest: ["SHA-256=", &URL_SAFE.encode(digest)].concat(),
        };
        let body = serde_json::to_vec(&record).map_err(|e| BlobError::Unavailable(e.to_string()))?;
        let id = [nuid.as_str(), "/record"].concat();
        self.send(&record_subject(&hex), id, body.into(), Some(0)).await?;
        Ok(named(&hex))
    }

    /// Stores one message. With an expectation, somebody who was there first has stored the same.
    async fn send(&self, subject: &str, id: String, payload: Bytes, expected: Option<u64>) -> Result<u64, BlobError> {
        let mut why = String::new();
        for _ in 0..SENDS_MAX {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", id.as_str());
            headers.insert("Nats-Expected-Stream", BLOBS);
            if let Some(expected) = expected {
                headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
            }
            let asked = self.connection.ask(subject, Some(headers), payload.clone(), REQUEST_TIMEOUT).await;
            match asked.map_err(ApiError::from).and_then(|answer| pub_ack(&answer.payload)) {
                Ok(ack) => return Ok(ack.seq),
                Err(ApiError::Api { code: code::WRONG_LAST_SEQUENCE, .. }) if expected.is_some() => return Ok(0),
                Err(error @ ApiError::Ask(_)) => why = error.to_string(),
                Err(error) => return Err(unavailable(error)),
            }
        }
        Err(BlobError::Unavailable(why))
    }

    async fn fetch(&self, name: &str) -> Result<Vec<u8>, BlobError> {
        let missing = || BlobError::Missing(name.chars().take(80).collect());
        let corrupt = || BlobError::Corrupt(name.to_owned());
        let hex = name.strip_prefix("sha256:").filter(|h| is_digest(h)).ok_or_else(missing)?;
        let record = self.record(hex).await?.ok_or_else(missing)?;
        if record.size > BLOB_BYTES_MAX || record.chunks != chunk_count(record.size) || !is_token(&record.nuid) {
            return Err(corrupt());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(record.size).unwrap_or(0));
        if record.chunks > 0 {
            let filter = chunk_subject(&record.nuid);
            let query = json!({ "last_by_subj": filter });
            // Without its chunks the reader would wait for ever.
            self.connection.leader_get(BLOBS, &query).await.map_err(unavailable)?.ok_or_else(corrupt)?;
            let query = Query { stream: BLOBS.to_owned(), filter: Some(filter), from: 1, gaps: Gaps::Allowed };
            let mut ordered = Ordered::new(&self.connection, query);
            for left in (0..record.chunks).rev() {
                let delivery = ordered.next().await.map_err(unavailable)?;
                bytes.extend_from_slice(&delivery.payload);
                if bytes.len() as u64 > record.size || (left > 0 && delivery.pending == 0) {
                    return Err(corrupt());
                }
            }
        }
        if hex_of(&Sha256::digest(&bytes)) == hex { Ok(bytes) } else { Err(corrupt()) }
    }
}

fn unavailable(error: impl std::fmt::Display) -> BlobError {
    BlobError::Unavailable(error.to_string())
}
fn named(hex: &str) -> String {
    ["sha256:", hex].concat()
}
fn record_subject(hex: &str) -> String {
    ["$O.", BLOBS_BUCKET, ".M.", &URL_SAFE.encode(hex)].concat()
}
fn chunk_subject(nuid: &str) -> String {
    ["$O.", BLOBS_BUCKET, ".C.", nuid].concat()
}
fn chunk_count(size: u64) -> u64 {
    size.div_ceil(BLOB_CHUNK_BYTES as u64)
}
fn chunks_of(bytes: &Bytes) -> Vec<Bytes> {
    bytes.chunks(BLOB_CHUNK_BYTES).map(|chunk| bytes.slice_ref(chunk)).collect()
}
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric())
}
fn hex_of(digest: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    digest.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

impl Blobs for JetBlobs {
    fn put(&self, bytes: Vec<u8>) -> BoxFuture<'_, Result<String, BlobError>> {
        Box::pin(self.store(bytes.into()))
    }

    fn get<'a>(&'a self, digest: &'a str) -> BoxFuture<'a, Result<Vec<u8>, BlobError>> {
        Box::pin(self.fetch(digest))
    }
}
