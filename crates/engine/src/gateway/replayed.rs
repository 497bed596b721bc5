//! The inference door of a dispatch that repeats another one: the recorded answers, and no model behind them. Must never
//! go on to the real door; a request that is not on the tape is told so and recorded as failed.

use super::record::append;
use super::serve::{Shared, full, status};
use crate::inference::{self, Api, BoxBody};
use crate::replay::{Tape, TapedCall};
use bytes::Bytes;
use custody_contracts::canonical::{derived_id, digest};
use custody_contracts::events::{EffectOutcome, ModelCalled};
use custody_domain::effect::EffectCommand;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use std::sync::atomic::Ordering;

/// What the upstream of a replay is called in the ledger.
const UPSTREAM: &str = "replay";
/// The largest request that is compared.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest detail of a record, in bytes.
const DETAIL_BYTES_MAX: usize = 500;

/// Answers one request from the tape.
pub(super) async fn answer(shared: &Shared, tape: &Tape, request: Request<Incoming>) -> Response<BoxBody> {
    let path = request.uri().path().to_owned();
    let Some(api) = Api::ALL.into_iter().find(|api| path.starts_with(api.path())) else {
        return status(
            StatusCode::NOT_FOUND,
            r#"{"error":{"message":"a replay answers model calls and nothing else"}}"#,
        );
    };
    if request.method() != Method::POST {
        return inference::refuse(&path, 405, "method_not_allowed", "use POST".to_owned());
    }
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        let why = format!("the request broke off or is larger than {BODY_BYTES_MAX} bytes");
        return inference::refuse(&path, 413, "request_too_large", why);
    };
    let body = body.to_bytes();
    match tape.take_call(api.as_str(), &body) {
        Ok(taped) => {
            record(shared, api, &body, &taped.response, Some(&taped), None).await;
            let events = [&b"event:"[..], b"data:", b":"].iter().any(|start| taped.response.starts_with(start));
            let kind = if events { "text/event-stream" } else { "application/json" };
            let code = StatusCode::from_u16(taped.status()).unwrap_or(StatusCode::BAD_GATEWAY);
            let mut response = Response::new(full(Bytes::from(taped.response)));
            *response.status_mut() = code;
            response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
            response
        }
        Err(why) => {
            let told = format!("REPLAY_DIVERGED: {why}; nothing was called");
            record(shared, api, &body, b"", None, Some(&told)).await;
            inference::refuse(&path, 409, "replay_diverged", told)
        }
    }
}

async fn record(
    shared: &Shared,
    api: Api,
    request: &Bytes,
    response: &[u8],
    taped: Option<&TapedCall>,
    why: Option<&str>,
) {
    let subject = &shared.claimed.admitted.unit.identity.subject;
    let named = |body: &[u8]| shared.gateway.blobs.name(subject, body).unwrap_or_else(|_| digest(b""));
    for bytes in [request.to_vec(), response.to_vec()] {
        if let Err(error) = shared.gateway.blobs.put(subject, bytes).await {
            tracing::warn!(%error, dispatch = %shared.claimed.admitted.dispatch, "a body of a replay was not stored");
        }
    }
    let dispatch = shared.claimed.admitted.dispatch.clone();
    let n = shared.calls.fetch_add(1, Ordering::SeqCst) + 1;
    let detail = why.map(str::to_owned).or_else(|| taped.and_then(|taped| taped.called.detail.clone()));
    let event = ModelCalled {
        dispatch: dispatch.clone(),
        n,
        api: api.as_str().to_owned(),
        upstream: UPSTREAM.to_owned(),
        model: taped.map_or_else(String::new, |taped| taped.called.model.clone()),
        request_digest: named(&request[..]),
        response_digest: named(response),
        status: taped.map_or(0, |taped| taped.called.status),
        outcome: taped.map_or(EffectOutcome::Failed, |taped| taped.called.outcome),
        detail: detail.map(|text| text.chars().take(DETAIL_BYTES_MAX).collect()),
        // Nothing was sent and nothing was paid.
        input_tokens: 0,
        output_tokens: 0,
        duration_ms: 0,
        cached_tokens: None,
        cost_micros: None,
        attempts: Some(0),
        provider: None,
        response_model: taped.and_then(|taped| taped.called.response_model.clone()),
    };
    let id = derived_id("eff-", &[dispatch.as_str().as_bytes(), &n.to_be_bytes(), event.request_digest.as_bytes()]);
    let entity = format!("{dispatch}-m{n}");
    append(&shared.gateway, &shared.claimed, &entity, &id, EffectCommand::Call(Box::new(event))).await;
}
