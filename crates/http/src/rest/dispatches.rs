//! Dispatches: list, one, its events, its output, and the three commands. Must never show a row that is another
//! person's to somebody who is no administrator.

use super::shapes::{
    DispatchOne, DispatchPage, DispatchShape, EventList, LaunchBody, LaunchedShape, OutputPage, RetryBody, StopBody,
    Stopped,
};
use super::{Body, Query};
use crate::api::Api;
use crate::auth::Person;
use crate::bridge::commands::{self, Done};
use crate::bridge::open::{messages, owner, visible_dispatch};
use crate::problem::{Code, Details, Problem};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use custody_contracts::catalogue;
use custody_contracts::ids::DispatchId;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Rows of a page.
const LIMIT: usize = 50;
/// The most rows of a page.
const LIMIT_MAX: usize = 500;
/// The most chunks of a page of output.
const CHUNKS_MAX: usize = 200;
/// How long a launch waits for its decision.
const DECISION_WAIT: Duration = Duration::from_secs(10);
/// The longest id of a command.
const ID_MAX: usize = 128;

/// Which dispatches.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// queued, refused, starting, running, stopping, completed, ended; comma-separated.
    status: Option<String>,
    /// Only this person's; for administrators.
    subject: Option<String>,
    /// Only through this launcher.
    launcher: Option<String>,
    /// Only of this session.
    session: Option<String>,
    /// At most so many rows, newest first; 500 are the most.
    limit: Option<usize>,
    /// Only those that began before this sequence: the next page.
    before_seq: Option<u64>,
    /// Wait until this ledger sequence is in it.
    min_seq: Option<u64>,
}

/// Dispatches, newest first.
#[utoipa::path(
    get, path = "/api/v1/dispatches", tag = "dispatches", params(ListQuery),
    responses((status = 200, body = DispatchPage), (status = 400, body = Details), (status = 401, body = Details))
)]
pub async fn list(
    State(api): State<Api>,
    person: Person,
    Query(query): Query<ListQuery>,
) -> Result<Json<DispatchPage>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let status: Vec<&str> = query.status.as_deref().map(|s| s.split(',').collect()).unwrap_or_default();
    let subject = if person.admin { query.subject } else { Some(person.subject) };
    let body = json!({
        "status": status, "subject": subject, "launcher": query.launcher, "session": query.session,
        "limit": limit, "before_seq": query.before_seq, "min_seq": query.min_seq.unwrap_or(0),
    });
    let answer = api.query("dispatch.ls", body).await?;
    let rows: Vec<DispatchShape> = shaped(&answer, "rows")?;
    let next_before_seq = rows.last().filter(|_| rows.len() == limit).map(|r| r.first_seq);
    Ok(Json(DispatchPage { as_of: as_of(&answer), rows, next_before_seq }))
}

/// One dispatch.
#[utoipa::path(
    get, path = "/api/v1/dispatches/{id}", tag = "dispatches", params(("id" = String, Path, description = "Its id")),
    responses((status = 200, body = DispatchOne), (status = 401, body = Details), (status = 404, body = Details))
)]
pub async fn one(State(api): State<Api>, person: Person, Path(id): Path<String>) -> Result<Json<DispatchOne>, Problem> {
    let (row, _, as_of) = visible_dispatch(&api, &person, known(&id)?.as_str()).await?;
    let row = serde_json::from_value(row).map_err(|e| Problem::new(Code::Internal, e))?;
    Ok(Json(DispatchOne { as_of, row }))
}

/// Every event of a dispatch.
#[utoipa::path(
    get, path = "/api/v1/dispatches/{id}/events", tag = "dispatches",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, body = EventList), (status = 401, body = Details), (status = 404, body = Details))
)]
pub async fn events(
    State(api): State<Api>,
    person: Person,
    Path(id): Path<String>,
) -> Result<Json<EventList>, Problem> {
    let (_, seqs, as_of) = visible_dispatch(&api, &person, known(&id)?.as_str()).await?;
    let messages = messages(&api, &seqs).await?;
    let items = messages.iter().flat_map(|m| &m.items);
    let events = items.filter_map(|i| serde_json::from_str(&i.event).ok()).collect();
    Ok(Json(EventList { as_of, events }))
}

/// Which output.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct OutputQuery {
    /// Only chunks after this sequence of OUTPUT.
    after: Option<u64>,
    /// At most so many chunks; 200 are the most.
    limit: Option<usize>,
}

/// What a dispatch said so far.
#[utoipa::path(
    get, path = "/api/v1/dispatches/{id}/output", tag = "dispatches",
    params(("id" = String, Path, description = "Its id"), OutputQuery),
    responses((status = 200, body = OutputPage), (status = 401, body = Details), (status = 404, body = Details))
)]
pub async fn output(
    State(api): State<Api>,
    person: Person,
    Path(id): Path<String>,
    Query(query): Query<OutputQuery>,
) -> Result<Json<OutputPage>, Problem> {
    let id = known(&id)?;
    owner(&api, &person, id.as_str()).await?;
    let limit = query.limit.unwrap_or(CHUNKS_MAX).clamp(1, CHUNKS_MAX);
    let page = api.output.page(id.as_str(), query.after.unwrap_or(0), limit).await;
    let page = page.map_err(|e| Problem::new(Code::Unavailable, e))?;
    let next_after = page.last().filter(|_| page.len() == limit).map(|c| c.seq);
    let chunks = page.iter().filter_map(|stored| {
        let mut chunk: Value = serde_json::from_slice(&stored.bytes).ok()?;
        chunk["seq"] = json!(stored.seq);
        Some(chunk)
    });
    Ok(Json(OutputPage { dispatch: id.to_string(), chunks: chunks.collect(), next_after }))
}

/// Launch a dispatch in the name of the person who is signed in. The same id and unit are the same dispatch.
#[utoipa::path(
    post, path = "/api/v1/dispatches", tag = "dispatches", request_body = LaunchBody,
    responses(
        (status = 201, body = LaunchedShape, description = "admitted"),
        (status = 202, body = LaunchedShape, description = "stored, not decided yet"),
        (status = 400, body = Details), (status = 401, body = Details),
        (status = 403, body = Details, description = "refused: the code is the rule's")
    )
)]
pub async fn launch(
    State(api): State<Api>,
    person: Person,
    Body(body): Body<LaunchBody>,
) -> Result<(StatusCode, Json<LaunchedShape>), Problem> {
    let id = command_id(&body.id)?;
    catalogue::check("unit.v1", "InvocationWithoutToken", &body.unit)
        .or_else(|_| catalogue::check("unit.v1", "Invocation", &body.unit))
        .map_err(|e| Problem::new(Code::Invalid, e))?;
    let unit = serde_json::from_value(body.unit).map_err(|e| Problem::new(Code::Invalid, e))?;
    let head = api.hub.head();
    let done = commands::start(&api, &person, id, unit).await?;
    decided(&api, &person, head, done).await
}

/// Launch again what a dispatch was asked.
#[utoipa::path(
    post, path = "/api/v1/dispatches/{id}/retry", tag = "dispatches", request_body = RetryBody,
    params(("id" = String, Path, description = "Which")),
    responses(
        (status = 201, body = LaunchedShape), (status = 202, body = LaunchedShape), (status = 401, body = Details),
        (status = 403, body = Details), (status = 404, body = Details), (status = 409, body = Details)
    )
)]
pub async fn retry(
    State(api): State<Api>,
    person: Person,
    Path(dispatch): Path<String>,
    Body(body): Body<RetryBody>,
) -> Result<(StatusCode, Json<LaunchedShape>), Problem> {
    let head = api.hub.head();
    let done = commands::retry(&api, &person, command_id(&body.id)?, known(&dispatch)?.as_str()).await?;
    decided(&api, &person, head, done).await
}

/// Ask a dispatch to stop.
#[utoipa::path(
    post, path = "/api/v1/dispatches/{id}/stop", tag = "dispatches", request_body = StopBody,
    params(("id" = String, Path, description = "Which")),
    responses(
        (status = 202, body = Stopped), (status = 401, body = Details), (status = 404, body = Details),
        (status = 409, body = Details)
    )
)]
pub async fn stop(
    State(api): State<Api>,
    person: Person,
    Path(dispatch): Path<String>,
    Body(body): Body<StopBody>,
) -> Result<(StatusCode, Json<Stopped>), Problem> {
    let done = commands::stop(&api, &person, known(&dispatch)?.as_str(), body.grace_ms).await?;
    Ok((StatusCode::ACCEPTED, Json(Stopped { dispatch: done.dispatch, seq: done.seq })))
}

/// What the authority decided, if it does so soon.
async fn decided(
    api: &Api,
    person: &Person,
    head: u64,
    done: Done,
) -> Result<(StatusCode, Json<LaunchedShape>), Problem> {
    let mut shape = LaunchedShape {
        dispatch: done.dispatch.clone(),
        launch_seq: done.seq,
        outcome: "stored".into(),
        seq: None,
        session: None,
    };
    // A message that was sent before was decided before: its row is there.
    if let Ok((row, _, _)) = visible_dispatch(api, person, &done.dispatch).await {
        return settled(shape, &row_as_event(&row));
    }
    let refused_as = done.refused_as.as_deref().unwrap_or_default();
    let event = api.hub.decision(&[&done.dispatch, refused_as], head, DECISION_WAIT).await;
    match event.and_then(|e| serde_json::from_str::<Value>(&e).ok()) {
        Some(event) => {
            if let Some(id) = event.pointer("/data/dispatch").and_then(Value::as_str) {
                id.clone_into(&mut shape.dispatch);
            }
            settled(shape, &event)
        }
        None => Ok((StatusCode::ACCEPTED, Json(shape))),
    }
}

fn row_as_event(row: &Value) -> Value {
    let refused = row.get("status").and_then(Value::as_str) == Some("refused");
    let kind = if refused { "custody.dispatch.refused.v1" } else { "custody.dispatch.admitted.v1" };
    json!({ "type": kind, "seq": row.get("first_seq"), "data": row })
}

fn settled(shape: LaunchedShape, event: &Value) -> Result<(StatusCode, Json<LaunchedShape>), Problem> {
    let text = |name: &str| event.pointer(&["/data/", name].concat()).and_then(Value::as_str).map(str::to_owned);
    if event.get("type").and_then(Value::as_str).is_some_and(|t| t.contains(".refused.")) {
        let problem = Problem::new(Code::Refused, text("detail").unwrap_or_default());
        return Err(problem
            .code(text("reason").as_deref().unwrap_or("REFUSED"))
            .hint(text("hint").unwrap_or_else(|| "custody dispatch get".into())));
    }
    let seq = event.get("seq").and_then(Value::as_u64);
    let shape = LaunchedShape { outcome: "admitted".into(), seq, session: text("session"), ..shape };
    Ok((StatusCode::CREATED, Json(shape)))
}

pub(super) fn command_id(id: &str) -> Result<&str, Problem> {
    let good = !id.is_empty() && id.len() <= ID_MAX && id.bytes().all(|b| b.is_ascii_graphic());
    if good { Ok(id) } else { Err(Problem::new(Code::Invalid, "an id has 1 to 128 printable characters")) }
}

/// A dispatch id; what is none is nobody's dispatch.
pub(super) fn known(id: &str) -> Result<DispatchId, Problem> {
    DispatchId::parse(id).map_err(|_| Problem::not_found())
}

pub(super) fn as_of(answer: &Value) -> u64 {
    answer.get("as_of").and_then(Value::as_u64).unwrap_or(0)
}

pub(super) fn shaped<T: serde::de::DeserializeOwned>(answer: &Value, name: &str) -> Result<T, Problem> {
    let value = answer.get(name).cloned().unwrap_or_else(|| json!([]));
    serde_json::from_value(value).map_err(|e| Problem::new(Code::Internal, e))
}
