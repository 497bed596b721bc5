//! Commands and queries over request and reply. Served by a queue group, so that one replica answers; must never hold
//! more than a bounded number of requests.

use crate::connect::{Connection, Refused, Verb};
use crate::wire::AskError;
use async_nats::{Message, Subscriber};
use custody_ports::requests::{REQUEST_BYTES_MAX, Request, RequestError, Requests};
use futures::future::BoxFuture;
use futures::stream::{SelectAll, StreamExt};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, broadcast};

/// What the inboxes of all our users begin with.
const INBOX: &str = "_INBOX_";

/// Requests of some prefixes, shared by every replica with the same group.
#[derive(Debug)]
pub struct NatsRequests {
    connection: Connection,
    incoming: Mutex<Incoming>,
}

#[derive(Debug)]
struct Incoming {
    messages: SelectAll<Subscriber>,
    refusals: broadcast::Receiver<Refused>,
    patterns: Vec<String>,
}

fn failed(error: impl std::fmt::Display) -> RequestError {
    RequestError(error.to_string())
}

impl NatsRequests {
    /// Listens on subject patterns such as `command.>` in a queue group such as `authority`.
    ///
    /// # Errors
    /// [`RequestError`] when the connection is gone. A subscription that the server refuses fails the first `next`.
    pub async fn listen(connection: &Connection, patterns: &[&str], group: &str) -> Result<NatsRequests, RequestError> {
        let client = connection.client();
        let refusals = connection.refusals();
        let mut messages = SelectAll::new();
        for pattern in patterns {
            let subscriber = client.queue_subscribe((*pattern).to_owned(), group.to_owned()).await;
            messages.push(subscriber.map_err(failed)?);
        }
        client.flush().await.map_err(failed)?;
        let patterns = patterns.iter().map(|p| (*p).to_owned()).collect();
        let incoming = Mutex::new(Incoming { messages, refusals, patterns });
        Ok(NatsRequests { connection: connection.clone(), incoming })
    }
}

impl Requests for NatsRequests {
    fn next(&self) -> BoxFuture<'_, Result<Request, RequestError>> {
        Box::pin(async move {
            let mut incoming = self.incoming.lock().await;
            let Incoming { messages, refusals, patterns } = &mut *incoming;
            loop {
                let message: Message = tokio::select! {
                    message = messages.next() => message.ok_or_else(|| failed("the connection is closed"))?,
                    refused = refusals.recv() => match refused {
                        Ok(r) if r.verb == Verb::Subscribe && patterns.contains(&r.subject) => {
                            return Err(failed(format!("no permission to subscribe {}", r.subject)));
                        }
                        Ok(_) | Err(RecvError::Lagged(_)) => continue,
                        Err(RecvError::Closed) => return Err(failed("the connection is closed")),
                    },
                };
                // Without a reply subject nobody waits; too large ones could not have been sent by our own clients. The
                // server lets whoever serves answer anywhere, so an answer goes to an inbox and never, for example, onto
                // a subject of the ledger that the one who asks may not write.
                if let Some(reply) = message.reply
                    && reply.starts_with(INBOX)
                    && message.payload.len() <= REQUEST_BYTES_MAX
                {
                    return Ok(Request {
                        subject: message.subject.to_string(),
                        bytes: message.payload.to_vec(),
                        reply_to: reply.to_string(),
                    });
                }
            }
        })
    }

    fn answer<'a>(&'a self, reply_to: &'a str, bytes: Vec<u8>) -> BoxFuture<'a, Result<(), RequestError>> {
        Box::pin(async move {
            if bytes.len() > REQUEST_BYTES_MAX {
                return Err(failed(format!("an answer of {} bytes is more than {REQUEST_BYTES_MAX}", bytes.len())));
            }
            self.connection.tell(reply_to, bytes.into()).await.map_err(failed)
        })
    }
}

/// The asking side.
#[derive(Debug, Clone)]
pub struct RequestClient {
    connection: Connection,
}

impl RequestClient {
    /// Asks over this connection.
    pub fn new(connection: &Connection) -> RequestClient {
        RequestClient { connection: connection.clone() }
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// [`AskError`]: refused, nobody there, no answer in time, too large, connection lost.
    pub async fn request(&self, subject: &str, bytes: Vec<u8>, timeout: Duration) -> Result<Vec<u8>, AskError> {
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(AskError::TooLarge { bytes: bytes.len() });
        }
        // Whoever serves may still be at work after a reconnect, and its answer finds the way.
        let answer = self.connection.ask_within(subject, None, bytes.into(), timeout, timeout).await?;
        Ok(answer.payload.to_vec())
    }
}
