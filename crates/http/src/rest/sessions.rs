//! Sessions, and what was said in one. Must never read the output of a dispatch that is not one of the session's.

use super::Query;
use super::dispatches::{as_of, shaped};
use super::shapes::{Conversation, ConversationTurn, DispatchShape, SessionOne, SessionPage, SessionShape};
use crate::api::Api;
use crate::auth::Person;
use crate::bridge::{items, open};
use crate::problem::{Code, Details, Problem};
use axum::Json;
use axum::extract::{Path, State};
use custody_contracts::box_protocol::Frame;
use custody_contracts::events::{DispatchEvent, LedgerEvent};
use custody_contracts::ids::SessionId;
use custody_contracts::messages::Chunk;
use custody_contracts::sealed::ERASED;
use custody_contracts::unit::{Entrypoint, Start};
use custody_ledger::Seq;
use custody_ports::pages::PAGE_MAX;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

/// Rows of a page.
const LIMIT: usize = 50;
/// The most rows of a page.
const LIMIT_MAX: usize = 500;
/// Turns of a page of a conversation.
const TURNS: usize = 20;
/// The most turns of a page.
const TURNS_MAX: usize = 50;
/// Bytes of output of one turn; more is on its topic.
const TURN_BYTES_MAX: usize = 256 * 1024;
/// Turns that are read at the same time.
const READS_MAX: usize = 4;

/// Which sessions.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// At most so many rows; 500 are the most.
    limit: Option<usize>,
    /// Only those whose last event stands before this sequence: the next page.
    before_seq: Option<u64>,
}

/// Sessions, newest first.
#[utoipa::path(
    get, path = "/api/v1/sessions", tag = "sessions", params(ListQuery),
    responses((status = 200, body = SessionPage), (status = 401, body = Details))
)]
pub async fn list(
    State(api): State<Api>,
    person: Person,
    Query(query): Query<ListQuery>,
) -> Result<Json<SessionPage>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let subject = (!person.admin).then_some(person.subject);
    let body = json!({ "subject": subject, "limit": limit, "before_seq": query.before_seq });
    let answer = api.query("session.ls", body).await?;
    let rows: Vec<SessionShape> = shaped(&answer, "rows")?;
    let next_before_seq = rows.last().filter(|_| rows.len() == limit).map(|r| r.last_seq);
    Ok(Json(SessionPage { as_of: as_of(&answer), rows, next_before_seq }))
}

fn known(id: &str) -> Result<SessionId, Problem> {
    SessionId::parse(id).map_err(|_| Problem::not_found())
}

/// One session.
#[utoipa::path(
    get, path = "/api/v1/sessions/{id}", tag = "sessions", params(("id" = String, Path, description = "Its id")),
    responses((status = 200, body = SessionOne), (status = 401, body = Details), (status = 404, body = Details))
)]
pub async fn one(State(api): State<Api>, person: Person, Path(id): Path<String>) -> Result<Json<SessionOne>, Problem> {
    let (row, _, as_of) = open::session_state(&api, &person, known(&id)?.as_str()).await?;
    let row = serde_json::from_value(row).map_err(|e| Problem::new(Code::Internal, e))?;
    Ok(Json(SessionOne { as_of, row }))
}

/// Which turns.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TurnsQuery {
    /// Only turns before this dispatch: the page before.
    before: Option<String>,
    /// At most so many turns; 50 are the most.
    limit: Option<usize>,
}

/// What was asked and said in a session: its newest turns, oldest first.
#[utoipa::path(
    get, path = "/api/v1/sessions/{id}/conversation", tag = "sessions",
    params(("id" = String, Path, description = "Its id"), TurnsQuery),
    responses((status = 200, body = Conversation), (status = 401, body = Details), (status = 404, body = Details))
)]
pub async fn conversation(
    State(api): State<Api>,
    person: Person,
    Path(id): Path<String>,
    Query(query): Query<TurnsQuery>,
) -> Result<Json<Conversation>, Problem> {
    let session = known(&id)?;
    let (row, dispatches, as_of) = open::session_state(&api, &person, session.as_str()).await?;
    let mut rows: Vec<DispatchShape> =
        serde_json::from_value(Value::Array(dispatches)).map_err(|e| Problem::new(Code::Internal, e))?;
    if let Some(before) = &query.before {
        let at = rows.iter().position(|r| r.dispatch == *before).ok_or_else(Problem::not_found)?;
        rows.truncate(at);
    }
    let limit = query.limit.unwrap_or(TURNS).clamp(1, TURNS_MAX);
    let first = rows.len().saturating_sub(limit);
    let page = rows.split_off(first);
    let next_before = page.first().filter(|_| first > 0).map(|r| r.dispatch.clone());
    let api = &api;
    let turns: Vec<Result<ConversationTurn, Problem>> =
        futures::stream::iter(page.into_iter().map(|row| async move { turn(api, row).await }))
            .buffered(READS_MAX)
            .collect()
            .await;
    Ok(Json(Conversation {
        as_of,
        session: session.to_string(),
        turns: turns.into_iter().collect::<Result<_, _>>()?,
        turn_count: row.get("turn_count").and_then(Value::as_u64).unwrap_or(0),
        next_before,
    }))
}

async fn turn(api: &Api, row: DispatchShape) -> Result<ConversationTurn, Problem> {
    let unavailable = |e: &dyn std::fmt::Display| Problem::new(Code::Unavailable, e);
    let first = api.pages.page(Seq(row.first_seq), 1).await.map_err(|e| unavailable(&e))?;
    let prompt = first.first().and_then(prompt_of).unwrap_or_default();
    let mut frames: Vec<Frame> = Vec::new();
    let (mut output_seq, mut bytes, mut more_output) = (0, 0, false);
    'reading: loop {
        let page = api.output.page(&row.dispatch, output_seq, PAGE_MAX).await.map_err(|e| unavailable(&e))?;
        let full = page.len() == PAGE_MAX;
        for stored in page {
            bytes += stored.bytes.len();
            if bytes > TURN_BYTES_MAX {
                more_output = true;
                break 'reading;
            }
            output_seq = stored.seq;
            if let Ok(chunk) = serde_json::from_slice::<Chunk>(&stored.bytes) {
                chunk.frames.into_iter().for_each(|frame| items::merge(&mut frames, frame));
            }
        }
        if !full {
            break;
        }
    }
    let frames = frames.iter().filter_map(|f| serde_json::to_value(f).ok()).collect();
    Ok(ConversationTurn { dispatch: row, prompt, frames, output_seq, more_output })
}

/// What an admission was asked.
fn prompt_of(stored: &custody_ledger::Stored) -> Option<String> {
    let recorded = custody_engine::follow::read_or_note(stored);
    recorded.into_iter().find_map(|r| match r.event {
        Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) if e.sealed.is_some() => Some(ERASED.to_owned()),
        Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => Some(match e.unit.start {
            Start::Entrypoint(Entrypoint::Inline(text)) => text,
            Start::Entrypoint(Entrypoint::Path(path)) => path,
            Start::Session(turn) => turn.inline.unwrap_or_default(),
        }),
        _ => None,
    })
}
