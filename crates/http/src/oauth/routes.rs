//! The routes. Must never hold more requests than there is room for.

use super::form::{GRANT_TYPE, ISSUED_TYPE, OauthError, read};
use crate::api::Api;
use crate::guard::{Own, harden};
use crate::problem::{Code, Problem};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

/// The largest request in bytes: two tokens and what is asked.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Exchanges at once; further ones are sent away.
const RUNNING_MAX: usize = 32;
/// Questions for keys or metadata at once; further ones are sent away.
const LOOKING_MAX: usize = 256;
/// How long what authority says of its keys counts as what it says now.
const FRESH: Duration = Duration::from_secs(5);
/// How long it counts when authority does not answer.
const STALE_MAX: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Face {
    api: Api,
    running: Arc<Semaphore>,
    looking: Arc<Semaphore>,
    told: Arc<Mutex<Told>>,
}

/// What authority said last.
#[derive(Default)]
struct Told {
    asked: Option<Instant>,
    good: Option<(Instant, Value)>,
}

/// The routes over an api. They have a guard of their own: programs send no `Origin`.
pub(crate) fn router(api: Api, own: Arc<Own>) -> Router {
    let face = Face {
        api,
        running: Arc::new(Semaphore::new(RUNNING_MAX)),
        looking: Arc::new(Semaphore::new(LOOKING_MAX)),
        told: Arc::default(),
    };
    Router::new()
        .route("/oauth2/token", post(token))
        .route("/.well-known/jwks.json", get(jwks))
        .route("/.well-known/oauth-authorization-server", get(metadata))
        // RFC 8414, 3.1: the path of the issuer stands after the well-known one.
        .route("/.well-known/oauth-authorization-server/sts", get(metadata))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(own, programs))
        .with_state(face)
}

/// Before and after each of them.
async fn programs(State(own): State<Arc<Own>>, request: Request, next: Next) -> Response {
    let answer = if own.knows_host(request.headers()) {
        next.run(request).await
    } else {
        Problem::new(Code::HostRefused, "the Host header names another server").into_response()
    };
    harden(&own, answer)
}

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({ "error": self.error, "error_description": self.description });
        let mut answer = unkept(status, &body);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

/// An answer that nobody may keep (RFC 6749, 5.1).
fn unkept(status: StatusCode, body: &Value) -> Response {
    let mut answer = (status, axum::Json(body)).into_response();
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    answer
}

async fn token(
    State(face): State<Face>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    match exchange(&face, &headers, body.ok()).await {
        Ok(answer) => answer,
        Err(error) => error.into_response(),
    }
}

async fn exchange(face: &Face, headers: &HeaderMap, body: Option<Bytes>) -> Result<Response, OauthError> {
    let Ok(_room) = face.running.try_acquire() else {
        return Err(OauthError::new(503, "temporarily_unavailable", "too many requests at once; ask again"));
    };
    if headers.contains_key(header::ORIGIN) {
        return Err(OauthError::new(400, "invalid_request", "no page of a browser is answered here"));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(OauthError::new(400, "invalid_request", "send application/x-www-form-urlencoded"));
    }
    let body = body.ok_or_else(|| {
        OauthError::new(400, "invalid_request", &format!("a request has at most {BODY_BYTES_MAX} bytes"))
    })?;
    let ask = read(&body)?;
    let ask = serde_json::to_value(&ask).unwrap_or_default();
    let given = face.api.command("token.exchange", ask).await;
    let given = given.map_err(|no| OauthError::of_refusal(no.status, &no.code, &no.detail))?;
    let body = json!({
        "access_token": given["token"],
        "issued_token_type": ISSUED_TYPE,
        "token_type": "Bearer",
        "expires_in": given["expires_in"],
        "scope": given["scope"],
    });
    Ok(unkept(StatusCode::OK, &body))
}

/// What authority says of issuer and keys; not asked more often than needed, also when it does not answer.
async fn published(face: &Face) -> Result<Value, Problem> {
    let busy = || Problem::new(Code::Unavailable, "too many requests at once; ask again");
    let _room = face.looking.try_acquire().map_err(|_| busy())?;
    let mut told = face.told.lock().await;
    if told.asked.is_none_or(|asked| asked.elapsed() >= FRESH) {
        let answer = face.api.command("token.published", json!({})).await;
        told.asked = Some(Instant::now());
        if let Ok(value) = answer {
            told.good = Some((Instant::now(), value));
        }
    }
    match &told.good {
        Some((at, value)) if at.elapsed() < STALE_MAX => Ok(value.clone()),
        _ => Err(Problem::new(Code::Unavailable, "the role that signs tokens does not answer").hint("custody status")),
    }
}

/// What may be kept for a minute: a key is published long before it signs.
fn kept(body: &Value) -> Response {
    let mut answer = axum::Json(body).into_response();
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
    answer
}

async fn jwks(State(face): State<Face>) -> Result<Response, Problem> {
    Ok(kept(&published(&face).await?["jwks"]))
}

/// Source: RFC 8414, section 2.
async fn metadata(State(face): State<Face>) -> Result<Response, Problem> {
    let issuer = published(&face).await?["issuer"].clone();
    let settings = &face.api.settings;
    let at = settings.origins.first().cloned().unwrap_or_else(|| format!("http://{}", settings.listen));
    Ok(kept(&json!({
        "issuer": issuer,
        "token_endpoint": format!("{at}/oauth2/token"),
        "jwks_uri": format!("{at}/.well-known/jwks.json"),
        "grant_types_supported": [GRANT_TYPE],
        "response_types_supported": [],
        // The actor token is the proof of who asks.
        "token_endpoint_auth_methods_supported": ["none"],
    })))
}
