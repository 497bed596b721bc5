//! One connection to NATS with one user's credentials: bounded first connect, own inbox prefix, events into traces.
//! Must never print a seed.

use crate::wire::AskError;
use async_nats::{Client, ConnectErrorKind, Event, ServerError};
use bytes::Bytes;
use custody_streams::accounts::deliver_prefix;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// How often the connection is probed.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long a request waits for its answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How often credentials are tried that the server refuses. More than once, because a nats-server that reads its accounts
/// anew, as it does whenever a launcher comes or goes, refuses everybody for a moment.
pub const REFUSALS_MAX: u32 = 4;
/// Pause before refused credentials are tried again.
const REFUSED_RETRY: Duration = Duration::from_millis(250);
/// Pause between two tries of the first connect.
const CONNECT_RETRY: Duration = Duration::from_millis(100);
/// The longest pause between two tries of a reconnect.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);
/// Messages that may wait in one subscription before the client drops some: 64 Ki, async-nats' default, written down
/// because readers repair what is dropped.
const SUBSCRIPTION_CAPACITY: usize = 64 * 1024;
/// Refusals that a slow listener may fall behind.
const REFUSALS_KEPT: usize = 256;

/// The secret half of a user nkey, `SU…`. Has no text form.
#[derive(Clone)]
pub struct Seed(String);

/// The text is not the seed of a user nkey.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the seed of a user nkey: {0}")]
pub struct BadSeed(String);

impl Seed {
    /// Checks and wraps a text.
    ///
    /// # Errors
    /// [`BadSeed`] when it is not the seed of a user key.
    pub fn parse(text: &str) -> Result<Seed, BadSeed> {
        let pair = nkeys::KeyPair::from_seed(text.trim()).map_err(|e| BadSeed(e.to_string()))?;
        if pair.key_pair_type() != nkeys::KeyPairType::User {
            return Err(BadSeed("the key is not a user's".to_owned()));
        }
        Ok(Seed(text.trim().to_owned()))
    }

    /// A new one.
    ///
    /// # Errors
    /// [`BadSeed`] when the system gives no random bytes.
    pub fn generate() -> Result<Seed, BadSeed> {
        nkeys::KeyPair::new_user().seed().map(Seed).map_err(|e| BadSeed(e.to_string()))
    }

    /// Its public half, `U…`.
    pub fn public_key(&self) -> String {
        nkeys::KeyPair::from_seed(&self.0).map(|pair| pair.public_key()).unwrap_or_default()
    }

    /// The secret text, to be written into a file of mode 0600.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(secret)")
    }
}

/// How a user proves who it is.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// An nkey.
    Seed(Seed),
    /// A `.creds` file of an operator-mode server.
    File(PathBuf),
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// For example `nats://127.0.0.1:4222`.
    pub url: String,
    /// What the server's connection list shows, for example `custody authority`.
    pub name: String,
    /// First token of the inbox, for example `_INBOX_authority`; the only one the user may subscribe.
    pub inbox_prefix: String,
    /// Who connects.
    pub credentials: Credentials,
    /// How long the first connect is tried. A refusal of the credentials ends it after [`REFUSALS_MAX`] tries.
    pub wait: Duration,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The credentials file cannot be read.
    #[error("reading credentials {path}")]
    Credentials {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server does not let this user in.
    #[error("{url} refused the credentials of {name}")]
    Refused {
        /// Where.
        url: String,
        /// Who.
        name: String,
        /// What the client says.
        source: async_nats::ConnectError,
    },
    /// Nobody answered in time.
    #[error("{url} did not answer within {waited_ms} ms")]
    Unreachable {
        /// Where.
        url: String,
        /// How long it was tried.
        waited_ms: u128,
        /// The last try's error.
        source: async_nats::ConnectError,
    },
}

/// A subject that the server refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Publish or subscribe.
    pub verb: Verb,
    /// Which subject.
    pub subject: String,
}

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// A publish.
    Publish,
    /// A subscription.
    Subscribe,
}

/// A connection. Clones share it. Reconnects for ever by itself.
#[derive(Debug, Clone)]
pub struct Connection {
    client: Client,
    /// What push consumers of this user deliver to, before the last token.
    deliver: Arc<str>,
    refusals: broadcast::Sender<Refused>,
    /// Counts connects: a change means that the server may have forgotten everything not durable.
    connects: watch::Receiver<u64>,
}

impl Connection {
    /// Connects, trying for as long as the options say.
    ///
    /// # Errors
    /// [`ConnectError::Refused`] when the credentials were not taken [`REFUSALS_MAX`] times,
    /// [`ConnectError::Unreachable`] when the time is over.
    pub async fn open(options: &ConnectOptions) -> Result<Connection, ConnectError> {
        let started = tokio::time::Instant::now();
        let mut refusals_left = REFUSALS_MAX;
        loop {
            let (nats, refusals, connects) = client_options(options).await?;
            let source = match nats.connect(options.url.as_str()).await {
                Ok(client) => {
                    let mut first = connects.clone();
                    // The event comes just after; counted here, it is never taken for a reconnect. It cannot fail to
                    // come: the callback lives as long as the client.
                    let _ = tokio::time::timeout(REQUEST_TIMEOUT, first.wait_for(|n| *n > 0)).await;
                    let deliver = deliver_prefix(&options.inbox_prefix).into();
                    return Ok(Connection { client, deliver, refusals, connects });
                }
                Err(source) => source,
            };
            let refused =
                matches!(source.kind(), ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation);
            if refused {
                refusals_left -= 1;
                if refusals_left == 0 {
                    let (url, name) = (options.url.clone(), options.name.clone());
                    return Err(ConnectError::Refused { url, name, source });
                }
                tokio::time::sleep(REFUSED_RETRY).await;
                continue;
            }
            if started.elapsed() >= options.wait {
                let waited_ms = started.elapsed().as_millis();
                return Err(ConnectError::Unreachable { url: options.url.clone(), waited_ms, source });
            }
            tokio::time::sleep(CONNECT_RETRY).await;
        }
    }

    /// The client, for what this adapter does not wrap.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Subjects that the server refused from now on.
    pub fn refusals(&self) -> broadcast::Receiver<Refused> {
        self.refusals.subscribe()
    }

    /// Counts connects; changes after every reconnect.
    pub fn connects(&self) -> watch::Receiver<u64> {
        self.connects.clone()
    }

    /// A text that nobody else has made: the last token of a new inbox.
    pub(crate) fn unique(&self) -> String {
        let inbox = self.client.new_inbox();
        inbox.rsplit('.').next().unwrap_or_default().to_owned()
    }

    /// A new subject for a push consumer to deliver to.
    pub(crate) fn deliver_subject(&self) -> String {
        [&self.deliver, ".", &self.unique()].concat()
    }

    /// Publishes without an ack and waits until the server has it. Bounded by [`REQUEST_TIMEOUT`].
    ///
    /// # Errors
    /// [`AskError::Lost`] or [`AskError::TimedOut`]: it may have been sent.
    pub(crate) async fn tell(&self, subject: &str, payload: Bytes) -> Result<(), AskError> {
        let lost = |e: &dyn fmt::Display| AskError::Lost(e.to_string());
        let told = async {
            self.client.publish(subject.to_owned(), payload).await.map_err(|e| lost(&e))?;
            self.client.flush().await.map_err(|e| lost(&e))
        };
        let late = |_| AskError::TimedOut(subject.to_owned());
        tokio::time::timeout(REQUEST_TIMEOUT, told).await.map_err(late)?
    }

    /// Sends what is queued and closes. Bounded by [`REQUEST_TIMEOUT`].
    pub async fn close(&self) {
        // A connection that cannot flush in time is closed without it: nothing is promised before its ack.
        let _ = tokio::time::timeout(REQUEST_TIMEOUT, self.client.drain()).await;
    }
}

type Prepared = (async_nats::ConnectOptions, broadcast::Sender<Refused>, watch::Receiver<u64>);

async fn client_options(options: &ConnectOptions) -> Result<Prepared, ConnectError> {
    let (refusals, _) = broadcast::channel(REFUSALS_KEPT);
    let (count, connects) = watch::channel(0u64);
    let nats = match &options.credentials {
        Credentials::Seed(seed) => async_nats::ConnectOptions::with_nkey(seed.expose().to_owned()),
        Credentials::File(path) => async_nats::ConnectOptions::with_credentials_file(path)
            .await
            .map_err(|source| ConnectError::Credentials { path: path.display().to_string(), source })?,
    };
    let name = options.name.clone();
    let events = refusals.clone();
    let nats = nats
        .name(&options.name)
        .custom_inbox_prefix(&options.inbox_prefix)
        .ping_interval(PING_INTERVAL)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .connection_timeout(REQUEST_TIMEOUT)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .reconnect_delay_callback(|attempts| {
            let ms = 10u64.saturating_mul(1 << attempts.min(10));
            Duration::from_millis(ms).min(RECONNECT_DELAY_MAX)
        })
        .event_callback(move |event| {
            note(&name, &event, &events, &count);
            std::future::ready(())
        });
    Ok((nats, refusals, connects))
}

fn note(name: &str, event: &Event, refusals: &broadcast::Sender<Refused>, connects: &watch::Sender<u64>) {
    match event {
        Event::Connected => {
            tracing::info!(user = name, "connected to NATS");
            connects.send_modify(|n| *n += 1);
        }
        Event::ServerError(ServerError::Other(text)) => match refused_subject(text) {
            Some(refused) => {
                tracing::warn!(user = name, verb = ?refused.verb, subject = refused.subject, "NATS refused a subject");
                // Nobody may be waiting for it.
                let _ = refusals.send(refused);
            }
            None => tracing::warn!(user = name, error = text, "NATS server error"),
        },
        Event::SlowConsumer(id) => {
            tracing::warn!(user = name, subscription = id, "a NATS subscription dropped messages")
        }
        other => tracing::info!(user = name, event = %other, "NATS connection"),
    }
}

/// The subject of a permission violation. The protocol's `-ERR` line has no code, only
/// `Permissions Violation for Publish to "subject"`; this is the one place that reads it. Source: NATS client protocol.
pub(crate) fn refused_subject(text: &str) -> Option<Refused> {
    let rest = text.strip_prefix("Permissions Violation for ")?;
    let (verb, rest) = rest.split_once(" to ")?;
    let verb = match verb {
        "Publish" => Verb::Publish,
        "Subscription" => Verb::Subscribe,
        _ => return None,
    };
    let subject = rest.strip_prefix('"')?.split('"').next()?;
    Some(Refused { verb, subject: subject.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{Refused, Seed, Verb, refused_subject};

    #[rstest::rstest]
    #[case(r#"Permissions Violation for Publish to "ledger.run.x""#, Some((Verb::Publish, "ledger.run.x")))]
    #[case(r#"Permissions Violation for Subscription to "unit.>""#, Some((Verb::Subscribe, "unit.>")))]
    #[case(r#"Permissions Violation for Subscription to "command.>" using queue "q""#,
        Some((Verb::Subscribe, "command.>")))]
    #[case("Permissions Violation for Publish to", None)]
    #[case("Maximum Connections Exceeded", None)]
    #[case("", None)]
    fn a_violation_names_its_subject(#[case] text: &str, #[case] wanted: Option<(Verb, &str)>) {
        let wanted = wanted.map(|(verb, subject)| Refused { verb, subject: subject.to_owned() });
        assert_eq!(refused_subject(text), wanted);
    }

    #[test]
    fn a_seed_is_a_users_and_never_shown() {
        let seed = Seed::generate().unwrap();
        assert_eq!(Seed::parse(seed.expose()).unwrap().public_key(), seed.public_key());
        assert!(!format!("{seed:?}").contains(seed.expose()));
        let account = nkeys::KeyPair::new_account().seed().unwrap();
        for text in ["", "SUA", account.as_str(), &seed.public_key()] {
            let error = Seed::parse(text).unwrap_err();
            assert!(text.is_empty() || !error.to_string().contains(text), "{error}");
        }
    }
}
