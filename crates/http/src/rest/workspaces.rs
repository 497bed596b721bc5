//! Workspaces: which there are, what is in them, what a commit changed. The rows are the projector's; what is in a bucket
//! the runtime tells, which trusts this module to have decided who may see it. Must never say where a bucket is, and must
//! tell of another's workspace as of one that does not exist.

use super::Query;
use super::dispatches::{as_of, shaped};
use super::shapes::{
    CommitLog, CommitShape, DiffShape, EntryShape, FileShape, ProposalShape, TreeShape, WorkspaceOne, WorkspacePage,
    WorkspaceShape,
};
use crate::api::Api;
use crate::auth::Person;
use crate::problem::{Details, Problem};
use axum::Json;
use axum::extract::{Path, State};
use custody_contracts::ids::{UnixMillis, WorkspaceId};
use custody_contracts::workspace::Scheme;
use custody_domain::workspace::most;
use custody_projections::workspaces::{ProposalRow, WorkspaceRow};
use serde::Deserialize;
use serde_json::{Value, json};

/// The most commits of a page.
const LOG_MAX: usize = 200;
/// Commits of a page.
const LOG: usize = 50;
/// The most workspaces of a page. Source: the projector's own maximum.
const ROWS_MAX: usize = 500;

/// The workspaces that the person may see: their own, those that were shared with them, everybody's for an administrator.
#[utoipa::path(
    get, path = "/api/v1/workspaces", tag = "workspaces",
    responses((status = 200, body = WorkspacePage), (status = 401, body = Details))
)]
pub async fn list(State(api): State<Api>, person: Person) -> Result<Json<WorkspacePage>, Problem> {
    let answer = api.query("workspace.ls", json!({ "limit": ROWS_MAX })).await?;
    let rows: Vec<WorkspaceRow> = shaped(&answer, "rows")?;
    let rows = rows.iter().filter_map(|row| shape(row, &person)).collect();
    Ok(Json(WorkspacePage { as_of: as_of(&answer), rows }))
}

/// One workspace and its proposals.
#[utoipa::path(
    get, path = "/api/v1/workspaces/{id}", tag = "workspaces", params(("id" = String, Path, description = "Its id")),
    responses((status = 200, body = WorkspaceOne), (status = 401, body = Details), (status = 404, body = Details))
)]
pub async fn one(
    State(api): State<Api>,
    person: Person,
    Path(id): Path<String>,
) -> Result<Json<WorkspaceOne>, Problem> {
    let (row, shape, as_of) = visible(&api, &person, &id).await?;
    let proposals = row.proposals.iter().filter(|p| may_see(p, &row, &person)).map(proposal).collect();
    Ok(Json(WorkspaceOne { as_of, row: shape, proposals }))
}

/// How many commits.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// At most so many, newest first; 200 are the most.
    limit: Option<usize>,
}

/// The newest commits of a workspace's trunk.
#[utoipa::path(
    get, path = "/api/v1/workspaces/{id}/log", tag = "workspaces",
    params(("id" = String, Path, description = "Its id"), LogQuery),
    responses(
        (status = 200, body = CommitLog), (status = 401, body = Details), (status = 404, body = Details),
        (status = 503, body = Details, description = "its bucket or the runtime does not answer")
    )
)]
pub async fn log(
    State(api): State<Api>,
    person: Person,
    Path(id): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Json<CommitLog>, Problem> {
    let (row, ..) = visible(&api, &person, &id).await?;
    let limit = query.limit.unwrap_or(LOG).clamp(1, LOG_MAX);
    let answer = api.content("log", json!({ "workspace": row.workspace, "limit": limit })).await?;
    let rows: Vec<Value> = shaped(&answer, "rows")?;
    Ok(Json(CommitLog { workspace: row.workspace, rows: rows.iter().map(commit).collect() }))
}

/// Which commit.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TreeQuery {
    /// A commit of the trunk; its newest when there is none.
    at: Option<String>,
}

/// Everything in a commit of a workspace's trunk.
#[utoipa::path(
    get, path = "/api/v1/workspaces/{id}/tree", tag = "workspaces",
    params(("id" = String, Path, description = "Its id"), TreeQuery),
    responses(
        (status = 200, body = TreeShape), (status = 401, body = Details), (status = 404, body = Details),
        (status = 503, body = Details, description = "its bucket or the runtime does not answer")
    )
)]
pub async fn tree(
    State(api): State<Api>,
    person: Person,
    Path(id): Path<String>,
    Query(query): Query<TreeQuery>,
) -> Result<Json<TreeShape>, Problem> {
    let (row, ..) = visible(&api, &person, &id).await?;
    let answer = api.content("tree", json!({ "workspace": row.workspace, "commit": query.at })).await?;
    let entries: Vec<EntryShape> = shaped(&answer, "entries")?;
    Ok(Json(TreeShape {
        workspace: row.workspace,
        commit: text(&answer, "commit"),
        digest: text(&answer, "digest"),
        entries,
        total: number(&answer, "total"),
        cut: flag(&answer, "cut"),
    }))
}

/// What one commit changed, against the one before it. A commit that waits is shown to the owner and to whose it is.
#[utoipa::path(
    get, path = "/api/v1/workspaces/{id}/diff/{commit}", tag = "workspaces",
    params(("id" = String, Path, description = "Its id"), ("commit" = String, Path, description = "Git's id")),
    responses(
        (status = 200, body = DiffShape), (status = 401, body = Details), (status = 404, body = Details),
        (status = 413, body = Details), (status = 503, body = Details, description = "its bucket or the runtime does not answer")
    )
)]
pub async fn diff(
    State(api): State<Api>,
    person: Person,
    Path((id, commit)): Path<(String, String)>,
) -> Result<Json<DiffShape>, Problem> {
    let (row, ..) = visible(&api, &person, &id).await?;
    let waits = row.proposals.iter().find(|p| p.commit == commit && waits(p));
    if waits.is_some_and(|p| !may_see(p, &row, &person)) {
        return Err(Problem::not_found());
    }
    ask_diff(&api, &row.workspace, &commit, waits.map(|p| p.proposal.as_str())).await.map(Json)
}

/// Asks for a commit of a workspace that the person may see.
pub(super) async fn ask_diff(
    api: &Api,
    workspace: &str,
    commit: &str,
    proposal: Option<&str>,
) -> Result<DiffShape, Problem> {
    let body = json!({ "workspace": workspace, "commit": commit, "proposal": proposal });
    let answer = api.content("diff", body).await?;
    let files: Vec<FileShape> = shaped(&answer, "files")?;
    Ok(DiffShape {
        commit: self::commit(answer.get("commit").unwrap_or(&Value::Null)),
        parent: text(&answer, "parent"),
        files,
        total: number(&answer, "total"),
        cut: flag(&answer, "cut"),
    })
}

/// The row of a workspace, whoever asks.
pub(super) async fn row(api: &Api, id: &str) -> Result<(WorkspaceRow, u64), Problem> {
    let id = WorkspaceId::parse(id).map_err(|_| Problem::not_found())?;
    let answer = api.query("workspace.get", json!({ "id": id })).await;
    let answer = answer.map_err(|p| if p.code == "NOT_FOUND" { Problem::not_found() } else { p })?;
    Ok((shaped(&answer, "row")?, as_of(&answer)))
}

async fn visible(api: &Api, person: &Person, id: &str) -> Result<(WorkspaceRow, WorkspaceShape, u64), Problem> {
    let (row, as_of) = row(api, id).await?;
    match shape(&row, person) {
        Some(shape) => Ok((row, shape, as_of)),
        None => Err(Problem::not_found()),
    }
}

/// What a person is shown of a workspace; `None` when it is not theirs to see. A system workspace has no document and is
/// nobody's to see.
fn shape(row: &WorkspaceRow, person: &Person) -> Option<WorkspaceShape> {
    let document = row.document.as_ref()?;
    let access = most(&row.owner, &row.members, document.mode, &person.subject);
    if access.is_none() && !person.admin {
        return None;
    }
    Some(WorkspaceShape {
        workspace: row.workspace.clone(),
        owner: row.owner.clone(),
        purpose: document.purpose.clone(),
        mode: document.mode.as_str().to_owned(),
        trunk: document.trunk.clone(),
        encrypted: document.encryption.scheme == Scheme::Age,
        access: access.map(|mode| mode.as_str().to_owned()),
        commit: row.commit.clone(),
        landed: row.landed,
        waiting: row.waiting,
        registered_at: row.registered_at.clone(),
        last_seq: row.last_seq,
    })
}

/// What waits is the owner's to decide and the proposer's own; other members see what has landed.
fn may_see(proposal: &ProposalRow, row: &WorkspaceRow, person: &Person) -> bool {
    person.admin || row.owner == "*" || row.owner == person.subject || proposal.subject == person.subject
}

/// Whether it is not decided yet.
fn waits(proposal: &ProposalRow) -> bool {
    matches!(proposal.state.as_str(), "open" | "accepted")
}

fn proposal(row: &ProposalRow) -> ProposalShape {
    ProposalShape {
        proposal: row.proposal.clone(),
        subject: row.subject.clone(),
        state: row.state.clone(),
        base: row.base.clone(),
        commit: row.commit.clone(),
        reason: row.reason.clone(),
        landed: row.landed.clone(),
        opened_at: row.opened_at.clone(),
    }
}

/// A commit as git has it, with its time in words.
fn commit(value: &Value) -> CommitShape {
    let required = |name: &str| text(value, name).unwrap_or_default();
    CommitShape {
        commit: required("commit"),
        author: required("author"),
        committer: required("committer"),
        time: UnixMillis(number(value, "time").saturating_mul(1_000)).rfc3339(),
        subject: required("subject"),
        dispatch: text(value, "dispatch"),
        effect: text(value, "effect"),
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or(false)
}
