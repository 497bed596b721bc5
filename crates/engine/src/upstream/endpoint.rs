//! A token endpoint of others: one form, one bounded answer. Must never follow a redirect, send a form to another address,
//! or repeat in an error what must not be read.
//!
//! Source: RFC 6749, sections 2.3.1, 5.1 and 5.2.

use super::client::guarded;
use super::config::ServersError;
use crate::inference::what_broke;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use custody_outbound::Networks;
use custody_ports::secrets::SecretText;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// The longest wait for a token, all tries together.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// The largest answer.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What is repeated of an error, in characters.
const SAID_CHARS_MAX: usize = 200;

/// The way to one.
pub(super) struct Endpoint {
    client: reqwest::Client,
    url: String,
    /// How long one token may take.
    pub(super) wait: Duration,
}

/// A good answer.
#[derive(Deserialize)]
pub(super) struct Given {
    access_token: String,
    token_type: String,
    #[serde(default)]
    expires_in: Value,
    #[serde(default)]
    refresh_token: Value,
    #[serde(default)]
    issued_token_type: Value,
}

/// An answer that is none.
#[derive(Deserialize)]
struct Said {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Why no whole answer came.
pub(super) enum Broke {
    /// There was no connection, or it ended.
    Connection(String),
    /// The answer is larger than it may be.
    TooLarge,
}

impl Endpoint {
    pub(super) fn new(url: &str, inside: &Networks, timeout_ms: u64) -> Result<Endpoint, ServersError> {
        let wait = WAIT_MAX.min(Duration::from_millis(timeout_ms));
        Ok(Endpoint { client: guarded(url, inside, wait)?, url: url.to_owned(), wait })
    }

    /// Sends a form once.
    pub(super) async fn post(&self, headers: HeaderMap, body: String) -> Result<(StatusCode, Vec<u8>), Broke> {
        let broke = |why: reqwest::Error| Broke::Connection(what_broke(&why));
        let request = self.client.post(&self.url).headers(headers).body(body);
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

/// The headers of a form; with the client's secret, where it has one (`client_secret_basic`). Source: RFC 6749, section
/// 2.3.1: both are encoded as in a form before they are joined.
pub(super) fn headers(client_id: &str, secret: Option<&SecretText>) -> Option<HeaderMap> {
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    let json = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, form), (ACCEPT, json)]);
    if let Some(secret) = secret {
        let pair = [encoded(client_id), encoded(secret.expose())].join(":");
        let mut own = HeaderValue::from_str(&["Basic ", &STANDARD.encode(pair)].concat()).ok()?;
        own.set_sensitive(true);
        headers.insert(AUTHORIZATION, own);
    }
    Some(headers)
}

/// What an answer that is a success gives.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(super) fn read(answer: &[u8]) -> Result<Given, &'static str> {
    let given: Given = serde_json::from_slice(answer).map_err(|_| "is none of RFC 6749")?;
    match given.token_type.eq_ignore_ascii_case("bearer") {
        true => Ok(given),
        false => Err("is no bearer token"),
    }
}

impl Given {
    /// The token.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(super) fn token(&self) -> Result<SecretText, &'static str> {
        SecretText::parse(&self.access_token).ok_or("is a token that no header may carry")
    }

    /// The refresh token that takes the place of the one that was shown, where there is one.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(super) fn refresh(&self) -> Result<Option<SecretText>, &'static str> {
        if self.refresh_token.is_null() {
            return Ok(None);
        }
        let next = self.refresh_token.as_str().and_then(SecretText::parse);
        next.map(Some).ok_or("has a refresh token that cannot be kept")
    }

    /// How long the token is good, in seconds, where that is said.
    pub(super) fn expires_in(&self) -> Option<u64> {
        self.expires_in.as_u64()
    }

    /// What kind of token an exchange gave, where that is said. Source: RFC 8693, section 2.2.1.
    pub(super) fn issued_token_type(&self) -> Option<&str> {
        self.issued_token_type.as_str()
    }
}

/// The code of an answer that is an error, and what may be read of it after a colon: never one of `hidden`.
pub(super) fn said(answer: &[u8], hidden: &[&SecretText]) -> (String, String) {
    let Ok(Said { error, error_description }) = serde_json::from_slice(answer) else {
        return (String::new(), String::new());
    };
    let text = if error_description.is_empty() { error.clone() } else { [&*error, &error_description].join(": ") };
    if hidden.iter().any(|secret| secret.is_in(&text)) {
        return (error, String::new());
    }
    let plain = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    (error, [": ", &text.chars().map(plain).take(SAID_CHARS_MAX).collect::<String>()].concat())
}

/// Whether an answer says that nobody can be asked now.
pub(super) fn is_down(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// A value of a form.
pub(super) fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    let each = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(each).collect()
}
