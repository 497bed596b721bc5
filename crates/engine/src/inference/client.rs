//! The way to the upstream: one HTTP client, its key, its deadlines and its retries. Must never follow a redirect,
//! retry after a byte of an answer came, or name an address or a key in an error.

use super::Api;
use super::config::{DoorError, ModelConfig, Route};
use super::key::ApiKey;
use bytes::{Bytes, BytesMut};
use custody_outbound::Networks;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use tokio::time::timeout;

/// The version of Anthropic's API that we speak. Source: Anthropic API reference, "Versions", 2025.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// The longest wait that an upstream may ask for before a retry; when it asks for more, the agent is told instead.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(20);

/// The wait before the first retry when the upstream names none; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_FIRST: Duration = Duration::from_millis(250);

/// The longest wait of our own.
const BACKOFF_MAX: Duration = Duration::from_secs(4);

/// How much of an error body is read.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// The longest header about limits that goes on, in bytes, and how many of them do.
const LIMIT_BYTES_MAX: usize = 100;
const LIMITS_MAX: usize = 32;

/// The longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The longest wait of a probe.
const PROBE_MAX: Duration = Duration::from_secs(2);

/// Idle connections kept open.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// What an attempt to reach the upstream came to.
pub(super) enum Reached {
    /// It answers; the body has not been read.
    Answer(reqwest::Response),
    /// It answered with an error, and no retry is left or useful.
    Refused {
        /// Its status.
        status: u16,
        /// What it says of retries and limits, as it wrote it.
        told: HeaderMap,
        /// The beginning of its body.
        body: Bytes,
    },
    /// No answer within the time for a head.
    Silent(String),
    /// No connection, or a broken one.
    Broken(String),
}

/// The upstream and how to talk to it.
pub(super) struct Upstream {
    client: reqwest::Client,
    base: String,
    headers: HeaderMap,
    head: Duration,
    max_retries: u32,
    /// Its key, for guards.
    pub(super) key: Option<ApiKey>,
}

impl Upstream {
    /// Builds the client. Reads the key file.
    pub(super) fn new(config: &ModelConfig, route: &Route) -> Result<Upstream, DoorError> {
        let key = config.api_key_file.as_deref().map(ApiKey::read).transpose()?;
        if key.is_some() && !route.tls && !route.local {
            tracing::warn!(upstream = config.name, "the model's key crosses the network without TLS");
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if route.api == Api::Anthropic {
            headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static(ANTHROPIC_VERSION));
        }
        if let Some((name, value)) = key.as_ref().and_then(|key| key.header(route.api)) {
            headers.insert(name, value);
        }
        let head = Duration::from_millis(config.timeout_ms);
        // A retry is decided here and nowhere else. A model of the house may be in any network of it.
        let mut builder = custody_outbound::builder(&route.base, &Networks::any())
            .connect_timeout(head.min(CONNECT_MAX))
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
        if route.local {
            builder = builder.no_proxy();
        }
        if let Some(socket) = &route.socket {
            builder = builder.unix_socket(socket.as_path());
        }
        Ok(Upstream {
            client: builder.build().map_err(DoorError::Client)?,
            base: route.base.clone(),
            headers,
            head,
            max_retries: config.max_retries,
            key,
        })
    }

    /// Sends one request, again after failures that a retry may cure. Also says how often it was sent.
    pub(super) async fn call(&self, path: &str, body: Bytes, stream: bool, extra: HeaderMap) -> (Reached, u32) {
        let mut headers = self.headers.clone();
        headers.extend(extra);
        headers.insert(ACCEPT, HeaderValue::from_static(if stream { "text/event-stream" } else { "application/json" }));
        let mut attempt = 0;
        loop {
            let request = self.client.post(format!("{}{path}", self.base)).headers(headers.clone()).body(body.clone());
            let wait = match timeout(self.head, request.send()).await {
                Err(_) => {
                    let what = format!("gave no answer within {} ms", self.head.as_millis());
                    return (Reached::Silent(what), attempt + 1);
                }
                Ok(Err(why)) if why.is_connect() && attempt < self.max_retries => backoff(attempt),
                Ok(Err(why)) => return (Reached::Broken(what_broke(&why)), attempt + 1),
                Ok(Ok(response)) if response.status().is_success() => {
                    return (Reached::Answer(response), attempt + 1);
                }
                Ok(Ok(response)) => match retry_wait(&response, attempt).filter(|_| attempt < self.max_retries) {
                    Some(wait) => wait,
                    None => return (self.refused(response).await, attempt + 1),
                },
            };
            tracing::debug!(
                attempt,
                wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "model call is tried again"
            );
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    async fn refused(&self, mut response: reqwest::Response) -> Reached {
        let status = response.status().as_u16();
        let told = limits(response.headers());
        let mut body = BytesMut::new();
        // What cannot be read of an error's explanation is left out; the status says enough.
        let read = async {
            while let Ok(Some(piece)) = response.chunk().await {
                body.extend_from_slice(&piece[..piece.len().min(ERROR_BYTES_MAX - body.len())]);
                if body.len() >= ERROR_BYTES_MAX {
                    break;
                }
            }
        };
        // A server that is silent in the middle of its explanation is not waited for longer than for a head.
        let _ = timeout(self.head, read).await;
        Reached::Refused { status, told, body: body.freeze() }
    }

    /// Whether the upstream answers at all, within two seconds.
    pub(super) async fn probe(&self) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + PROBE_MAX;
        let mut last = 0;
        for path in ["/v1/models", "/health"] {
            let request = self.client.get(format!("{}{path}", self.base)).headers(self.headers.clone());
            let response = match tokio::time::timeout_at(deadline, request.send()).await {
                Err(_) => return Err(format!("gave no answer within {} ms", PROBE_MAX.as_millis())),
                Ok(Err(why)) => return Err(what_broke(&why)),
                Ok(Ok(response)) => response,
            };
            last = response.status().as_u16();
            match last {
                200..=299 => return Ok(()),
                401 | 403 => {
                    return Err(format!("answered {last}: it does not accept the key; check model.api_key_file"));
                }
                _ => {}
            }
        }
        Err(format!("answered {last} to GET /v1/models and GET /health"))
    }
}

/// What an upstream says of retries and rate limits; nothing else of its headers goes on.
pub(super) fn limits(headers: &HeaderMap) -> HeaderMap {
    let said = |name: &HeaderName| {
        let name = name.as_str();
        matches!(name, "retry-after" | "retry-after-ms" | "x-should-retry")
            || name.starts_with("x-ratelimit-")
            || name.starts_with("anthropic-ratelimit-")
    };
    let few = headers.iter().filter(|(name, value)| said(name) && value.len() <= LIMIT_BYTES_MAX).take(LIMITS_MAX);
    few.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// How long to wait before a retry of this answer; `None` when a retry is useless or the wait is too long.
fn retry_wait(response: &reqwest::Response, attempt: u32) -> Option<Duration> {
    if !matches!(response.status().as_u16(), 429 | 500 | 502 | 503 | 529) {
        return None;
    }
    let asked = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| v.trim().parse().ok());
    match asked.map(Duration::from_secs) {
        Some(wait) if wait > RETRY_AFTER_MAX => None,
        Some(wait) => Some(wait),
        // A date, or nothing: our own pace.
        None => Some(backoff(attempt)),
    }
}

fn backoff(attempt: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(2u32.saturating_pow(attempt)).min(BACKOFF_MAX)
}

/// What broke, by kind. The library's own text may hold the address, so it goes nowhere.
pub(crate) fn what_broke(error: &reqwest::Error) -> String {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut kind = None;
    while let Some(inner) = source {
        kind = inner.downcast_ref::<std::io::Error>().map(std::io::Error::kind).or(kind);
        source = inner.source();
    }
    let what = match () {
        () if error.is_timeout() => "took too long",
        () if error.is_connect() => "cannot be reached",
        () if error.is_body() || error.is_decode() => "broke off its answer",
        () => "broke the connection",
    };
    match kind {
        Some(kind) => format!("{what} ({kind})"),
        None => what.to_owned(),
    }
}
