//! Grants: what a person lets a launcher do in their name. Must never give one in another person's name, and never one
//! whose words were not shown to the person first.

use super::dispatches::{as_of, shaped};
use super::shapes::{
    DraftBody, DraftShape, GivenShape, GrantBody, GrantOne, GrantPage, GrantShape, LauncherShape, RevokeBody,
};
use super::{Body, Query};
use crate::api::Api;
use crate::auth::Person;
use crate::problem::{Code, Details, Problem};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use custody_contracts::canonical::{canonical, derived_id, digest};
use custody_contracts::grant::{ApprovalRule, GrantLimits, GrantTerms, TriggerPattern};
use custody_contracts::ids::{GrantId, LauncherRef, Subject, UnixMillis};
use custody_domain::grant::statement;
use serde::Deserialize;
use serde_json::{Value, json};

/// The most rows of a page.
const LIMIT_MAX: usize = 500;
/// The longest that a grant may last. Source: contract grant.v1.
const DAYS_MAX: u64 = 90;
const DAY_MS: u64 = 86_400_000;
/// The longest reason.
const WHY_MAX: usize = 200;

/// Which grants.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// requested, issued, revoked; comma-separated.
    status: Option<String>,
    /// Only this person's; for administrators.
    subject: Option<String>,
    /// Only of this launcher.
    launcher: Option<String>,
    /// At most so many rows, newest first; 500 are the most.
    limit: Option<usize>,
}

/// Grants, newest first: a person's own, everybody's for an administrator.
#[utoipa::path(
    get, path = "/api/v1/grants", tag = "grants", params(ListQuery),
    responses((status = 200, body = GrantPage), (status = 401, body = Details))
)]
pub async fn list(
    State(api): State<Api>,
    person: Person,
    Query(query): Query<ListQuery>,
) -> Result<Json<GrantPage>, Problem> {
    let status: Vec<&str> = query.status.as_deref().map(|s| s.split(',').collect()).unwrap_or_default();
    let subject = if person.admin { query.subject } else { Some(person.subject) };
    let limit = query.limit.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
    let body = json!({ "status": status, "subject": subject, "launcher": query.launcher, "limit": limit });
    let answer = api.query("grant.ls", body).await?;
    Ok(Json(GrantPage { as_of: as_of(&answer), rows: shaped(&answer, "rows")? }))
}

/// One grant, in words.
#[utoipa::path(
    get, path = "/api/v1/grants/{id}", tag = "grants", params(("id" = String, Path, description = "Its id")),
    responses((status = 200, body = GrantOne), (status = 401, body = Details), (status = 404, body = Details))
)]
pub async fn one(State(api): State<Api>, person: Person, Path(id): Path<String>) -> Result<Json<GrantOne>, Problem> {
    let (row, as_of) = visible(&api, &person, &id).await?;
    let said = match (row.statement.is_empty(), terms_of(&row)) {
        (true, Some(terms)) => statement(&terms),
        _ => row.statement.clone(),
    };
    let statement_digest = digest(said.as_bytes());
    Ok(Json(GrantOne { as_of, row, statement: said, statement_digest }))
}

/// Launchers that can be given a grant.
#[utoipa::path(
    get, path = "/api/v1/launchers", tag = "grants",
    responses((status = 200, body = Vec<LauncherShape>), (status = 401, body = Details))
)]
pub async fn launchers(State(api): State<Api>, _person: Person) -> Result<Json<Vec<LauncherShape>>, Problem> {
    let answer = api.query("launcher.ls", json!({})).await?;
    shaped(&answer, "rows").map(Json)
}

/// The terms of a grant and the words for them. Nothing is given by it.
#[utoipa::path(
    post, path = "/api/v1/grants/draft", tag = "grants", request_body = DraftBody,
    responses((status = 200, body = DraftShape), (status = 400, body = Details), (status = 401, body = Details))
)]
pub async fn draft(
    State(api): State<Api>,
    person: Person,
    Body(body): Body<DraftBody>,
) -> Result<Json<DraftShape>, Problem> {
    let invalid = |e: &dyn std::fmt::Display| Problem::new(Code::Invalid, e);
    if !(1..=DAYS_MAX).contains(&body.days) {
        return Err(invalid(&"a grant lasts 1 to 90 days"));
    }
    let launcher = LauncherRef::parse(&body.launcher).map_err(|e| invalid(&e))?;
    let now = api.auth.now();
    let mut terms = GrantTerms {
        id: GrantId::parse("g-new").map_err(|e| invalid(&e))?,
        subject: Subject::parse(&person.subject).map_err(|e| invalid(&e))?,
        launcher_key: key_of(&api, &launcher).await?,
        launcher,
        tools: body.tools,
        workspaces: typed(body.workspaces)?,
        trigger: TriggerPattern { on: typed(json!(body.triggers))?, cron: None, integration: None },
        constraints: Vec::new(),
        limits: GrantLimits {
            dispatches: body.dispatches,
            window_ms: body.window_ms,
            budget_micros: None,
            per_dispatch: None,
        },
        approval: ApprovalRule { rule: typed(json!(body.approval))?, approvers: None },
        not_before: UnixMillis(now).rfc3339(),
        expires: UnixMillis(now.saturating_add(body.days * DAY_MS)).rfc3339(),
    };
    let said = serde_json::to_value(&terms).map_err(|e| Problem::new(Code::Internal, e))?;
    terms.id = GrantId::parse(&derived_id("g-", &[canonical(&said).as_bytes()])).map_err(|e| invalid(&e))?;
    let words = statement(&terms);
    let terms = serde_json::to_value(&terms).map_err(|e| Problem::new(Code::Internal, e))?;
    Ok(Json(DraftShape { terms, statement_digest: digest(words.as_bytes()), statement: words }))
}

/// Give a grant in one's own name: terms whose words were shown, or what was asked for.
#[utoipa::path(
    post, path = "/api/v1/grants", tag = "grants", request_body = GrantBody,
    responses(
        (status = 201, body = GivenShape), (status = 400, body = Details), (status = 401, body = Details),
        (status = 403, body = Details), (status = 404, body = Details),
        (status = 409, body = Details, description = "refused: the code is the rule's")
    )
)]
pub async fn give(
    State(api): State<Api>,
    person: Person,
    Body(body): Body<GrantBody>,
) -> Result<(StatusCode, Json<GivenShape>), Problem> {
    let mut command = json!({
        "method": "oidc", "session": person.session, "by": person.subject, "statement_digest": body.statement_digest,
    });
    let subject = match (&body.terms, &body.request) {
        (Some(terms), None) => {
            command["wanted"] = terms.clone();
            typed::<GrantTerms>(terms.clone())?.subject.to_string()
        }
        (None, Some(id)) => {
            let (row, _) = visible(&api, &person, id).await?;
            command["request"] = json!(row.grant);
            row.subject
        }
        _ => return Err(Problem::new(Code::Invalid, "either `terms` or `request`")),
    };
    if subject != person.subject {
        let why = format!("the grant is {subject}'s to give, and {} is signed in", person.subject);
        return Err(Problem::new(Code::SubjectRefused, why));
    }
    let answer = api.command("grant.issue", command).await?;
    let shape = given(&answer)?;
    // Whoever is told that it is given finds it so. It is given either way, so a projector that is late is no error.
    let _folded = api.query("grant.get", json!({ "id": shape.grant, "min_seq": shape.seq })).await;
    Ok((StatusCode::CREATED, Json(shape)))
}

/// Take a grant back. What runs under it is ended. An administrator may do it for others.
#[utoipa::path(
    post, path = "/api/v1/grants/{id}/revoke", tag = "grants", request_body = RevokeBody,
    params(("id" = String, Path, description = "Which")),
    responses(
        (status = 202, body = GivenShape), (status = 400, body = Details), (status = 401, body = Details),
        (status = 404, body = Details), (status = 409, body = Details)
    )
)]
pub async fn revoke(
    State(api): State<Api>,
    person: Person,
    Path(id): Path<String>,
    Body(body): Body<RevokeBody>,
) -> Result<(StatusCode, Json<GivenShape>), Problem> {
    let (row, _) = visible(&api, &person, &id).await?;
    let why = body.why.trim();
    if why.is_empty() || why.chars().count() > WHY_MAX {
        return Err(Problem::new(Code::Invalid, format!("a reason has 1 to {WHY_MAX} characters")));
    }
    let answer = api.command("grant.revoke", json!({ "grant": row.grant, "by": person.subject, "why": why })).await?;
    let mut shape = given(&answer)?;
    row.grant.clone_into(&mut shape.grant);
    Ok((StatusCode::ACCEPTED, Json(shape)))
}

fn given(answer: &Value) -> Result<GivenShape, Problem> {
    serde_json::from_value(answer.clone()).map_err(|e| Problem::new(Code::Internal, e))
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_json::from_value(value).map_err(|e| Problem::new(Code::Invalid, e))
}

fn terms_of(row: &GrantShape) -> Option<GrantTerms> {
    serde_json::from_value(row.terms.clone()).ok()
}

/// Exactly this grant, if the person may see it: another's is told like one that does not exist.
async fn visible(api: &Api, person: &Person, id: &str) -> Result<(GrantShape, u64), Problem> {
    let id = GrantId::parse(id).map_err(|_| Problem::not_found())?;
    let answer = api.query("grant.get", json!({ "id": id })).await.map_err(|problem| {
        if matches!(problem.code.as_str(), "AMBIGUOUS" | "NOT_FOUND") { Problem::not_found() } else { problem }
    })?;
    let row: GrantShape = shaped(&answer, "row")?;
    let own = row.grant == id.as_str() && person.may_see(Some(&row.subject));
    if own { Ok((row, as_of(&answer))) } else { Err(Problem::not_found()) }
}

/// The launcher's key as it is registered: it is part of what is agreed to.
async fn key_of(api: &Api, launcher: &LauncherRef) -> Result<String, Problem> {
    let own = launcher.as_str().split_once(':').map_or("", |(_, own)| own);
    let answer = api.query("launcher.ls", json!({})).await?;
    let rows = answer.get("rows").and_then(Value::as_array);
    let text = |row: &Value, name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
    let found = rows.and_then(|rows| rows.iter().find(|row| text(row, "launcher").as_deref() == Some(own)));
    found.and_then(|row| text(row, "public_key")).ok_or_else(|| {
        Problem::new(Code::Conflict, format!("there is no launcher {own}"))
            .code("LAUNCHER_UNKNOWN")
            .hint(format!("an operator registers it: custody launcher register {own}"))
    })
}
