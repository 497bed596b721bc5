//! The launch port over the durable consumer of LAUNCH. A message is acknowledged only after its decision is durable,
//! with an ack that the server confirms; everything else comes again. A server that is killed may forget the latest acks,
//! so even a message that is done can come again: whoever decides must recognise it. Must never drop an unread message.

use crate::connect::Connection;
use crate::ordered::Place;
use crate::wire::ApiError;
use async_nats::jetstream::consumer::{Consumer, PullConsumer, pull};
use async_nats::jetstream::message::{AckKind, Acker};
use custody_contracts::ids::UnixMillis;
use custody_ports::launches::{Launch, LaunchError, Launches};
use custody_streams::LogSubject;
use custody_streams::spec::{LAUNCH, LAUNCH_CONSUMER};
use futures::future::BoxFuture;
use futures::stream::StreamExt;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Messages fetched before they are asked for: small, so that none waits in the buffer longer than the ack wait.
pub const PREFETCH_MAX: usize = 64;
/// Messages handed out and not yet acknowledged, over all replicas.
pub const ACK_PENDING_MAX: usize = 256;
/// After this a message that nobody acknowledged comes again. Short, because a message without a byte ends the server's
/// answer to the pull that it is a part of (nats-server 2.15.1 takes it for the end of a service's response), and what
/// the server sent after it is lost on the way: a launcher must not be able to hold up others for long. A message that
/// comes again while it is being decided is recognised.
const ACK_WAIT_NANOS: u64 = 3_000_000_000;
/// A pull that has ended so is noticed after two of these.
const HEARTBEAT: Duration = Duration::from_millis(500);
const EXPIRES: Duration = Duration::from_secs(10);
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// The longest delay before a message that could not be decided comes again.
const LATER_MAX: Duration = Duration::from_secs(30);

/// What a launcher published at a sequence of LAUNCH; `None` when it is no longer kept or is no text.
///
/// # Errors
/// [`ApiError`] when the stream cannot be asked.
pub async fn stored(connection: &Connection, seq: u64) -> Result<Option<String>, ApiError> {
    let found = connection.leader_get(LAUNCH, &json!({ "seq": seq })).await?;
    Ok(found.and_then(|message| String::from_utf8(message.bytes).ok()))
}

/// One handed-out message.
struct Open {
    acker: Acker,
    delivered: u64,
}

/// The launches of a server.
pub struct JetLaunches {
    connection: Connection,
    messages: tokio::sync::Mutex<Option<pull::Stream>>,
    open: Mutex<BTreeMap<u64, Open>>,
}

impl std::fmt::Debug for JetLaunches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JetLaunches")
    }
}

fn failed(error: impl std::fmt::Display) -> LaunchError {
    LaunchError(error.to_string())
}

impl JetLaunches {
    /// Makes the durable consumer if it is not there, and reads from it.
    ///
    /// # Errors
    /// [`LaunchError`] when the consumer cannot be made.
    pub async fn open(connection: &Connection) -> Result<JetLaunches, LaunchError> {
        let launches = JetLaunches {
            connection: connection.clone(),
            messages: tokio::sync::Mutex::new(None),
            open: Mutex::new(BTreeMap::new()),
        };
        *launches.messages.lock().await = Some(launches.subscribe().await?);
        Ok(launches)
    }

    async fn subscribe(&self) -> Result<pull::Stream, LaunchError> {
        let config = json!({
            "durable_name": LAUNCH_CONSUMER,
            "name": LAUNCH_CONSUMER,
            "ack_policy": "explicit",
            "ack_wait": ACK_WAIT_NANOS,
            "deliver_policy": "all",
            "replay_policy": "instant",
            "max_ack_pending": ACK_PENDING_MAX,
            "max_batch": PREFETCH_MAX,
        });
        let call = ["CONSUMER.CREATE.", LAUNCH, ".", LAUNCH_CONSUMER].concat();
        let body = json!({ "stream_name": LAUNCH, "config": config });
        let made: Result<serde_json::Value, ApiError> = self.connection.api(&call, &body).await;
        made.map_err(failed)?;
        let context = async_nats::jetstream::new(self.connection.client().clone());
        let consumer: PullConsumer = context.get_consumer_from_stream(LAUNCH_CONSUMER, LAUNCH).await.map_err(failed)?;
        pull_stream(&consumer).await
    }

    async fn take(&self) -> Result<Launch, LaunchError> {
        let mut messages = self.messages.lock().await;
        let mut retry = RETRY_MIN;
        loop {
            let Some(stream) = messages.as_mut() else {
                match self.subscribe().await {
                    Ok(stream) => *messages = Some(stream),
                    Err(error) if retry >= RETRY_MAX => return Err(error),
                    Err(_) => {
                        tokio::time::sleep(retry).await;
                        retry *= 2;
                    }
                }
                continue;
            };
            match stream.next().await {
                Some(Ok(message)) => {
                    if let Some(launch) = self.keep(message) {
                        return Ok(launch);
                    }
                }
                // Any end of the stream, a missed heartbeat too, is answered by a new one.
                Some(Err(error)) => {
                    tracing::debug!(%error, "launch stream");
                    *messages = None;
                }
                None => *messages = None,
            }
        }
    }

    fn keep(&self, message: async_nats::jetstream::Message) -> Option<Launch> {
        let place = message.reply.as_deref().and_then(Place::parse)?;
        let (message, acker) = message.split();
        let (launcher, verb) = match LogSubject::parse(&message.subject) {
            Ok(LogSubject::Launch { launcher, verb }) => (launcher.to_string(), verb.to_string()),
            // The stream's pattern lets tokens through that the grammar does not. They are evidence, and handed on as
            // they are: whoever decides refuses them by name.
            _ => {
                let mut tokens = message.subject.split('.').skip(1).map(str::to_owned);
                (tokens.next().unwrap_or_default(), tokens.next().unwrap_or_default())
            }
        };
        self.locked().insert(place.stream_seq, Open { acker, delivered: place.delivered });
        Some(Launch {
            seq: place.stream_seq,
            launcher,
            verb,
            stored_at: UnixMillis(place.time_nanos / 1_000_000),
            bytes: message.payload.to_vec(),
        })
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn pull_stream(consumer: &Consumer<pull::Config>) -> Result<pull::Stream, LaunchError> {
    consumer
        .stream()
        .max_messages_per_batch(PREFETCH_MAX)
        .heartbeat(HEARTBEAT)
        .expires(EXPIRES)
        .messages()
        .await
        .map_err(failed)
}

impl Launches for JetLaunches {
    fn next(&self) -> BoxFuture<'_, Result<Launch, LaunchError>> {
        Box::pin(self.take())
    }

    fn done(&self, seq: u64) -> BoxFuture<'_, Result<(), LaunchError>> {
        Box::pin(async move {
            let open = self.locked().remove(&seq);
            match open {
                Some(open) => open.acker.double_ack().await.map_err(failed),
                None => Ok(()),
            }
        })
    }

    fn later(&self, seq: u64) -> BoxFuture<'_, Result<(), LaunchError>> {
        Box::pin(async move {
            let open = self.locked().remove(&seq);
            let Some(open) = open else { return Ok(()) };
            let exponent = u32::try_from(open.delivered.min(10)).unwrap_or(10);
            let delay = (Duration::from_millis(250) * 2u32.saturating_pow(exponent)).min(LATER_MAX);
            open.acker.ack_with(AckKind::Nak(Some(delay))).await.map_err(failed)
        })
    }

    fn reply<'a>(
        &'a self,
        launcher: &'a str,
        dispatch: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), LaunchError>> {
        Box::pin(async move {
            let subject = LogSubject::reply(launcher, dispatch).map_err(failed)?.to_string();
            self.connection.tell(&subject, bytes.into()).await.map_err(failed)
        })
    }
}
