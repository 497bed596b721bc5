//! The routes, one function each. Every error is a problem of the one table; every answer is a shape of runtime.v1.

use super::auth::{Caller, admit};
use super::events;
use super::face::Face;
use super::spec::{self, Posted};
use super::view::Workload;
use super::{BODY_BYTES_MAX, LIST_MAX};
use crate::problem::{Code, Problem};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use custody_contracts::events::{DispatchEvent, Kind, LedgerEvent};
use custody_contracts::messages::ErrorDoc;
use custody_contracts::workload::{WorkloadState, WorkloadStatus};
use custody_engine::follow::read_or_note;
use custody_ledger::Entity;
use custody_ports::asks::{LaunchFailed, Launched};
use custody_ports::blobs::BlobError;
use custody_trust::token::Scope;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// How long authority may take to decide a launch.
const DECIDED_MAX: Duration = Duration::from_secs(20);

/// The application.
pub fn app(face: Face) -> Router {
    Router::new()
        .route("/workloads", get(list).post(create))
        .route("/workloads/{id}", get(one).delete(delete))
        .route("/workloads/{id}/stop", axum::routing::post(stop))
        .route("/workloads/{id}/events", get(events::events))
        .fallback(async || {
            Problem::new(Code::NoRoute, "there is /workloads, /workloads/ID, /stop and /events below it")
        })
        .method_not_allowed_fallback(async || Problem::new(Code::Method, "see contracts/runtime.v1"))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(face.clone(), bounded))
        .with_state(face)
}

/// A bounded number of requests at once, and the headers of every answer.
async fn bounded(State(face): State<Face>, request: Request, next: Next) -> Response {
    let mut answer = match face.requests.clone().try_acquire_owned() {
        Ok(_permit) => next.run(request).await,
        Err(_) => Problem::new(Code::Unavailable, "too many requests are being worked on").into_response(),
    };
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    if answer.status() == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer realm=\"custody/runtime\"");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    answer
}

async fn create(
    State(face): State<Face>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let caller = admit(&face, &headers, Scope::Write)?;
    let body = body.map_err(|_| {
        Problem::new(Code::TooLarge, format!("a specification has at most {BODY_BYTES_MAX} bytes"))
            .hint("put large input into a workspace and name it in CUSTODY_PROMPT_PATH")
    })?;
    let name = |bytes: &[u8]| {
        face.blobs.name(&caller.subject, bytes).map_err(|error| match error {
            BlobError::Erased(who) => Problem::new(Code::Conflict, format!("{who} was erased")).code("SUBJECT_ERASED"),
            _ => Problem::new(Code::Unavailable, "the specification could not be sealed; post it again"),
        })
    };
    let posted = spec::read(&body, &caller.subject, face.settings.backend, &face.settings.ceilings, name);
    let posted = posted.inspect_err(|problem| (face.refused)(&problem.code))?;
    let known = match face.view(|view| view.get(&posted.id).cloned()) {
        Some(known) => Some(known),
        None => face.load(&posted.id).await?,
    };
    if let Some(known) = known {
        return Ok((StatusCode::OK, Json(same(&face, &known, &posted, &caller).await?)).into_response());
    }
    // The blob is there before the ledger names it.
    let stored = face.blobs.put(&caller.subject, posted.bytes.clone()).await;
    stored.map_err(|_| Problem::new(Code::Unavailable, "the specification could not be stored; post it again"))?;
    let launched = face.launcher.launch(&posted.id, &posted.unit).await.map_err(not_launched)?;
    let seq = decided(&face, &posted, &launched).await.inspect_err(|problem| (face.refused)(&problem.code))?;
    face.seen(seq).await;
    let workload = face.find(&posted.id, caller.subject.as_str()).await?;
    tracing::info!(workload = posted.id, dispatch = workload.dispatch, token = caller.jti, "workload posted");
    let status = same(&face, &workload, &posted, &caller).await?;
    let place = HeaderValue::from_str(&["/workloads/", &posted.id].concat());
    let place = place.map_err(|e| Problem::new(Code::Internal, e))?;
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], Json(status)).into_response())
}

/// The status of a workload that is there, if it is the one that was posted.
async fn same(face: &Face, known: &Workload, posted: &Posted, caller: &Caller) -> Result<WorkloadStatus, Problem> {
    if known.subject != caller.subject.as_str() || known.digest.as_ref() != Some(&posted.digest) {
        (face.refused)("WORKLOAD_EXISTS");
        return Err(Problem::new(
            Code::Conflict,
            format!("workload {} is there with another specification", posted.id),
        )
        .code("WORKLOAD_EXISTS")
        .hint("give every workload an id of its own; post the same body to ask for the same workload"));
    }
    Ok(face.status(known).await)
}

fn not_launched(failed: LaunchFailed) -> Problem {
    match failed {
        LaunchFailed::TooLarge(bytes) => Problem::new(Code::TooLarge, format!("its launch would have {bytes} bytes"))
            .hint("put large input into a workspace and name it in CUSTODY_PROMPT_PATH"),
        LaunchFailed::Refused(_) => Problem::new(Code::Unavailable, "the launcher runtime-http is not let in")
            .code("LAUNCHER_REFUSED")
            .hint("custody launcher register runtime-http"),
        LaunchFailed::Unavailable(_) => {
            Problem::new(Code::Unavailable, "the launch was not acknowledged; post the same again")
        }
    }
}

/// Waits for authority's decision and gives its place.
async fn decided(face: &Face, posted: &Posted, launched: &Launched) -> Result<u64, Problem> {
    let until = tokio::time::Instant::now() + DECIDED_MAX;
    let mut changes = face.changes();
    loop {
        for dispatch in [&launched.dispatch, &launched.refused_as] {
            let Some(entity) = Entity::new(Kind::Dispatch, dispatch.as_str()) else { continue };
            let history = face.log.load(&entity).await;
            let history = history.map_err(|_| Problem::new(Code::Unavailable, "the ledger does not answer"))?;
            let Some(first) = history.first() else { continue };
            for recorded in read_or_note(first) {
                match recorded.event {
                    Some(LedgerEvent::Dispatch(DispatchEvent::Refused(e))) => {
                        let code = if e.reason == "MESSAGE_ID_REUSED" { Code::Conflict } else { Code::Unprocessable };
                        return Err(Problem::new(code, e.detail).code(&e.reason).hint(e.hint));
                    }
                    Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(_))) => return Ok(first.seq.0),
                    _ => {}
                }
            }
        }
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() {
            let why = format!("workload {} is stored and not decided yet; post the same again", posted.id);
            return Err(Problem::new(Code::TimedOut, why));
        }
        let _more = tokio::time::timeout(left.min(Duration::from_millis(500)), changes.changed()).await;
    }
}

async fn one(
    State(face): State<Face>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<WorkloadStatus>, Problem> {
    let caller = admit(&face, &headers, Scope::Read)?;
    let workload = face.find(&id, caller.subject.as_str()).await?;
    Ok(Json(face.status(&workload).await))
}

/// What of a list is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Only in this state.
    state: Option<String>,
    /// At most so many.
    limit: Option<usize>,
    /// Only older ones than this.
    after: Option<String>,
}

async fn list(
    State(face): State<Face>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let caller = admit(&face, &headers, Scope::Read)?;
    let Query(wanted) = wanted.map_err(|e| Problem::new(Code::Invalid, e.body_text()).code("QUERY_INVALID"))?;
    let state = wanted.state.as_deref().map(|word| {
        WorkloadState::parse(word).ok_or_else(|| {
            Problem::new(Code::Invalid, format!("{word:?} is no state"))
                .code("QUERY_INVALID")
                .hint("starting, running, stopping, stopped, destroyed")
        })
    });
    let state = state.transpose()?;
    let limit = wanted.limit.unwrap_or(100);
    if !(1..=LIST_MAX).contains(&limit) {
        let why = format!("limit {limit} is not between 1 and {LIST_MAX}");
        return Err(Problem::new(Code::Invalid, why).code("QUERY_INVALID"));
    }
    let subject = caller.subject.as_str();
    let all: Vec<Workload> = face.view(|view| {
        let begin = wanted.after.as_deref();
        let mut past = begin.is_none();
        let after = view.of(subject).filter(|w| {
            let was = past;
            past = past || Some(w.id.as_str()) == begin;
            was
        });
        after.cloned().collect()
    });
    let there = face.containers_there().await;
    let gone = |w: &Workload| match (&there, &w.container) {
        (_, None) => true,
        (Some(names), Some(name)) => !names.contains(name),
        (None, Some(_)) => false,
    };
    let told = |w: &Workload| w.status(face.settings.backend, &face.settings.node, gone(w));
    let statuses = all.iter().map(told).filter(|status| state.is_none_or(|wanted| status.state == wanted));
    let mut page: Vec<WorkloadStatus> = statuses.take(limit + 1).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let mut answer = Json(&page).into_response();
    // Source: RFC 8288. The shape of one workload stays the contract's, and the list a list of them.
    if let Some(last) = page.last().filter(|_| more) {
        let state = state.map_or_else(String::new, |s| ["&state=", s.as_str()].concat());
        let link = format!("</workloads?limit={limit}&after={}{state}>; rel=\"next\"", last.workload_id);
        let link = HeaderValue::from_str(&link).map_err(|e| Problem::new(Code::Internal, e))?;
        answer.headers_mut().insert(header::LINK, link);
    }
    Ok(answer)
}

async fn stop(
    State(face): State<Face>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<WorkloadStatus>), Problem> {
    let caller = admit(&face, &headers, Scope::Write)?;
    end(&face, &id, &caller, face.settings.grace_ms).await
}

async fn delete(
    State(face): State<Face>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<WorkloadStatus>), Problem> {
    let caller = admit(&face, &headers, Scope::Write)?;
    end(&face, &id, &caller, 0).await
}

/// Asks authority to end a workload; what is asked and by whom is then in the ledger, and the runtime carries it out.
async fn end(
    face: &Face,
    id: &str,
    caller: &Caller,
    grace_ms: u64,
) -> Result<(StatusCode, Json<WorkloadStatus>), Problem> {
    let workload = face.find(id, caller.subject.as_str()).await?;
    if workload.stopped_at.is_none() {
        let asked = json!({
            "dispatch": workload.dispatch, "by": format!("{}:{}", super::LAUNCHER, caller.subject), "grace_ms": grace_ms,
        });
        let answer = face.asks.ask("command.dispatch.stop", asked.to_string().into_bytes()).await;
        let answer = answer.map_err(|_| Problem::new(Code::Unavailable, "authority does not answer; ask again"))?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|e| Problem::new(Code::Internal, e))?;
        if answer.get("ok").is_none() {
            let doc: ErrorDoc = serde_json::from_value(answer).map_err(|e| Problem::new(Code::Internal, e))?;
            return Err(doc.into());
        }
        face.seen(answer.pointer("/ok/seq").and_then(Value::as_u64).unwrap_or_default()).await;
    }
    let workload = face.find(id, caller.subject.as_str()).await?;
    let status = face.status(&workload).await;
    let done = matches!(status.state, WorkloadState::Stopped | WorkloadState::Destroyed);
    Ok((if done { StatusCode::OK } else { StatusCode::ACCEPTED }, Json(status)))
}
