//! `POST /access/v1/evaluation` and its metadata. Must never tell more of a dispatch than yes or no, the rule, and why.
//!
//! Source: OpenID AuthZEN Authorization API 1.0, sections 6, 9 and 10.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use custody_engine::deciding::{Decisions, Evaluated};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// The id of a request, which its answer repeats (section 10.1).
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is repeated, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

pub(crate) fn router(decisions: Decisions, at: SocketAddr) -> Router {
    let about = json!({
        "policy_decision_point": format!("http://{at}"),
        "access_evaluation_endpoint": format!("http://{at}/access/v1/evaluation"),
    });
    Router::new()
        .route("/access/v1/evaluation", post(evaluation))
        .route("/.well-known/authzen-configuration", get(move || async move { Json(about) }))
        .with_state(decisions)
}

async fn evaluation(
    State(decisions): State<Decisions>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let mut answer = answered(&decisions, &headers, body).await;
    let told = answer.headers_mut();
    told.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(id) = headers.get(REQUEST_ID).filter(|id| id.len() <= REQUEST_ID_BYTES_MAX) {
        told.insert(REQUEST_ID, id.clone());
    }
    answer
}

async fn answered(decisions: &Decisions, headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return told(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json");
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return told(rejection.status(), "the body broke off or is too large"),
    };
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let authorization = shown.next().filter(|_| shown.next().is_none()).and_then(|v| v.to_str().ok());
    match decisions.evaluates(authorization, &body).await {
        Evaluated::Decided(answer) => Json(answer).into_response(),
        Evaluated::Unauthenticated(code) => {
            let mut answer = told(StatusCode::UNAUTHORIZED, code);
            let how = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, how);
            answer
        }
        Evaluated::Unfit(why) => told(StatusCode::BAD_REQUEST, &why),
        Evaluated::Unavailable(why) => {
            let mut answer = told(StatusCode::SERVICE_UNAVAILABLE, &why);
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            answer
        }
    }
}

fn told(status: StatusCode, why: &str) -> Response {
    let body: Value = json!({ "error": why });
    (status, Json(body)).into_response()
}
