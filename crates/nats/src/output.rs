//! The output port over the OUTPUT stream. One writer for each dispatch, held by the expected sequence.

use crate::connect::{Connection, REQUEST_TIMEOUT};
use crate::ordered::{Gaps, Ordered, Query};
use crate::wire::{ApiError, code, pub_ack};
use async_nats::HeaderMap;
use custody_ports::inputs::Inputs;
use custody_ports::output::{Output, OutputError, StoredChunk};
use custody_streams::LogSubject;
use custody_streams::spec::OUTPUT;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::json;

/// How often one chunk is sent when no answer comes.
const SENDS_MAX: u32 = 3;
/// The most chunks of one dispatch that are read at once.
pub const CHUNKS_MAX: usize = 100_000;

/// OUTPUT on JetStream.
#[derive(Debug, Clone)]
pub struct JetOutput {
    connection: Connection,
}

fn unavailable(error: impl std::fmt::Display) -> OutputError {
    OutputError::Unavailable(error.to_string())
}

fn topic(dispatch: &str) -> Result<String, OutputError> {
    Ok(LogSubject::out(dispatch).map_err(unavailable)?.to_string())
}

impl JetOutput {
    /// The OUTPUT of a server.
    pub fn new(connection: &Connection) -> JetOutput {
        JetOutput { connection: connection.clone() }
    }

    async fn send(&self, topic: &str, last_seq: u64, message_id: &str, bytes: Vec<u8>) -> Result<u64, OutputError> {
        let mut why = String::new();
        let payload = bytes::Bytes::from(bytes);
        for _ in 0..SENDS_MAX {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", message_id);
            headers.insert("Nats-Expected-Stream", OUTPUT);
            headers.insert("Nats-Expected-Last-Subject-Sequence", last_seq.to_string());
            let asked = self.connection.ask(topic, Some(headers), payload.clone(), REQUEST_TIMEOUT).await;
            match asked.map_err(ApiError::from).and_then(|answer| pub_ack(&answer.payload)) {
                Ok(ack) => return Ok(ack.seq),
                Err(ApiError::Api {
                    code: code::WRONG_LAST_SEQUENCE | code::WRONG_LAST_SEQUENCE_IN_FLIGHT, ..
                }) => return self.resolve(topic, message_id).await,
                Err(error @ ApiError::Ask(_)) => why = error.to_string(),
                Err(error) => return Err(unavailable(error)),
            }
        }
        Err(OutputError::Unavailable(why))
    }

    /// The topic moved: by us, when an ack was lost, or by another writer.
    async fn resolve(&self, topic: &str, message_id: &str) -> Result<u64, OutputError> {
        let query = json!({ "last_by_subj": topic });
        let last = self.connection.leader_get(OUTPUT, &query).await.map_err(unavailable)?;
        match last {
            Some(last) if last.message_id.as_deref() == Some(message_id) => Ok(last.seq),
            _ => Err(OutputError::Conflict(topic.to_owned())),
        }
    }

    fn ordered(&self, topic: String) -> Ordered {
        let query = Query { stream: OUTPUT.to_owned(), filter: Some(topic), from: 1, gaps: Gaps::Allowed };
        Ordered::new(&self.connection, query)
    }

    async fn read_all(&self, dispatch: &str) -> Result<Vec<StoredChunk>, OutputError> {
        let topic = topic(dispatch)?;
        let query = json!({ "last_by_subj": topic });
        let last = self.connection.leader_get(OUTPUT, &query).await.map_err(unavailable)?;
        let Some(last) = last.map(|m| m.seq) else { return Ok(Vec::new()) };
        let mut chunks = Vec::new();
        let mut ordered = self.ordered(topic);
        while chunks.len() < CHUNKS_MAX {
            let delivery = ordered.next().await.map_err(unavailable)?;
            let seq = delivery.seq;
            chunks.push(StoredChunk { seq, bytes: delivery.payload.to_vec() });
            if seq >= last {
                return Ok(chunks);
            }
        }
        Err(OutputError::Unavailable(format!("more than {CHUNKS_MAX} chunks")))
    }
}

impl Output for JetOutput {
    fn append<'a>(
        &'a self,
        dispatch: &'a str,
        last_seq: u64,
        message_id: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<u64, OutputError>> {
        Box::pin(async move { self.send(&topic(dispatch)?, last_seq, message_id, bytes).await })
    }

    fn tell<'a>(
        &'a self,
        launcher: &'a str,
        dispatch: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), OutputError>> {
        Box::pin(async move {
            let subject = LogSubject::heard(launcher, dispatch).map_err(unavailable)?.to_string();
            self.connection.client().publish(subject, bytes.into()).await.map_err(unavailable)
        })
    }

    fn last<'a>(&'a self, dispatch: &'a str) -> BoxFuture<'a, Result<Option<StoredChunk>, OutputError>> {
        Box::pin(async move {
            let query = json!({ "last_by_subj": topic(dispatch)? });
            let last = self.connection.leader_get(OUTPUT, &query).await.map_err(unavailable)?;
            Ok(last.map(|m| StoredChunk { seq: m.seq, bytes: m.bytes }))
        })
    }

    fn all<'a>(&'a self, dispatch: &'a str) -> BoxFuture<'a, Result<Vec<StoredChunk>, OutputError>> {
        Box::pin(self.read_all(dispatch))
    }

    fn follow<'a>(
        &'a self,
        dispatch: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<StoredChunk, OutputError>>, OutputError>> {
        Box::pin(async move {
            let state = Some(self.ordered(topic(dispatch)?));
            let chunks = stream::unfold(state, |state| async move {
                let mut ordered = state?;
                match ordered.next().await {
                    Ok(d) => Some((Ok(StoredChunk { seq: d.seq, bytes: d.payload.to_vec() }), Some(ordered))),
                    Err(error) => Some((Err(unavailable(error)), None)),
                }
            });
            Ok(chunks.boxed())
        })
    }
}

impl Inputs for JetOutput {
    fn keep<'a>(
        &'a self,
        dispatch: &'a str,
        message_id: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<u64, OutputError>> {
        Box::pin(async move {
            let topic = LogSubject::input(dispatch).map_err(unavailable)?.to_string();
            let payload = bytes::Bytes::from(bytes);
            let mut why = String::new();
            for _ in 0..SENDS_MAX {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", message_id);
                headers.insert("Nats-Expected-Stream", OUTPUT);
                let asked = self.connection.ask(&topic, Some(headers), payload.clone(), REQUEST_TIMEOUT).await;
                match asked.map_err(ApiError::from).and_then(|answer| pub_ack(&answer.payload)) {
                    Ok(ack) => return Ok(ack.seq),
                    Err(error @ ApiError::Ask(_)) => why = error.to_string(),
                    Err(error) => return Err(unavailable(error)),
                }
            }
            Err(OutputError::Unavailable(why))
        })
    }

    fn at<'a>(&'a self, dispatch: &'a str, seq: u64) -> BoxFuture<'a, Result<Option<Vec<u8>>, OutputError>> {
        Box::pin(async move {
            let topic = LogSubject::input(dispatch).map_err(unavailable)?.to_string();
            let found = self.connection.leader_get(OUTPUT, &json!({ "seq": seq })).await.map_err(unavailable)?;
            Ok(found.filter(|message| message.subject == topic).map(|message| message.bytes))
        })
    }
}
