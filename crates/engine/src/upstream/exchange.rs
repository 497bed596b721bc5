//! An access token of somebody else's authorization server, for an assertion of our token service. Must never keep one, or
//! ask for one more often than its connection breaks.
//!
//! Source: RFC 7523, section 2.1.

use super::config::{ExchangeConfig, ServersError};
use super::endpoint::{self, ANSWER_BYTES_MAX, Broke, Endpoint, encoded};
use custody_domain::tool::ToolRefusal;
use custody_ports::secrets::{SecretText, Secrets};
use http::StatusCode;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// What is asked for. Source: RFC 7523, section 2.1.
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How often it is asked. Only a connection that broke is tried again: an assertion is good for one token at most, and a
/// token that nobody got is used by nobody.
const TRIES_MAX: u32 = 2;
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

impl Exchange {
    pub(super) fn new(
        config: &ExchangeConfig,
        timeout_ms: u64,
        secrets: Arc<dyn Secrets>,
    ) -> Result<Exchange, ServersError> {
        let endpoint = Endpoint::new(&config.token_url, timeout_ms)?;
        Ok(Exchange { endpoint, config: config.clone(), secrets, running: Semaphore::new(RUNNING_MAX) })
    }

    /// A token for an assertion.
    ///
    /// # Errors
    /// The refusal of the call that it was to be for: `SECRET_MISSING`, `EXCHANGE_UNAVAILABLE` or `EXCHANGE_REFUSED`.
    pub(super) async fn token(&self, assertion: &SecretText) -> Result<SecretText, ToolRefusal> {
        let missing = |why: String| ToolRefusal::new("SECRET_MISSING", why, "nothing was done; tell the person");
        let secret = self.secrets.get(&self.config.client_secret_ref).map_err(|e| missing(e.to_string()))?;
        let headers = endpoint::headers(&self.config.client_id, Some(&secret));
        let headers = headers.ok_or_else(|| missing("the client's secret is not fit".into()))?;
        let mut body = format!("grant_type={}&assertion={}", encoded(GRANT_TYPE), encoded(assertion.expose()));
        if let Some(scope) = &self.config.scope {
            body.push_str("&scope=");
            body.push_str(&encoded(scope));
        }
        let asked = async {
            let Ok(_running) = self.running.acquire().await else { return Err(unavailable("is not asked any more")) };
            let mut tried = 1;
            loop {
                match self.endpoint.post(headers.clone(), body.clone()).await {
                    Ok(answer) => return Ok(answer),
                    Err(Broke::Connection(_)) if tried < TRIES_MAX => tried += 1,
                    Err(Broke::Connection(what)) => return Err(unavailable(&what)),
                    Err(Broke::TooLarge) => {
                        return Err(refused(format!("a token's answer is larger than {ANSWER_BYTES_MAX} bytes")));
                    }
                }
            }
        };
        let wait = self.endpoint.wait;
        let silent = || unavailable(&format!("gave no answer within {} ms", wait.as_millis()));
        let (status, answer) = timeout_at(Instant::now() + wait, asked).await.map_err(|_| silent())??;
        if status == StatusCode::OK {
            let given = endpoint::read(&answer).and_then(|given| given.token());
            return given.map_err(|what| refused(format!("the authorization server's answer {what}")));
        }
        // A redirect is an answer like any other that is no success: assertion and secret go to one address only.
        let (_, said) = endpoint::said(&answer, &[assertion, &secret]);
        match endpoint::is_down(status) {
            true => Err(unavailable(&format!("answered {}{said}", status.as_u16()))),
            false => Err(refused(format!("the authorization server answered {}{said}", status.as_u16()))),
        }
    }
}
