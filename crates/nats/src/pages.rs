//! Pages by direct reads, and one tail of all output. Must never make a consumer for a reader of a page, and never be
//! asked where a decision depends on the answer: a direct read may come from a follower.

use crate::connect::{Connection, REQUEST_TIMEOUT};
use crate::ordered::{Gaps, Ordered, Query};
use crate::wire::header_number;
use async_nats::{Message, StatusCode};
use custody_ledger::{LogError, Seq, Stored};
use custody_ports::output::{OutputError, StoredChunk};
use custody_ports::pages::{LogPages, OutputPages, PAGE_MAX};
use custody_streams::LogSubject;
use custody_streams::spec::{LEDGER, OUTPUT};
use custody_streams::subject::{LEDGER_ALL, OUT_ALL};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::json;

/// Reads of screens.
#[derive(Debug, Clone)]
pub struct JetPages {
    connection: Connection,
}

struct Found {
    seq: u64,
    subject: String,
    message_id: Option<String>,
    bytes: Vec<u8>,
}

impl JetPages {
    /// Over a connection.
    pub fn new(connection: &Connection) -> JetPages {
        JetPages { connection: connection.clone() }
    }

    async fn chunks(&self, topic: &str, after: u64, max: usize) -> Result<Vec<StoredChunk>, OutputError> {
        let page = self.batch(OUTPUT, topic, after + 1, max).await.map_err(OutputError::Unavailable)?;
        Ok(page.into_iter().map(|m| StoredChunk { seq: m.seq, bytes: m.bytes }).collect())
    }

    /// Many messages for one question. Source: NATS ADR-31, batched requests.
    async fn batch(&self, stream: &str, filter: &str, from: u64, max: usize) -> Result<Vec<Found>, String> {
        let client = self.connection.client();
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|e| e.to_string())?;
        let max = max.clamp(1, PAGE_MAX);
        let query = json!({ "seq": from.max(1), "batch": max, "next_by_subj": filter }).to_string();
        let api = ["$JS.API.DIRECT.GET.", stream].concat();
        client.publish_with_reply(api, inbox, query.into()).await.map_err(|e| e.to_string())?;
        let mut page = Vec::new();
        loop {
            let answer = tokio::time::timeout(REQUEST_TIMEOUT, answers.next()).await;
            let Ok(Some(message)) = answer else { return Err(format!("no answer for a page of {stream}")) };
            match message.status {
                // End of batch, or nothing there.
                Some(status) if status.as_u16() == 204 || status == StatusCode::NOT_FOUND => return Ok(page),
                Some(status) => return Err(format!("a page of {stream}: status {status}")),
                None => page.push(found(message)?),
            }
        }
    }
}

/// A message of a direct get: its place is in headers that the server added.
fn found(message: Message) -> Result<Found, String> {
    let headers = message.headers.as_ref();
    let text = |name: &str| headers.and_then(|h| h.get(name)).map(|v| v.as_str().to_owned());
    match (header_number(headers, "Nats-Sequence"), text("Nats-Subject")) {
        (Some(seq), Some(subject)) => {
            Ok(Found { seq, subject, message_id: text("Nats-Msg-Id"), bytes: message.payload.to_vec() })
        }
        _ => Err("a direct get without its place".to_owned()),
    }
}

impl LogPages for JetPages {
    fn page(&self, from: Seq, max: usize) -> BoxFuture<'_, Result<Vec<Stored>, LogError>> {
        Box::pin(async move {
            let page = self.batch(LEDGER, LEDGER_ALL, from.0, max).await.map_err(LogError::Unavailable)?;
            let stored = page.into_iter().map(|m| Stored {
                seq: Seq(m.seq),
                log_subject: m.subject,
                message_id: m.message_id,
                bytes: m.bytes,
            });
            Ok(stored.collect())
        })
    }
}

impl OutputPages for JetPages {
    fn page<'a>(
        &'a self,
        dispatch: &'a str,
        after: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredChunk>, OutputError>> {
        Box::pin(async move {
            let topic = LogSubject::out(dispatch).map_err(|e| OutputError::Unavailable(e.to_string()))?.to_string();
            self.chunks(&topic, after, max).await
        })
    }

    fn said<'a>(
        &'a self,
        dispatch: &'a str,
        after: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredChunk>, OutputError>> {
        Box::pin(async move {
            let topic = LogSubject::input(dispatch).map_err(|e| OutputError::Unavailable(e.to_string()))?.to_string();
            self.chunks(&topic, after, max).await
        })
    }

    fn last_seq(&self) -> BoxFuture<'_, Result<u64, OutputError>> {
        Box::pin(async move {
            let info = self.connection.stream_info(OUTPUT).await;
            Ok(info.map_err(|e| OutputError::Unavailable(e.to_string()))?.state.last_seq)
        })
    }

    fn tail(&self, after: u64) -> BoxStream<'static, Result<(String, StoredChunk), OutputError>> {
        let query =
            Query { stream: OUTPUT.to_owned(), filter: Some(OUT_ALL.to_owned()), from: after + 1, gaps: Gaps::Allowed };
        let state = Some(Ordered::new(&self.connection, query));
        stream::unfold(state, |state| async move {
            let mut ordered = state?;
            match ordered.next().await {
                Ok(d) => {
                    let dispatch = d.subject.split('.').nth(1).unwrap_or_default().to_owned();
                    Some((Ok((dispatch, StoredChunk { seq: d.seq, bytes: d.payload.to_vec() })), Some(ordered)))
                }
                Err(error) => Some((Err(OutputError::Unavailable(error.to_string())), None)),
            }
        })
        .boxed()
    }
}
