//! An access token of somebody else's authorization server, for a refresh token that an operator gave us. Must never ask for
//! two at once, show an access token whose refresh token is not kept, or ask again for what was refused.
//!
//! A server that gives a new refresh token may refuse the old one from then on. So an answer is taken to its end also when
//! nobody waits for it any more, and no request is sent twice. What is lost in between all the same (this process dies, or the
//! answer breaks off) leaves the old one: the server then refuses it, that is `REFRESH_REFUSED`, and an operator gives a new one.
//!
//! Source: RFC 6749, sections 5 and 6; RFC 9700, section 4.14.

#[cfg(test)]
mod tests;

use super::config::{OauthConfig, ServersError};
use super::endpoint::{self, ANSWER_BYTES_MAX, Broke, Endpoint, Given, encoded};
use super::link::Failed;
use custody_ports::secrets::{SecretText, Secrets};
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

/// How long before its end a token is not used any more; of one that lives for less than twice as long, half of its life.
const EARLY: Duration = Duration::from_secs(30);
/// How long a token is used whose answer does not say how long it is good.
const UNSAID: Duration = Duration::from_secs(60);
/// How long any token is used at most.
const USED_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// A token that a server does not take is not asked for anew sooner than this after it was given.
const SETTLED: Duration = Duration::from_secs(10);
/// After an answer that is no token: how long nothing is asked, at first and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The way to the access token of one server.
pub(super) struct Refresh {
    endpoint: Endpoint,
    config: OauthConfig,
    secrets: Arc<dyn Secrets>,
    /// Held while a token is asked for: one at a time, the others wait within their own time.
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    access: Option<Access>,
    /// What was given for a refresh token, whose successor could not be kept yet.
    unkept: Option<(SecretText, SecretText, Access)>,
    failure: Option<Failure>,
}

#[derive(Clone)]
struct Access {
    token: SecretText,
    /// The refresh token that stands for it: another one is another identity.
    refresh: SecretText,
    given: Instant,
    until: Instant,
}

/// Why there was no token, and how long nothing is asked.
struct Failure {
    /// For which refresh token.
    refresh: SecretText,
    failed: Failed,
    pause: Duration,
    /// `None`: until there is another refresh token.
    until: Option<Instant>,
}

/// An answer that is no token.
enum No {
    /// The refresh token is not good any more.
    Grant(Failed),
    /// Anything else.
    Other(Failed),
}

fn refused(detail: String) -> Failed {
    Failed::Token("REFRESH_REFUSED", detail)
}

fn unavailable(what: &str) -> Failed {
    Failed::Token("REFRESH_UNAVAILABLE", format!("the authorization server of the tool's server {what}"))
}

impl State {
    /// The access token that is good now, for a refresh token.
    fn good(&self, refresh: &SecretText) -> Option<SecretText> {
        let good = self.access.as_ref().filter(|access| Instant::now() < access.until && access.refresh == *refresh);
        good.map(|access| access.token.clone())
    }
}

impl Refresh {
    pub(super) fn new(
        config: &OauthConfig,
        timeout_ms: u64,
        secrets: Arc<dyn Secrets>,
    ) -> Result<Arc<Refresh>, ServersError> {
        let endpoint = Endpoint::new(&config.token_url, &config.private_networks, timeout_ms)?;
        Ok(Arc::new(Refresh { endpoint, config: config.clone(), secrets, state: Arc::default() }))
    }

    /// An access token that is good now.
    ///
    /// # Errors
    /// `SECRET_MISSING`, `REFRESH_UNAVAILABLE`, `REFRESH_REFUSED` or `REFRESH_NOT_KEPT`. Nothing was sent to the server of tools.
    pub(super) async fn token(self: &Arc<Self>, until: Instant) -> Result<SecretText, Failed> {
        let late = |_| unavailable("is still asked for a token");
        let mut state = timeout_at(until, self.state.clone().lock_owned()).await.map_err(late)?;
        let refresh = self.secret(&self.config.refresh_ref)?;
        if let Some(token) = state.good(&refresh) {
            return Ok(token);
        }
        let own = self.clone();
        let renewing = tokio::spawn(async move { own.renew(&mut state, refresh).await });
        let broke = |_| unavailable("was asked, and that broke off");
        timeout_at(until, renewing).await.map_err(|_| unavailable("gave no answer in time"))?.map_err(broke)?
    }

    /// A server did not take a token: the next question asks for another one, unless this one is quite new.
    pub(super) async fn not_taken(&self, token: &SecretText) {
        let mut state = self.state.lock().await;
        if state.access.as_ref().is_some_and(|access| access.token == *token && access.given.elapsed() >= SETTLED) {
            state.access = None;
        }
    }

    async fn renew(&self, state: &mut State, mut refresh: SecretText) -> Result<SecretText, Failed> {
        if let Some((used, next, access)) = state.unkept.take()
            && used == refresh
        {
            self.keep(state, used, next, access)?;
            refresh = self.secret(&self.config.refresh_ref)?;
            if let Some(token) = state.good(&refresh) {
                return Ok(token);
            }
        }
        let before = state.failure.as_ref().filter(|failure| failure.refresh == refresh);
        if let Some(failure) = before
            && failure.until.is_none_or(|until| Instant::now() < until)
        {
            return Err(failure.failed.clone());
        }
        let pause = before.map_or(PAUSE_MIN, |failure| (failure.pause * 2).min(PAUSE_MAX));
        let own = self.config.client_secret_ref.as_deref();
        let own = own.map(|reference| self.secret(reference)).transpose()?;
        let (access, next) = match self.ask(&refresh, own.as_ref()).await {
            Ok(given) => given,
            Err(no) => {
                let (failed, until) = match no {
                    No::Grant(failed) => (failed, None),
                    No::Other(failed) => (failed, Some(Instant::now() + pause)),
                };
                tracing::warn!(code = failed.code(), why = failed.detail(), "an access token was not given");
                state.failure = Some(Failure { refresh, failed: failed.clone(), pause, until });
                return Err(failed);
            }
        };
        state.failure = None;
        let token = access.token.clone();
        match next.filter(|next| *next != refresh) {
            Some(next) => self.keep(state, refresh, next, access)?,
            None => state.access = Some(access),
        }
        Ok(token)
    }

    /// Keeps the successor of a refresh token before what was given with it may be used.
    fn keep(&self, state: &mut State, used: SecretText, next: SecretText, mut access: Access) -> Result<(), Failed> {
        match self.secrets.replace(&self.config.refresh_ref, &used, &next) {
            Ok(kept) => {
                if !kept {
                    tracing::info!("a refresh token was set by somebody while its successor came: what was set counts");
                }
                access.refresh = next;
                state.access = Some(access);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the successor of a refresh token is not kept; the next call tries again");
                state.unkept = Some((used, next, access));
                let detail = "the new refresh token of the tool's server could not be kept, so nothing is done with it";
                Err(Failed::Token("REFRESH_NOT_KEPT", detail.into()))
            }
        }
    }

    fn secret(&self, reference: &str) -> Result<SecretText, Failed> {
        self.secrets.get(reference).map_err(|e| Failed::Secret(e.to_string()))
    }

    async fn ask(&self, refresh: &SecretText, own: Option<&SecretText>) -> Result<(Access, Option<SecretText>), No> {
        let other = No::Other;
        let headers = endpoint::headers(&self.config.client_id, own);
        let headers = headers.ok_or_else(|| other(Failed::Secret("the client's secret is not fit".into())))?;
        let mut body = format!("grant_type=refresh_token&refresh_token={}", encoded(refresh.expose()));
        if own.is_none() {
            // Who has no secret says its name (RFC 6749, section 3.2.1).
            body.push_str("&client_id=");
            body.push_str(&encoded(&self.config.client_id));
        }
        if let Some(scope) = &self.config.scope {
            body.push_str("&scope=");
            body.push_str(&encoded(scope));
        }
        let wait = self.endpoint.wait;
        let asked = timeout(wait, self.endpoint.post(headers, body)).await;
        let (status, answer) = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(Broke::Connection(what))) => return Err(other(unavailable(&what))),
            Ok(Err(Broke::TooLarge)) => {
                return Err(other(refused(format!("a token's answer is larger than {ANSWER_BYTES_MAX} bytes"))));
            }
            Err(_) => {
                return Err(other(unavailable(&format!("gave no answer within {} ms", wait.as_millis()))));
            }
        };
        if status == StatusCode::OK {
            let odd = |what| other(refused(format!("the authorization server's answer {what}")));
            let given = endpoint::read(&answer).map_err(odd)?;
            let next = given.refresh().map_err(odd)?;
            return Ok((access(&given, refresh).map_err(odd)?, next));
        }
        let hidden: Vec<&SecretText> = std::iter::once(refresh).chain(own).collect();
        let (error, said) = endpoint::said(&answer, &hidden);
        if endpoint::is_down(status) {
            return Err(other(unavailable(&format!("answered {}{said}", status.as_u16()))));
        }
        let failed = refused(format!("the authorization server answered {}{said}", status.as_u16()));
        match error == "invalid_grant" {
            true => Err(No::Grant(failed)),
            false => Err(other(failed)),
        }
    }
}

/// The access token of an answer, and until when it is used.
fn access(answer: &Given, refresh: &SecretText) -> Result<Access, &'static str> {
    let (token, given) = (answer.token()?, Instant::now());
    Ok(Access { token, refresh: refresh.clone(), given, until: given + used_for(answer.expires_in()) })
}

/// How long a token is used.
fn used_for(expires_in: Option<u64>) -> Duration {
    let life = expires_in.map_or(UNSAID, Duration::from_secs).min(USED_MAX);
    life.saturating_sub(EARLY).max(life / 2)
}
