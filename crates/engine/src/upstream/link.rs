//! The connection to one server: greeting, session, one request and its one answer.

use super::alone;
use super::answer;
use super::client::{builder, guarded};
use super::config::{ServerConfig, ServersError};
use super::greeting;
use super::refresh::Refresh;
use super::tls::{self, Identified};
use super::told::Changes;
use crate::inference::{SseParser, what_broke};
use crate::mcp::era::{ALONE, VERSION_HEADER};
use custody_outbound::is_here;
use custody_ports::identity::WorkloadIdentity;
use custody_ports::secrets::{SecretText, Secrets};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout_at};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static(VERSION_HEADER);
/// The longest session id of a server.
const SESSION_BYTES_MAX: usize = 1_024;
/// Calls of one server at once; further ones wait within their own time.
pub(super) const RUNNING_MAX: usize = 32;
/// What a list of tools or an envelope may be larger than a result.
pub(super) const ENVELOPE_BYTES: usize = 4 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(super) enum Failed {
    /// No secret: nothing was sent.
    Secret(String),
    /// No access token, and why: nothing was sent.
    Token(&'static str, String),
    /// No workload identity: nothing was sent.
    Identity(String),
    /// No connection: nothing was sent.
    Unreachable(String),
    /// The server greeted, and then no good answer came to what was sent.
    Broken(String),
    /// No answer in time to what was sent.
    Silent(u64),
    /// The server refused it by a status, before it looked at it.
    Refused(u16),
    /// The server says that it went wrong.
    Rpc(i64, String),
    /// The answer is larger than it may be.
    TooLarge(usize),
    /// The answer is not of the protocol.
    Odd(String),
    /// The answer repeats the secret.
    Leaked,
}

impl Failed {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Failed::Secret(_) => "SECRET_MISSING",
            Failed::Token(code, _) => code,
            Failed::Identity(_) => "IDENTITY_MISSING",
            Failed::Unreachable(_) => "UPSTREAM_UNREACHABLE",
            Failed::Broken(_) => "UPSTREAM_BROKE_OFF",
            Failed::Silent(_) => "UPSTREAM_SILENT",
            Failed::Refused(_) => "UPSTREAM_REFUSED",
            Failed::Rpc(..) => "TOOL_FAILED",
            Failed::TooLarge(_) => "RESULT_TOO_LARGE",
            Failed::Odd(_) => "UPSTREAM_ANSWER_INVALID",
            Failed::Leaked => "SECRET_IN_ANSWER",
        }
    }

    pub(super) fn detail(&self) -> String {
        match self {
            Failed::Secret(why) | Failed::Identity(why) | Failed::Token(_, why) => why.clone(),
            Failed::Unreachable(what) | Failed::Broken(what) => format!("the tool's server {what}"),
            Failed::Silent(ms) => format!("the tool's server gave no answer within {ms} ms"),
            Failed::Refused(status) => format!("the tool's server answered {status}"),
            Failed::Rpc(code, message) => format!("the tool's server says {code}: {message}"),
            Failed::TooLarge(bytes) => format!("the answer is larger than {bytes} bytes"),
            Failed::Odd(why) => why.clone(),
            Failed::Leaked => "the answer repeated a secret and was thrown away".to_owned(),
        }
    }

    /// Whether the server may have acted on it.
    pub(super) fn was_sent(&self) -> bool {
        match self {
            Failed::Secret(_) | Failed::Token(..) | Failed::Identity(_) | Failed::Unreachable(_) => false,
            // These three say that it was not even looked at. Any other number may have come in the middle of it.
            Failed::Rpc(code, _) => !matches!(code, -32_602..=-32_600),
            Failed::Refused(status) => *status >= 500,
            Failed::Broken(_) | Failed::Silent(_) | Failed::TooLarge(_) | Failed::Odd(_) | Failed::Leaked => true,
        }
    }
}

/// What a request shows of who asks.
#[derive(Clone, Copy)]
pub(super) enum Shown<'a> {
    /// A secret by its reference; the server's own when none is named.
    Secret(Option<&'a str>),
    /// A token of one dispatch.
    Token(&'a SecretText),
}

impl<'a> Shown<'a> {
    /// What a tool names is shown, else the token.
    pub(super) fn of(cred: Option<&'a str>, token: Option<&'a SecretText>) -> Shown<'a> {
        match (cred, token) {
            (None, Some(token)) => Shown::Token(token),
            (cred, _) => Shown::Secret(cred),
        }
    }
}

/// How a server is spoken to.
#[derive(Debug, Clone)]
struct Session {
    version: HeaderValue,
    id: Option<HeaderValue>,
    /// It knows no greeting: every request says all about itself.
    alone: bool,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    method: &'a str,
    params: &'a Value,
    /// Arguments that the server wants to read in headers too, where it knows no greeting.
    repeated: &'a HeaderMap,
}

/// How a connection is made.
enum Way {
    /// In the clear, or by the web's authorities.
    Web(reqwest::Client),
    /// By workload identity.
    Identified(Identified),
}

/// The way to one server.
pub(super) struct Link {
    way: Way,
    url: String,
    config: ServerConfig,
    secrets: Arc<dyn Secrets>,
    /// Where its access tokens come from, when it has a refresh token.
    refresh: Option<Arc<Refresh>>,
    session: Mutex<Option<Session>>,
    running: Semaphore,
    last: AtomicU64,
    changes: Changes,
}

impl Link {
    pub(super) fn new(
        name: &str,
        config: &ServerConfig,
        secrets: Arc<dyn Secrets>,
        identity: Arc<dyn WorkloadIdentity>,
        changes: Changes,
    ) -> Result<Link, ServersError> {
        let missing = || ServersError::Bad { name: name.to_owned(), why: "there is no url".to_owned() };
        let url = config.url.clone().ok_or_else(missing)?;
        let shows = config.cred_ref.is_some()
            || config.audience.is_some()
            || config.exchange.is_some()
            || config.oauth.is_some();
        if !url.starts_with("https://") && shows && !is_here(&url) {
            tracing::warn!(server = name, "an upstream's secret or token crosses the network without TLS");
        }
        let way = match config.spiffe_id.clone() {
            Some(server) => Way::Identified(Identified::new(server, identity)),
            None => Way::Web(guarded(&url, &config.private_networks, Duration::from_millis(config.timeout_ms))?),
        };
        let refresh = match &config.oauth {
            Some(at) => Some(Refresh::new(at, config.timeout_ms, secrets.clone())?),
            None => None,
        };
        Ok(Link {
            way,
            url,
            config: config.clone(),
            secrets,
            refresh,
            session: Mutex::new(None),
            running: Semaphore::new(RUNNING_MAX),
            last: AtomicU64::new(0),
            changes,
        })
    }

    fn client(&self) -> Result<reqwest::Client, Failed> {
        let wait = Duration::from_millis(self.config.timeout_ms);
        match &self.way {
            Way::Web(client) => Ok(client.clone()),
            Way::Identified(way) => {
                let begin = || builder(&self.url, &self.config.private_networks, wait);
                way.client(begin).map_err(|e| Failed::Identity(e.to_string()))
            }
        }
    }

    /// The largest result.
    pub(super) fn result_bytes(&self) -> usize {
        usize::try_from(self.config.result_bytes).unwrap_or(usize::MAX)
    }

    /// Asks one thing and waits for its answer. What was sent is not sent again; only a session that the server does
    /// not know any more, by which it has refused the request, is made anew once.
    ///
    /// `repeated` are arguments that the server wants to read in headers too.
    pub(super) async fn request(
        &self,
        method: &str,
        params: Value,
        shown: Shown<'_>,
        repeated: &HeaderMap,
    ) -> Result<Value, Failed> {
        let asked = Asked { method, params: &params, repeated };
        let until = Instant::now() + Duration::from_millis(self.config.timeout_ms);
        let Ok(Ok(_running)) = timeout_at(until, self.running.acquire()).await else {
            return Err(Failed::Unreachable("has too many calls open".into()));
        };
        let secret = match shown {
            Shown::Token(token) => Some(token.clone()),
            Shown::Secret(cred) => match (cred.or(self.config.cred_ref.as_deref()), &self.refresh) {
                (Some(reference), _) => Some(self.secrets.get(reference).map_err(|e| Failed::Secret(e.to_string()))?),
                (None, Some(refresh)) => Some(refresh.token(until).await?),
                (None, None) => None,
            },
        };
        // A server may tie its session to whose token began it, so a session is not lent to another dispatch.
        let lent = matches!(shown, Shown::Secret(_));
        for again in [true, false] {
            let session = self.greet(secret.as_ref(), until, lent).await?;
            match self.post(Some(&session), asked, secret.as_ref(), until).await {
                Err(Failed::Refused(404)) if again && lent && session.id.is_some() => {
                    *self.session.lock().await = None;
                }
                // Perhaps it is another server by now: the next call asks anew how it is spoken to.
                Err(failed @ Failed::Refused(_)) if session.alone => {
                    *self.session.lock().await = None;
                    return Err(failed);
                }
                other => return other.map(|(value, _)| value),
            }
        }
        Err(Failed::Refused(404))
    }

    /// The session, greeted for when there is none, or none that is lent. That a server knows no greeting holds for all.
    async fn greet(&self, secret: Option<&SecretText>, until: Instant, lent: bool) -> Result<Session, Failed> {
        let mut kept = self.session.lock().await;
        if let Some(session) = kept.as_ref().filter(|session| lent || session.alone) {
            return Ok(session.clone());
        }
        if lent {
            let session = self.greeted(secret, until).await?;
            *kept = Some(session.clone());
            return Ok(session);
        }
        // Those of other dispatches are not held up.
        drop(kept);
        let session = self.greeted(secret, until).await?;
        if session.alone {
            *self.session.lock().await = Some(session.clone());
        }
        Ok(session)
    }

    /// A new session.
    async fn greeted(&self, secret: Option<&SecretText>, until: Instant) -> Result<Session, Failed> {
        let params = greeting::params();
        let asked = Asked { method: "initialize", params: &params, repeated: &HeaderMap::new() };
        let (told, id) = match self.post(None, asked, secret, until).await {
            Ok(greeted) => greeted,
            Err(failed) => {
                // It may be one that knows no greeting any more.
                if matches!(failed, Failed::Rpc(..) | Failed::Refused(400..=499)) && self.discover(secret, until).await
                {
                    let version = HeaderValue::from_static(ALONE);
                    return Ok(Session { version, id: None, alone: true });
                }
                return Err(greeting::failed(failed));
            }
        };
        let version = greeting::version(&told)?;
        let session = Session { version: HeaderValue::from_static(version), id, alone: false };
        let ready = greeting::ready();
        let send = self.client()?.post(&self.url).headers(self.headers(Some(&session), secret)?);
        match timeout_at(until, send.body(ready.to_string()).send()).await {
            Ok(Ok(answer)) if answer.status().is_success() => {}
            Ok(Ok(answer)) => return Err(Failed::Unreachable(format!("did not greet: {}", answer.status().as_u16()))),
            Ok(Err(why)) => return Err(Failed::Unreachable(what_broke(&why))),
            Err(_) => return Err(Failed::Unreachable("gave no answer to the greeting".into())),
        }
        Ok(session)
    }

    /// Whether the server says that it speaks the version without a greeting.
    async fn discover(&self, secret: Option<&SecretText>, until: Instant) -> bool {
        let session = Session { version: HeaderValue::from_static(ALONE), id: None, alone: true };
        let asked = Asked { method: "server/discover", params: &json!({}), repeated: &HeaderMap::new() };
        let told = self.post(Some(&session), asked, secret, until).await;
        told.is_ok_and(|(told, _)| greeting::stands_alone(&told))
    }

    fn headers(&self, session: Option<&Session>, secret: Option<&SecretText>) -> Result<HeaderMap, Failed> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        if let Some(session) = session {
            headers.insert(VERSION, session.version.clone());
            if let Some(id) = &session.id {
                headers.insert(SESSION, id.clone());
            }
        }
        if let Some(secret) = secret {
            let unusable = || Failed::Secret("the secret cannot stand in a header".into());
            let name = HeaderName::from_bytes(self.config.header().as_bytes()).map_err(|_| unusable())?;
            let text = match name == AUTHORIZATION {
                true => format!("Bearer {}", secret.expose()),
                false => secret.expose().to_owned(),
            };
            let mut value = HeaderValue::from_str(&text).map_err(|_| unusable())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    async fn post(
        &self,
        session: Option<&Session>,
        asked: Asked<'_>,
        secret: Option<&SecretText>,
        until: Instant,
    ) -> Result<(Value, Option<HeaderValue>), Failed> {
        let id = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        let Asked { method, params, repeated } = asked;
        let mut message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let mut request = self.client()?.post(&self.url).headers(self.headers(session, secret)?);
        if session.is_some_and(|session| session.alone) {
            alone::envelope(&mut message["params"]);
            request = request.headers(alone::repeated(method, params)).headers(repeated.clone());
        }
        let work = async {
            let response = match request.body(message.to_string()).send().await {
                Ok(response) => response,
                Err(why) => {
                    return Err(match tls::refused(&why) {
                        Some(what) => Failed::Unreachable(what.to_owned()),
                        None if why.is_connect() => Failed::Unreachable(what_broke(&why)),
                        None => Failed::Broken(what_broke(&why)),
                    });
                }
            };
            // A redirect is an answer like any other that is no success: the secret goes to one address only.
            if response.status() == StatusCode::UNAUTHORIZED
                && let (Some(refresh), Some(token)) = (&self.refresh, secret)
            {
                refresh.not_taken(token).await;
            }
            if response.status() != StatusCode::OK {
                return Err(Failed::Refused(response.status().as_u16()));
            }
            let own = response.headers().get(SESSION).filter(|id| id.len() <= SESSION_BYTES_MAX).cloned();
            let text = self.read(response, id).await?;
            let answer: Value =
                serde_json::from_str(&text).map_err(|_| Failed::Odd("the answer is not JSON".into()))?;
            if secret.is_some_and(|secret| holds(&answer, secret)) {
                return Err(Failed::Leaked);
            }
            if answer["id"] != json!(id) || answer["jsonrpc"] != json!("2.0") {
                return Err(Failed::Odd("the answer is to another question".into()));
            }
            Ok((answer::of_message(answer)?, own))
        };
        timeout_at(until, work).await.unwrap_or(Err(Failed::Silent(self.config.timeout_ms)))
    }

    /// The message that answers, out of a body or a stream of events; never more than the bound.
    async fn read(&self, mut response: reqwest::Response, id: u64) -> Result<String, Failed> {
        let most = self.result_bytes().saturating_add(ENVELOPE_BYTES);
        let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let streams = kind.starts_with("text/event-stream");
        let (mut size, mut body) = (0_usize, Vec::new());
        let (mut parser, mut events) = (SseParser::default(), Vec::new());
        while let Some(piece) = response.chunk().await.map_err(|why| Failed::Broken(what_broke(&why)))? {
            size = size.saturating_add(piece.len());
            if size > most {
                return Err(Failed::TooLarge(most));
            }
            if !streams {
                body.extend_from_slice(&piece);
                continue;
            }
            parser.push(&piece, &mut events);
            // What comes before the answer is a notice or a question that is not answered.
            for event in events.drain(..) {
                let Ok(message) = serde_json::from_str::<Value>(&event.data) else { continue };
                self.changes.hear(&message);
                if message["id"] == json!(id) && message["method"].is_null() {
                    return Ok(event.data);
                }
            }
        }
        if streams {
            return Err(Failed::Broken("ended its answer before it came".into()));
        }
        String::from_utf8(body).map_err(|_| Failed::Odd("the answer is not text".into()))
    }
}

/// Whether any text of an answer holds the secret, also as the name of a member.
pub(super) fn holds(value: &Value, secret: &SecretText) -> bool {
    match value {
        Value::String(text) => secret.is_in(text),
        Value::Array(items) => items.iter().any(|item| holds(item, secret)),
        Value::Object(members) => members.iter().any(|(name, value)| secret.is_in(name) || holds(value, secret)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
