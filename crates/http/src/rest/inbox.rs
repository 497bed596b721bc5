//! Cards: calls that wait for a person, with the exact arguments they would be made with, and the person's decision. Must
//! never show arguments that are not those of the card's digest, and never decide in another person's name.

use super::dispatches::{as_of, shaped};
use super::shapes::{CardOne, CardPage, CardShape, DecideBody, Decided};
use super::{Body, Query};
use crate::api::Api;
use crate::auth::Person;
use crate::problem::{Code, Details, Problem};
use axum::Json;
use axum::extract::{Path, State};
use custody_ports::blobs::BlobError;
use serde::Deserialize;
use serde_json::{Value, json};

/// The most rows of a page.
const LIMIT_MAX: usize = 500;
/// The longest id of a card.
const CARD_MAX: usize = 128;
/// Arguments that are shown; the gateway lets none wait that has more.
const ARGS_BYTES_MAX: usize = 256 * 1024;

/// Which cards.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// waiting, approved, rejected, expired, refused, running, succeeded, failed, in_doubt, or all; comma-separated.
    /// Absent: those that somebody has still to decide.
    state: Option<String>,
    /// Only those that you may decide.
    #[serde(default)]
    mine: bool,
    /// At most so many rows; 500 are the most.
    limit: Option<usize>,
}

/// Cards of a person: those they may decide and those of their own dispatches. What ends soonest comes first.
#[utoipa::path(
    get, path = "/api/v1/inbox", tag = "inbox", params(ListQuery),
    responses((status = 200, body = CardPage), (status = 401, body = Details))
)]
pub async fn list(
    State(api): State<Api>,
    person: Person,
    Query(query): Query<ListQuery>,
) -> Result<Json<CardPage>, Problem> {
    let status: Vec<&str> = query.state.as_deref().map(|s| s.split(',').collect()).unwrap_or_default();
    let subject = (!person.admin).then_some(&person.subject);
    let limit = query.limit.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
    let approver = query.mine.then_some(&person.subject);
    let asked = json!({ "status": status, "subject": subject, "approver": approver, "limit": limit });
    let answer = api.query("inbox.ls", asked).await?;
    Ok(Json(CardPage { as_of: as_of(&answer), rows: shaped(&answer, "rows")? }))
}

/// One card and its exact arguments.
#[utoipa::path(
    get, path = "/api/v1/inbox/{card}", tag = "inbox", params(("card" = String, Path, description = "Its id")),
    responses((status = 200, body = CardOne), (status = 401, body = Details), (status = 404, body = Details))
)]
pub async fn one(State(api): State<Api>, person: Person, Path(card): Path<String>) -> Result<Json<CardOne>, Problem> {
    let (row, as_of) = visible(&api, &person, &card).await?;
    let args = arguments(&api, &row.args_digest).await?;
    let text = serde_json::to_string_pretty(&args).unwrap_or_default();
    Ok(Json(CardOne { as_of, row, args, text }))
}

/// Decide about a card: exactly the version and the arguments that were shown.
#[utoipa::path(
    post, path = "/api/v1/inbox/{card}/decide", tag = "inbox", request_body = DecideBody,
    params(("card" = String, Path, description = "Which")),
    responses(
        (status = 200, body = Decided), (status = 400, body = Details), (status = 401, body = Details),
        (status = 404, body = Details),
        (status = 409, body = Details, description = "decided, expired, changed since it was shown, or not yours to decide")
    )
)]
pub async fn decide(
    State(api): State<Api>,
    person: Person,
    Path(card): Path<String>,
    Body(body): Body<DecideBody>,
) -> Result<Json<Decided>, Problem> {
    let (row, _) = visible(&api, &person, &card).await?;
    let mut command =
        json!({ "card": row.card, "version": body.version, "decision": body.decision, "by": person.subject });
    let more = [
        ("args_digest", body.args_digest.map(Value::from)),
        ("args", body.args),
        ("reason", body.reason.map(Value::from)),
        ("until", body.until.map(Value::from)),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            command[name] = value;
        }
    }
    let answer = api.command("approval.decide", command).await?;
    let seq = answer.get("seq").and_then(Value::as_u64);
    let changed = answer.get("changed").and_then(Value::as_bool).unwrap_or(false);
    Ok(Json(Decided { card: row.card, seq, changed }))
}

/// Exactly this card, if it is the person's to see: another's is told like one that does not exist.
async fn visible(api: &Api, person: &Person, card: &str) -> Result<(CardShape, u64), Problem> {
    if card.is_empty() || card.len() > CARD_MAX {
        return Err(Problem::not_found());
    }
    let answer = api.query("inbox.get", json!({ "id": card })).await.map_err(|problem| {
        if matches!(problem.code.as_str(), "AMBIGUOUS" | "NOT_FOUND") { Problem::not_found() } else { problem }
    })?;
    let row: CardShape = shaped(&answer, "row")?;
    let theirs = person.may_see(Some(&row.subject)) || row.approvers.contains(&person.subject);
    if row.card == card && theirs { Ok((row, as_of(&answer))) } else { Err(Problem::not_found()) }
}

/// The arguments of a digest, checked by the store.
async fn arguments(api: &Api, digest: &str) -> Result<Value, Problem> {
    let lost = |why: &dyn std::fmt::Display| {
        Problem::new(Code::Integrity, why).code("ARGUMENTS_LOST").hint("reject it: what would be done cannot be shown")
    };
    let bytes = api.blobs.get(digest).await.map_err(|error| match error {
        BlobError::Unavailable(why) => Problem::new(Code::Unavailable, why),
        BlobError::TooLarge { .. } | BlobError::Missing(_) | BlobError::Corrupt(_) | BlobError::Erased(_) => {
            lost(&error)
        }
    })?;
    if bytes.len() > ARGS_BYTES_MAX {
        return Err(lost(&"the arguments are larger than what can wait"));
    }
    serde_json::from_slice(&bytes).map_err(|e| lost(&e))
}
