//! The ledger port over JetStream. Must never answer an append that is not durable, and never read from a follower
//! where a decision depends on it.

use crate::appender::{Appender, HISTORY_MAX};
use crate::connect::Connection;
use crate::ordered::{Gaps, Ordered, OrderedError, Query};
use crate::wire::{ApiError, AskError, code, header_number};
use async_nats::{HeaderMap, Message, StatusCode};
use custody_ledger::{Append, AppendError, Entity, Log, LogError, Seq, Stored};
use custody_streams::spec::LEDGER;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::json;
use std::sync::Arc;

/// Messages of one entity asked for at a time.
const PAGE: u64 = 500;

/// Who answers reads of one entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// The only server there is: it may send many messages for one question.
    OnlyReplica,
    /// The stream's leader, message by message.
    Leader,
}

/// The ledger on JetStream. Clones share one connection and one appender.
#[derive(Debug, Clone)]
pub struct JetLog {
    connection: Connection,
    appender: Appender,
    stream: Arc<str>,
    reads: Reads,
}

impl JetLog {
    /// The LEDGER of a server.
    ///
    /// # Errors
    /// [`ApiError`] when the stream does not exist or its configuration cannot be read.
    pub async fn open(connection: &Connection) -> Result<JetLog, ApiError> {
        JetLog::open_stream(connection, LEDGER).await
    }

    /// A stream of the ledger's form under another name, for measurements.
    ///
    /// # Errors
    /// [`ApiError`] when the stream does not exist or its configuration cannot be read.
    pub async fn open_stream(connection: &Connection, stream: &str) -> Result<JetLog, ApiError> {
        let info = connection.stream_info(stream).await?;
        let direct = info.config["allow_direct"] == json!(true);
        let reads = if direct && info.config["num_replicas"] == json!(1) { Reads::OnlyReplica } else { Reads::Leader };
        let appender = Appender::start(connection.clone(), stream);
        Ok(JetLog { connection: connection.clone(), appender, stream: stream.into(), reads })
    }

    async fn load_all(&self, entity: &Entity) -> Result<Vec<Stored>, LogError> {
        let subject = entity.log_subject();
        let mut history = Vec::new();
        let mut from = 1;
        loop {
            let (page, more) = match self.reads {
                Reads::OnlyReplica => self.page(&subject, from).await?,
                Reads::Leader => self.one(&subject, from).await?,
            };
            let Some(last) = page.last() else { return Ok(history) };
            from = last.seq.0 + 1;
            history.extend(page);
            if history.len() > HISTORY_MAX {
                let why = format!("{subject} has more than {HISTORY_MAX} messages");
                return Err(LogError::Broken { seq: from - 1, why });
            }
            if !more {
                return Ok(history);
            }
        }
    }

    /// One message from the leader.
    async fn one(&self, subject: &str, from: u64) -> Result<(Vec<Stored>, bool), LogError> {
        let query = json!({ "seq": from, "next_by_subj": subject });
        let message = self.connection.leader_get(&self.stream, &query).await.map_err(unavailable)?;
        let stored = message.map(|m| Stored {
            seq: Seq(m.seq),
            log_subject: m.subject,
            message_id: m.message_id,
            bytes: m.bytes,
        });
        Ok((stored.into_iter().collect(), true))
    }

    /// Many messages for one question, and whether there are more. Source: NATS ADR-31, batched requests.
    async fn page(&self, subject: &str, from: u64) -> Result<(Vec<Stored>, bool), LogError> {
        let client = self.connection.client();
        let lost = |e: &dyn std::fmt::Display| LogError::Unavailable(e.to_string());
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|e| lost(&e))?;
        let query = json!({ "seq": from, "batch": PAGE, "next_by_subj": subject }).to_string();
        let api = ["$JS.API.DIRECT.GET.", &self.stream].concat();
        client.publish_with_reply(api, inbox, query.into()).await.map_err(|e| lost(&e))?;
        let mut page = Vec::new();
        loop {
            let answer = tokio::time::timeout(crate::connect::REQUEST_TIMEOUT, answers.next()).await;
            let Ok(Some(message)) = answer else {
                return Err(LogError::Unavailable(format!("no answer for the history of {subject}")));
            };
            match message.status {
                // End of batch.
                Some(status) if status.as_u16() == 204 => {
                    let more = header_number(message.headers.as_ref(), "Nats-Num-Pending").unwrap_or(0) > 0;
                    return Ok((page, more));
                }
                Some(StatusCode::NOT_FOUND) => return Ok((page, false)),
                Some(status) => {
                    return Err(LogError::Unavailable(format!("history of {subject}: status {status}")));
                }
                None => page.push(direct(message)?),
            }
        }
    }

    /// Where the stream ends, when it holds everything from its beginning to there: what an administrator may do to it
    /// (trim, empty, remove) shows here at once, and to a reader that is already past it never.
    async fn last(&self) -> Result<u64, LogError> {
        let state = self.connection.stream_info(&self.stream).await.map_err(unavailable)?.state;
        if state.last_seq == 0 || (state.first_seq == 1 && state.messages == state.last_seq) {
            return Ok(state.last_seq);
        }
        let (messages, first, last) = (state.messages, state.first_seq, state.last_seq);
        let missing = if first > 1 { 1 } else { last };
        Err(LogError::Broken { seq: missing, why: format!("{messages} messages are left from {first} to {last}") })
    }

    fn ordered(&self, from: Seq) -> Ordered {
        let query = Query { stream: self.stream.to_string(), filter: None, from: from.0, gaps: Gaps::Refused };
        Ordered::new(&self.connection, query)
    }
}

/// A message of a direct get: its place is in headers that the server added.
fn direct(message: Message) -> Result<Stored, LogError> {
    let headers = message.headers.as_ref();
    let text = |name: &str| headers.and_then(|h| h.get(name)).map(|v| v.as_str().to_owned());
    match (header_number(headers, "Nats-Sequence"), text("Nats-Subject")) {
        (Some(seq), Some(log_subject)) => {
            Ok(Stored { seq: Seq(seq), log_subject, message_id: text("Nats-Msg-Id"), bytes: message.payload.to_vec() })
        }
        _ => Err(LogError::Broken { seq: 0, why: "a direct get without its place".to_owned() }),
    }
}

pub(crate) fn message_id(headers: Option<&HeaderMap>) -> Option<String> {
    headers?.get("Nats-Msg-Id").map(|v| v.as_str().to_owned())
}

fn unavailable(error: ApiError) -> LogError {
    match &error {
        ApiError::Api { code: code::STREAM_NOT_FOUND, .. } => {
            LogError::Broken { seq: 0, why: "the stream does not exist".to_owned() }
        }
        ApiError::Ask(AskError::Refused(_)) | ApiError::Ask(_) | ApiError::Api { .. } | ApiError::Malformed(_) => {
            LogError::Unavailable(error.to_string())
        }
    }
}

impl From<OrderedError> for LogError {
    fn from(error: OrderedError) -> LogError {
        match error {
            OrderedError::Gap { after, found } => {
                LogError::Broken { seq: after + 1, why: format!("the next message has sequence {found}") }
            }
            OrderedError::GaveUp(why) => LogError::Unavailable(why),
            OrderedError::Api(error) => unavailable(error),
        }
    }
}

/// Everything from `ordered`, until `last` when there is one, or until the first error.
fn stream_of(ordered: Ordered, last: Option<u64>) -> BoxStream<'static, Result<Stored, LogError>> {
    let state = Some((ordered, last));
    stream::unfold(state, |state| async move {
        let (mut ordered, last) = state?;
        match ordered.next().await {
            Ok(delivery) => {
                let ended = last.is_some_and(|last| delivery.seq >= last);
                let stored = Stored {
                    seq: Seq(delivery.seq),
                    message_id: message_id(delivery.headers.as_ref()),
                    log_subject: delivery.subject.to_string(),
                    bytes: delivery.payload.to_vec(),
                };
                Some((Ok(stored), (!ended).then_some((ordered, last))))
            }
            Err(error) => Some((Err(error.into()), None)),
        }
    })
    .boxed()
}

impl Log for JetLog {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Seq, AppendError>> {
        Box::pin(self.appender.append(append))
    }

    fn load<'a>(&'a self, entity: &'a Entity) -> BoxFuture<'a, Result<Vec<Stored>, LogError>> {
        Box::pin(self.load_all(entity))
    }

    fn read(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        Box::pin(async move {
            let last = self.last().await?;
            if from.0 > last {
                return Ok(stream::empty().boxed());
            }
            Ok(stream_of(self.ordered(from), Some(last)))
        })
    }

    fn tail(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        Box::pin(async move { Ok(stream_of(self.ordered(from), None)) })
    }

    fn last_seq(&self) -> BoxFuture<'_, Result<Seq, LogError>> {
        Box::pin(async move { Ok(Seq(self.last().await?)) })
    }
}
