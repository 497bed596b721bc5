//! An access token of somebody else's authorization server, for an assertion of our token service. Must never keep one,
//! send an assertion to another address, follow a redirect, or repeat in an error what must not be read.
//!
//! Source: RFC 7523, section 2.1; RFC 6749, sections 2.3.1, 5.1 and 5.2.

use super::client::guarded;
use super::config::{ExchangeConfig, ServersError};
use crate::inference::what_broke;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use custody_domain::tool::ToolRefusal;
use custody_ports::secrets::{SecretText, Secrets};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// What is asked for. Source: RFC 7523, section 2.1.
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The longest wait for a token, all tries together.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How often it is asked. Only a connection that broke is tried again: an assertion is good for one token at most, and a
/// token that nobody got is used by nobody.
const TRIES_MAX: u32 = 2;
/// The largest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Requests at once; further ones wait within their own time.
const RUNNING_MAX: usize = 32;
/// What is repeated of an error, in characters.
const SAID_CHARS_MAX: usize = 200;

/// The way to one token endpoint.
pub(super) struct Exchange {
    client: reqwest::Client,
    config: ExchangeConfig,
    wait: Duration,
    secrets: Arc<dyn Secrets>,
    running: Semaphore,
}

/// A good answer. What else stands in it is not needed: the token is used at once, for one request.
#[derive(Deserialize)]
struct Given {
    access_token: String,
    token_type: String,
}

/// An answer that is none.
#[derive(Deserialize)]
struct Said {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Why no whole answer came.
enum Broke {
    /// There was no connection, or it ended: it may be tried again.
    Connection(String),
    /// The answer is larger than it may be.
    TooLarge,
}

fn unavailable(what: &str) -> ToolRefusal {
    let detail = format!("the authorization server of the tool's server {what}");
    ToolRefusal::new("EXCHANGE_UNAVAILABLE", detail, "nothing was done; call again later")
}

fn refused(detail: String) -> ToolRefusal {
    ToolRefusal::new("EXCHANGE_REFUSED", detail, "nothing was done; an operator looks at [tools.servers.*.exchange]")
}

impl Exchange {
    pub(super) fn new(
        config: &ExchangeConfig,
        timeout_ms: u64,
        secrets: Arc<dyn Secrets>,
    ) -> Result<Exchange, ServersError> {
        let wait = WAIT_MAX.min(Duration::from_millis(timeout_ms));
        let client = guarded(&config.token_url, wait)?;
        Ok(Exchange { client, config: config.clone(), wait, secrets, running: Semaphore::new(RUNNING_MAX) })
    }

    /// A token for an assertion.
    ///
    /// # Errors
    /// The refusal of the call that it was to be for: `SECRET_MISSING`, `EXCHANGE_UNAVAILABLE` or `EXCHANGE_REFUSED`.
    pub(super) async fn token(&self, assertion: &SecretText) -> Result<SecretText, ToolRefusal> {
        let missing = |why: String| ToolRefusal::new("SECRET_MISSING", why, "nothing was done; tell the person");
        let secret = self.secrets.get(&self.config.client_secret_ref).map_err(|e| missing(e.to_string()))?;
        let headers = self.headers(&secret).ok_or_else(|| missing("the client's secret is not fit".into()))?;
        let mut body = format!("grant_type={}&assertion={}", encoded(GRANT_TYPE), encoded(assertion.expose()));
        if let Some(scope) = &self.config.scope {
            body.push_str("&scope=");
            body.push_str(&encoded(scope));
        }
        let asked = async {
            let Ok(_running) = self.running.acquire().await else { return Err(unavailable("is not asked any more")) };
            let mut tried = 1;
            loop {
                match self.post(headers.clone(), body.clone()).await {
                    Ok(answer) => return Ok(answer),
                    Err(Broke::Connection(_)) if tried < TRIES_MAX => tried += 1,
                    Err(Broke::Connection(what)) => return Err(unavailable(&what)),
                    Err(Broke::TooLarge) => {
                        return Err(refused(format!("a token's answer is larger than {ANSWER_BYTES_MAX} bytes")));
                    }
                }
            }
        };
        let silent = || unavailable(&format!("gave no answer within {} ms", self.wait.as_millis()));
        let (status, answer) = timeout_at(Instant::now() + self.wait, asked).await.map_err(|_| silent())??;
        if status == StatusCode::OK {
            return read(&answer);
        }
        // A redirect is an answer like any other that is no success: assertion and secret go to one address only.
        let said = said(&answer, &[assertion, &secret]);
        match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            true => Err(unavailable(&format!("answered {}{said}", status.as_u16()))),
            false => Err(refused(format!("the authorization server answered {}{said}", status.as_u16()))),
        }
    }

    /// Who asks. Source: RFC 6749, section 2.3.1: both are encoded as in a form before they are joined.
    fn headers(&self, secret: &SecretText) -> Option<HeaderMap> {
        let pair = [encoded(&self.config.client_id), encoded(secret.expose())].join(":");
        let mut own = HeaderValue::from_str(&["Basic ", &STANDARD.encode(pair)].concat()).ok()?;
        own.set_sensitive(true);
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let json = HeaderValue::from_static("application/json");
        Some(HeaderMap::from_iter([(AUTHORIZATION, own), (CONTENT_TYPE, form), (ACCEPT, json)]))
    }

    async fn post(&self, headers: HeaderMap, body: String) -> Result<(StatusCode, Vec<u8>), Broke> {
        let broke = |why: reqwest::Error| Broke::Connection(what_broke(&why));
        let request = self.client.post(&self.config.token_url).headers(headers).body(body);
        let mut response = request.send().await.map_err(broke)?;
        let (status, mut answer) = (response.status(), Vec::new());
        while let Some(piece) = response.chunk().await.map_err(broke)? {
            if answer.len().saturating_add(piece.len()) > ANSWER_BYTES_MAX {
                return Err(Broke::TooLarge);
            }
            answer.extend_from_slice(&piece);
        }
        Ok((status, answer))
    }
}

/// The token of an answer that is a success.
fn read(answer: &[u8]) -> Result<SecretText, ToolRefusal> {
    let odd = |what: &str| refused(format!("the authorization server's answer {what}"));
    let given: Given = serde_json::from_slice(answer).map_err(|_| odd("is none of RFC 6749"))?;
    if !given.token_type.eq_ignore_ascii_case("bearer") {
        return Err(odd("is no bearer token"));
    }
    SecretText::parse(&given.access_token).ok_or_else(|| odd("is a token that no header may carry"))
}

/// What stands in an answer that is an error, as far as it may be read: never one of `hidden`.
fn said(answer: &[u8], hidden: &[&SecretText]) -> String {
    let Ok(Said { error, error_description }) = serde_json::from_slice(answer) else { return String::new() };
    let text = if error_description.is_empty() { error } else { [error, error_description].join(": ") };
    if hidden.iter().any(|secret| secret.is_in(&text)) {
        return String::new();
    }
    let plain = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    [": ", &text.chars().map(plain).take(SAID_CHARS_MAX).collect::<String>()].concat()
}

/// A value of a form.
fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    let each = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(each).collect()
}
