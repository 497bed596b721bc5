//! An object store of JetStream in the form of NATS ADR-20, so that `nats object` can read it: every upload has chunks of
//! its own and one small record under the name, written last and only if there is none, so no upload ever changes or
//! purges another's. Below the blob port and the object port. Must never return bytes that do not have their digest.

use crate::connect::{Connection, REQUEST_TIMEOUT};
use crate::ordered::{Gaps, Ordered, Query};
use crate::wire::{ApiError, code, pub_ack};
use async_nats::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use custody_ports::objects::{Created, OBJECT_BYTES_MAX, ObjectError, Objects};
use custody_streams::spec::{BLOB_CHUNK_BYTES, WORKSPACES, WORKSPACES_BUCKET};
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Chunks on their way at the same time.
const CHUNKS_IN_FLIGHT: usize = 8;
/// How often one chunk is sent when no answer comes.
const SENDS_MAX: u32 = 3;

/// One object store.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    connection: Connection,
    stream: &'static str,
    bucket: &'static str,
    /// The largest object.
    most: u64,
}

/// The record of one object: ADR-20's object info.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    name: String,
    bucket: String,
    nuid: String,
    size: u64,
    chunks: u64,
    digest: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

/// What was found under a name.
pub(crate) enum Fetched {
    Bytes(Vec<u8>),
    Missing,
    Corrupt,
}

impl Store {
    pub(crate) fn new(connection: &Connection, stream: &'static str, bucket: &'static str, most: u64) -> Store {
        Store { connection: connection.clone(), stream, bucket, most }
    }

    /// The record of a name and its sequence.
    pub(crate) async fn record(&self, name: &str) -> Result<Option<Result<Record, ()>>, String> {
        let query = json!({ "last_by_subj": self.record_subject(name) });
        let Some(message) = self.connection.leader_get(self.stream, &query).await.map_err(text)? else {
            return Ok(None);
        };
        match serde_json::from_slice::<Record>(&message.bytes) {
            Ok(record) if record.deleted => Ok(None),
            Ok(record) => Ok(Some(Ok(record))),
            Err(_) => Ok(Some(Err(()))),
        }
    }

    /// Makes an object under a name. `false`: there is one already, and it was not touched.
    pub(crate) async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, String> {
        if self.record(name).await?.is_some() {
            return Ok(false);
        }
        let size = bytes.len() as u64;
        let nuid = self.connection.unique();
        let chunk_subject = self.chunk_subject(&nuid);
        let chunks: Vec<Bytes> = bytes.chunks(BLOB_CHUNK_BYTES).map(|chunk| bytes.slice_ref(chunk)).collect();
        let count = chunks.len() as u64;
        let mut last = 0;
        // The first chunk must be the first of its subject; the others follow in order on one connection.
        let sent: Vec<Option<u64>> = stream::iter((1u64..).zip(chunks))
            .map(|(index, chunk)| {
                let id = [&nuid, "/", &index.to_string()].concat();
                self.send(&chunk_subject, Some(id), chunk, None)
            })
            .buffered(CHUNKS_IN_FLIGHT)
            .try_collect()
            .await?;
        for seq in sent.into_iter().flatten() {
            if seq <= last {
                return Err("chunks were stored out of order".to_owned());
            }
            last = seq;
        }
        let record = Record {
            name: name.to_owned(),
            bucket: self.bucket.to_owned(),
            nuid: nuid.clone(),
            size,
            chunks: count,
            digest: ["SHA-256=", &URL_SAFE.encode(Sha256::digest(&bytes))].concat(),
            deleted: false,
        };
        let body = serde_json::to_vec(&record).map_err(text)?;
        let id = [nuid.as_str(), "/record"].concat();
        let made = self.send(&self.record_subject(name), Some(id), body.into(), Some(0)).await?.is_some();
        Ok(made)
    }

    /// Stores an object of at most one chunk as one message under its name, which is a token: one durable write in place
    /// of two, one after the other. `false`: there is one already, and it was not touched.
    pub(crate) async fn create_lone(&self, name: &str, bytes: Bytes) -> Result<bool, String> {
        // No message id: one that was purged could not be stored again for as long as the server remembers ids, and the
        // expectation says the same.
        Ok(self.send(&self.chunk_subject(name), None, bytes, Some(0)).await?.is_some())
    }

    /// The bytes of what [`Store::create_lone`] stored, as they are there.
    pub(crate) async fn fetch_lone(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let query = json!({ "last_by_subj": self.chunk_subject(name) });
        let found = self.connection.leader_get(self.stream, &query).await.map_err(text)?;
        Ok(found.map(|message| message.bytes))
    }

    /// Stores one message. With an expectation, `None`: somebody was there first.
    async fn send(
        &self,
        subject: &str,
        id: Option<String>,
        payload: Bytes,
        expected: Option<u64>,
    ) -> Result<Option<u64>, String> {
        let mut why = String::new();
        for _ in 0..SENDS_MAX {
            let mut headers = HeaderMap::new();
            if let Some(id) = &id {
                headers.insert("Nats-Msg-Id", id.as_str());
            }
            headers.insert("Nats-Expected-Stream", self.stream);
            if let Some(expected) = expected {
                headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
            }
            let asked = self.connection.ask(subject, Some(headers), payload.clone(), REQUEST_TIMEOUT).await;
            match asked.map_err(ApiError::from).and_then(|answer| pub_ack(&answer.payload)) {
                Ok(ack) => return Ok(Some(ack.seq)),
                Err(ApiError::Api { code: code::WRONG_LAST_SEQUENCE, .. }) if expected.is_some() => return Ok(None),
                Err(error @ ApiError::Ask(_)) => why = error.to_string(),
                Err(error) => return Err(text(error)),
            }
        }
        Err(why)
    }

    /// The bytes under a name, checked against the digest of their record.
    pub(crate) async fn fetch(&self, name: &str) -> Result<Fetched, String> {
        let record = match self.record(name).await? {
            None => return Ok(Fetched::Missing),
            Some(Err(())) => return Ok(Fetched::Corrupt),
            Some(Ok(record)) => record,
        };
        if record.size > self.most || record.chunks != chunk_count(record.size) || !is_token(&record.nuid) {
            return Ok(Fetched::Corrupt);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(record.size).unwrap_or(0));
        if record.chunks > 0 {
            let filter = self.chunk_subject(&record.nuid);
            let query = json!({ "last_by_subj": filter });
            // Without its chunks the reader would wait for ever.
            if self.connection.leader_get(self.stream, &query).await.map_err(text)?.is_none() {
                return Ok(Fetched::Corrupt);
            }
            let query = Query { stream: self.stream.to_owned(), filter: Some(filter), from: 1, gaps: Gaps::Allowed };
            let mut ordered = Ordered::new(&self.connection, query);
            for left in (0..record.chunks).rev() {
                let delivery = ordered.next().await.map_err(text)?;
                bytes.extend_from_slice(&delivery.payload);
                if bytes.len() as u64 > record.size || (left > 0 && delivery.pending == 0) {
                    return Ok(Fetched::Corrupt);
                }
            }
        }
        let digest = ["SHA-256=", &URL_SAFE.encode(Sha256::digest(&bytes))].concat();
        if digest == record.digest { Ok(Fetched::Bytes(bytes)) } else { Ok(Fetched::Corrupt) }
    }

    /// Says in the record that the object is gone and purges its chunks. Needs a right that only some users have.
    async fn remove(&self, name: &str) -> Result<(), String> {
        let Some(Ok(record)) = self.record(name).await? else { return Ok(()) };
        if !is_token(&record.nuid) {
            return Err(format!("the record of {name} is damaged"));
        }
        let nuid = record.nuid.clone();
        let gone = Record { deleted: true, size: 0, chunks: 0, ..record };
        let body = serde_json::to_vec(&gone).map_err(text)?;
        let id = [nuid.as_str(), "/gone"].concat();
        self.send(&self.record_subject(name), Some(id), body.into(), None).await?;
        let filter = json!({ "filter": self.chunk_subject(&nuid) });
        let purge = ["STREAM.PURGE.", self.stream].concat();
        let _answer: serde_json::Value = self.connection.api(&purge, &filter).await.map_err(text)?;
        Ok(())
    }

    fn record_subject(&self, name: &str) -> String {
        ["$O.", self.bucket, ".M.", &URL_SAFE.encode(name)].concat()
    }

    fn chunk_subject(&self, nuid: &str) -> String {
        ["$O.", self.bucket, ".C.", nuid].concat()
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn chunk_count(size: u64) -> u64 {
    size.div_ceil(BLOB_CHUNK_BYTES as u64)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// The object port over the object store of workspaces.
#[derive(Debug, Clone)]
pub struct JetObjects(Store);

impl JetObjects {
    /// The objects of workspaces whose bucket is `nats://workspaces`.
    pub fn workspaces(connection: &Connection) -> JetObjects {
        JetObjects(Store::new(connection, WORKSPACES, WORKSPACES_BUCKET, OBJECT_BYTES_MAX))
    }
}

impl Objects for JetObjects {
    fn create<'a>(&'a self, key: &'a str, bytes: Vec<u8>) -> BoxFuture<'a, Result<Created, ObjectError>> {
        Box::pin(async move {
            let size = bytes.len() as u64;
            if size > OBJECT_BYTES_MAX {
                return Err(ObjectError::TooLarge { key: key.to_owned(), bytes: size });
            }
            let made = self.0.create(key, bytes.into()).await.map_err(ObjectError::Unavailable)?;
            Ok(if made { Created::New } else { Created::Taken })
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, ObjectError>> {
        Box::pin(async move {
            match self.0.fetch(key).await.map_err(ObjectError::Unavailable)? {
                Fetched::Bytes(bytes) => Ok(Some(bytes)),
                Fetched::Missing => Ok(None),
                Fetched::Corrupt => Err(ObjectError::Corrupt(key.to_owned())),
            }
        })
    }

    fn remove<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ObjectError>> {
        Box::pin(async move { self.0.remove(key).await.map_err(ObjectError::Unavailable) })
    }
}
