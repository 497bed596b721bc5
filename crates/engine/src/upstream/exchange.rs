//! An access token of somebody else's authorization server, for an assertion of our token service; where one audience is named
//! it is exchanged there once more, for one of that audience alone. Must never keep one, or ask for one more often than its
//! connection breaks.
//!
//! Source: RFC 7523, section 2.1; RFC 8693, section 2.

use super::config::{ExchangeConfig, ServersError};
use super::endpoint::{self, ANSWER_BYTES_MAX, Broke, Endpoint, Given, encoded};
use custody_domain::tool::ToolRefusal;
use custody_ports::secrets::{SecretText, Secrets};
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// What is asked for with an assertion. Source: RFC 7523, section 2.1.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// What is asked for with a token. Source: RFC 8693, section 2.1.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// What is exchanged, and for what. Source: RFC 8693, section 3.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// The longest life of a token that was exchanged, in seconds: it is for one call, and nobody ends it with the token that it
/// comes from.
const LIFE_S_MAX: u64 = 3_600;
/// How often each is asked. Only a connection that broke is tried again: an assertion is good for one token at most, and a
/// token that nobody got is used by nobody.
const TRIES_MAX: u32 = 2;
/// How what is refused at the second question is said.
const SECOND: &str = "asked for one audience, ";
/// Requests at once; further ones wait within their own time.
const RUNNING_MAX: usize = 32;

/// The way to one token endpoint.
pub(super) struct Exchange {
    endpoint: Endpoint,
    config: ExchangeConfig,
    secrets: Arc<dyn Secrets>,
    running: Semaphore,
}

fn unavailable(what: &str) -> ToolRefusal {
    let detail = format!("the authorization server of the tool's server {what}");
    ToolRefusal::new("EXCHANGE_UNAVAILABLE", detail, "nothing was done; call again later")
}

fn refused(detail: String) -> ToolRefusal {
    ToolRefusal::new("EXCHANGE_REFUSED", detail, "nothing was done; an operator looks at [tools.servers.*.exchange]")
}

fn odd(then: &str, what: &str) -> ToolRefusal {
    refused(format!("{then}the authorization server's answer {what}"))
}

impl Exchange {
    pub(super) fn new(
        config: &ExchangeConfig,
        timeout_ms: u64,
        secrets: Arc<dyn Secrets>,
    ) -> Result<Exchange, ServersError> {
        let endpoint = Endpoint::new(&config.token_url, &config.private_networks, timeout_ms)?;
        Ok(Exchange { endpoint, config: config.clone(), secrets, running: Semaphore::new(RUNNING_MAX) })
    }

    /// A token for an assertion. One time is for all that is asked.
    ///
    /// # Errors
    /// The refusal of the call that it was to be for: `SECRET_MISSING`, `EXCHANGE_UNAVAILABLE` or `EXCHANGE_REFUSED`.
    pub(super) async fn token(&self, assertion: &SecretText) -> Result<SecretText, ToolRefusal> {
        let missing = |why: String| ToolRefusal::new("SECRET_MISSING", why, "nothing was done; tell the person");
        let secret = self.secrets.get(&self.config.client_secret_ref).map_err(|e| missing(e.to_string()))?;
        let headers = endpoint::headers(&self.config.client_id, Some(&secret));
        let headers = headers.ok_or_else(|| missing("the client's secret is not fit".into()))?;
        let asked = async {
            let Ok(_running) = self.running.acquire().await else { return Err(unavailable("is not asked any more")) };
            let form = [("grant_type", JWT_BEARER), ("assertion", assertion.expose())];
            let given = self.ask("", &headers, &form, &[assertion, &secret]).await?;
            let token = given.token().map_err(|what| odd("", what))?;
            let Some(audience) = self.config.audience.as_deref() else { return Ok(token) };
            let form = [
                ("grant_type", TOKEN_EXCHANGE),
                ("subject_token", token.expose()),
                ("subject_token_type", ACCESS_TOKEN),
                ("requested_token_type", ACCESS_TOKEN),
                ("audience", audience),
            ];
            let given = self.ask(SECOND, &headers, &form, &[assertion, &secret, &token]).await?;
            exchanged(&given, &token).map_err(|what| odd(SECOND, what))
        };
        let wait = self.endpoint.wait;
        let silent = || unavailable(&format!("gave no answer within {} ms", wait.as_millis()));
        timeout_at(Instant::now() + wait, asked).await.map_err(|_| silent())?
    }

    /// The answer to one form that is a success. `then` begins the sentence of what is refused; `hidden` is in no sentence.
    async fn ask(
        &self,
        then: &str,
        headers: &HeaderMap,
        form: &[(&str, &str)],
        hidden: &[&SecretText],
    ) -> Result<Given, ToolRefusal> {
        let scope = self.config.scope.as_deref().map(|scope| ("scope", scope));
        let pairs = form.iter().copied().chain(scope).map(|(name, value)| [name, "=", &encoded(value)].concat());
        let body = pairs.collect::<Vec<_>>().join("&");
        let mut tried = 1;
        let (status, answer) = loop {
            match self.endpoint.post(headers.clone(), body.clone()).await {
                Ok(answer) => break answer,
                Err(Broke::Connection(_)) if tried < TRIES_MAX => tried += 1,
                Err(Broke::Connection(what)) => return Err(unavailable(&what)),
                Err(Broke::TooLarge) => {
                    return Err(odd(then, &format!("is larger than {ANSWER_BYTES_MAX} bytes")));
                }
            }
        };
        if status == StatusCode::OK {
            return endpoint::read(&answer).map_err(|what| odd(then, what));
        }
        // A redirect is an answer like any other that is no success: what is shown goes to one address only.
        let (_, said) = endpoint::said(&answer, hidden);
        match endpoint::is_down(status) {
            true => Err(unavailable(&format!("answered {}{said}", status.as_u16()))),
            false => Err(refused(format!("{then}the authorization server answered {}{said}", status.as_u16()))),
        }
    }
}

/// The token that took the place of the one that was shown. Whom it is for is its server's to read: to a client an access
/// token is opaque. Source: RFC 8693, section 2.2.1.
///
/// # Errors
/// What is wrong with the answer, as the end of a sentence.
fn exchanged(given: &Given, shown: &SecretText) -> Result<SecretText, &'static str> {
    if given.issued_token_type() != Some(ACCESS_TOKEN) {
        return Err("does not say that it is an access token");
    }
    if !given.expires_in().is_some_and(|seconds| (1..=LIFE_S_MAX).contains(&seconds)) {
        return Err("does not say that it ends within an hour");
    }
    match given.token()? {
        token if token == *shown => Err("is the token that was to be exchanged"),
        token => Ok(token),
    }
}
