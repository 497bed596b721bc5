//! An ordered push consumer of our own: the fastest way to read a stream, with every delivery checked against the one
//! before it, and made anew from the cursor whenever anything is wrong. Must never hand out a message twice or skip one.
//!
//! async-nats has one too; this one knows the stream's rules (a ledger has no holes), says when it gives up, and
//! notices a restarted server at once instead of by a missed heartbeat.

use crate::connect::Connection;
use crate::wire::{ApiError, AskError, header_number};
use async_nats::{HeaderMap, Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use serde_json::json;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often an idle consumer shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Silence after which the consumer is made anew.
const SILENCE_MAX: Duration = Duration::from_secs(6);
/// Silence and failed tries after which the reader gives up.
pub(crate) const NO_PROGRESS_MAX: Duration = Duration::from_secs(30);
/// How long the server keeps a consumer that nobody listens to.
const INACTIVE_NANOS: u64 = 10_000_000_000;
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Which sequences follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gaps {
    /// None may be missing: the ledger.
    Refused,
    /// Some may be: a filtered or ageing stream.
    Allowed,
}

/// What to read.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) stream: String,
    pub(crate) filter: Option<String>,
    pub(crate) from: u64,
    pub(crate) gaps: Gaps,
}

/// One message.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) seq: u64,
    /// How many more there were when the server sent it.
    pub(crate) pending: u64,
    pub(crate) subject: Subject,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) payload: Bytes,
}

/// Why reading ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OrderedError {
    /// A sequence is missing in the stream itself.
    #[error("after {after} comes {found}")]
    Gap { after: u64, found: u64 },
    /// Nothing came and nothing could be made for too long.
    #[error("{0}")]
    GaveUp(String),
    /// It will not get better by itself.
    #[error(transparent)]
    Api(#[from] ApiError),
}

struct Live {
    subscriber: Subscriber,
    consumer_seq: u64,
}

pub(crate) struct Ordered {
    connection: Connection,
    connects: watch::Receiver<u64>,
    query: Query,
    /// Next stream sequence wanted.
    next: u64,
    live: Option<Live>,
    retry: Duration,
    /// When the server last showed that a consumer lives, or the first was asked for.
    progress: Option<Instant>,
    /// When the last message came, or the stream was last asked whether one should have.
    heard: Instant,
}

impl Ordered {
    pub(crate) fn new(connection: &Connection, query: Query) -> Ordered {
        Ordered {
            connection: connection.clone(),
            connects: connection.connects(),
            next: query.from.max(1),
            query,
            live: None,
            retry: RETRY_MIN,
            progress: None,
            heard: Instant::now(),
        }
    }

    /// The next message. Cancelling the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Delivery, OrderedError> {
        loop {
            let Some(live) = self.live.as_mut() else {
                self.open().await?;
                continue;
            };
            // Under load the next message is here already, and a timer for each would be the dearest part.
            let message = match live.subscriber.next().now_or_never() {
                Some(message) => message,
                None => match self.wait().await {
                    Waited::Message(message) => message,
                    Waited::Anew => {
                        self.live = None;
                        continue;
                    }
                    Waited::GaveUp(why) => return Err(OrderedError::GaveUp(why)),
                },
            };
            let Some(message) = message else {
                self.live = None;
                continue;
            };
            if let Some(delivery) = self.take(message).await? {
                return Ok(delivery);
            }
        }
    }

    async fn wait(&mut self) -> Waited {
        let Some(live) = self.live.as_mut() else { return Waited::Anew };
        tokio::select! {
            biased;
            message = live.subscriber.next() => Waited::Message(message),
            changed = self.connects.changed() => match changed {
                Ok(()) => Waited::Anew,
                Err(_) => Waited::GaveUp("the connection is closed".to_owned()),
            },
            () = tokio::time::sleep(SILENCE_MAX) => Waited::Anew,
        }
    }

    /// Judges one delivery; `None` when it was not a message, or the consumer has to be made anew.
    async fn take(&mut self, message: Message) -> Result<Option<Delivery>, OrderedError> {
        if message.status.is_some() {
            self.status(message).await;
            return Ok(None);
        }
        let Some(at) = message.reply.as_deref().and_then(Place::parse) else {
            self.live = None;
            return Ok(None);
        };
        let Some(live) = self.live.as_mut() else { return Ok(None) };
        if at.consumer_seq != live.consumer_seq + 1 {
            // The client or the server dropped some; ask for them again.
            tracing::debug!(stream = self.query.stream, next = self.next, "deliveries were dropped");
            self.live = None;
            return Ok(None);
        }
        live.consumer_seq = at.consumer_seq;
        let contiguous = self.query.gaps == Gaps::Refused;
        if at.stream_seq < self.next || (contiguous && at.stream_seq != self.next) {
            return Err(OrderedError::Gap { after: self.next - 1, found: at.stream_seq });
        }
        self.next = at.stream_seq + 1;
        self.heard = Instant::now();
        self.progress = Some(self.heard);
        self.retry = RETRY_MIN;
        Ok(Some(Delivery {
            seq: at.stream_seq,
            pending: at.pending,
            subject: message.subject,
            headers: message.headers,
            payload: message.payload,
        }))
    }

    /// Heartbeats and flow control. Source: NATS ADR-15 and ADR-17.
    async fn status(&mut self, message: Message) {
        self.progress = Some(Instant::now());
        if message.status != Some(StatusCode::IDLE_HEARTBEAT) {
            // The consumer was deleted or its server stops.
            self.live = None;
            return;
        }
        let headers = message.headers.as_ref();
        let stalled = headers.and_then(|h| h.get("Nats-Consumer-Stalled")).map(|v| v.as_str().to_owned());
        if let Some(reply) = message.reply.map(|r| r.to_string()).or(stalled) {
            // A lost answer only stalls this consumer, and the silence that follows makes it anew.
            let answer = self.connection.client().publish(reply, Bytes::new());
            let _ = tokio::time::timeout(SILENCE_MAX, answer).await;
        }
        let sent = header_number(headers, "Nats-Last-Consumer");
        let seen = self.live.as_ref().map(|live| live.consumer_seq);
        if sent.is_some() && sent != seen {
            tracing::debug!(stream = self.query.stream, ?sent, ?seen, "deliveries are missing");
            self.live = None;
        }
        if self.heard.elapsed() >= NO_PROGRESS_MAX {
            self.heard = Instant::now();
            self.check_end().await;
        }
    }

    /// The watchdog: a consumer that beats but delivers nothing although there is something is made anew.
    async fn check_end(&mut self) {
        if self.query.filter.is_some() {
            return;
        }
        match self.connection.stream_info(&self.query.stream).await {
            Ok(info) if info.state.last_seq < self.next => {}
            Ok(info) => {
                tracing::warn!(
                    stream = self.query.stream,
                    next = self.next,
                    last = info.state.last_seq,
                    "consumer is stuck"
                );
                self.live = None;
            }
            Err(error) => tracing::debug!(stream = self.query.stream, %error, "stream info"),
        }
    }

    /// Makes the consumer, once; on a passing failure waits a little and leaves `live` empty.
    async fn open(&mut self) -> Result<(), OrderedError> {
        self.connects.borrow_and_update();
        let stuck = self.progress.get_or_insert_with(Instant::now).elapsed() >= NO_PROGRESS_MAX;
        match self.create().await {
            Ok(live) if !stuck => {
                self.live = Some(live);
                Ok(())
            }
            Ok(_) => Err(OrderedError::GaveUp(format!("consumers of {} are made but stay silent", self.query.stream))),
            Err(ApiError::Ask(AskError::Refused(subject))) => Err(ApiError::Ask(AskError::Refused(subject)).into()),
            Err(error) if stuck => Err(OrderedError::GaveUp(error.to_string())),
            Err(_) => {
                tokio::time::sleep(self.retry).await;
                self.retry = (self.retry * 2).min(RETRY_MAX);
                Ok(())
            }
        }
    }

    async fn create(&self) -> Result<Live, ApiError> {
        let client = self.connection.client();
        let deliver = self.connection.deliver_subject();
        let lost = |e: &dyn std::fmt::Display| ApiError::Ask(AskError::Lost(e.to_string()));
        let subscriber = client.subscribe(deliver.clone()).await.map_err(|e| lost(&e))?;
        let name = self.connection.unique();
        let mut config = json!({
            "name": name,
            "deliver_subject": deliver,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.next,
            "ack_policy": "none",
            "max_deliver": 1,
            "replay_policy": "instant",
            "flow_control": true,
            "idle_heartbeat": u64::try_from(HEARTBEAT.as_nanos()).unwrap_or(u64::MAX),
            "inactive_threshold": INACTIVE_NANOS,
            "num_replicas": 1,
            "mem_storage": true,
        });
        let stream = &self.query.stream;
        let mut call = ["CONSUMER.CREATE.", stream, ".", &name].concat();
        if let Some(filter) = &self.query.filter {
            config["filter_subject"] = json!(filter);
            call = [&call, ".", filter].concat();
        }
        let body = json!({ "stream_name": stream, "config": config, "action": "create" });
        let _: serde_json::Value = self.connection.api(&call, &body).await?;
        Ok(Live { subscriber, consumer_seq: 0 })
    }
}

enum Waited {
    Message(Option<Message>),
    Anew,
    GaveUp(String),
}

/// Where a delivery stands, from its ack subject:
/// `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`, or with domain and account
/// hash before the stream and an optional token after. Source: NATS ADR-15, and 2.15's default form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) delivered: u64,
    pub(crate) stream_seq: u64,
    pub(crate) consumer_seq: u64,
    pub(crate) time_nanos: u64,
    pub(crate) pending: u64,
}

impl Place {
    pub(crate) fn parse(reply: &str) -> Option<Place> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let skip = match rest.bytes().filter(|b| *b == b'.').count() {
            6 => 2,
            8.. => 4,
            _ => return None,
        };
        let mut tokens = rest.split('.').skip(skip);
        let mut number = || tokens.next()?.parse().ok();
        Some(Place {
            delivered: number()?,
            stream_seq: number()?,
            consumer_seq: number()?,
            time_nanos: number()?,
            pending: number()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[rstest::rstest]
    #[case::nine("$JS.ACK.LEDGER.c.1.20.3.1700000000000000000.4", Some((20, 3, 4)))]
    #[case::eleven("$JS.ACK._.hash.LEDGER.c.1.20.3.1700000000000000000.4", Some((20, 3, 4)))]
    #[case::with_token("$JS.ACK.dom.hash.LEDGER.c.1.20.3.1700000000000000000.4.rnd", Some((20, 3, 4)))]
    #[case::short("$JS.ACK.LEDGER.c.1.20.3", None)]
    #[case::not_a_number("$JS.ACK.LEDGER.c.1.x.3.17.4", None)]
    #[case::flow_control("$JS.FC.LEDGER.c.x", None)]
    #[case::empty("", None)]
    fn a_delivery_says_where_it_stands(#[case] reply: &str, #[case] wanted: Option<(u64, u64, u64)>) {
        assert_eq!(Place::parse(reply).map(|p| (p.stream_seq, p.consumer_seq, p.pending)), wanted);
    }
}
