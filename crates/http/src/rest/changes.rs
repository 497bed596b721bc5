//! What a dispatch changed: for each workspace that it could write, the commit that its run made, and that commit line by
//! line. For the person whose dispatch it is, and for administrators: to others it does not exist. Must never show a
//! session file, and never a commit that the dispatch did not make.

use super::dispatches::known;
use super::shapes::{ChangeList, ChangeOne, ChangeShape};
use super::workspaces::{ask_diff, row};
use crate::api::Api;
use crate::auth::Person;
use crate::bridge::open::{messages, visible_dispatch};
use crate::problem::{Code, Details, Problem};
use axum::Json;
use axum::extract::{Path, State};
use custody_contracts::workspace::{CommitOutcome, RunCommit};
use custody_domain::workspace::system::is_system;
use custody_projections::workspaces::ProposalRow;
use serde_json::Value;

/// CloudEvents type of a run's end.
const FINISHED: &str = "custody.run.finished.v1";

/// What a dispatch changed, by workspace.
#[utoipa::path(
    get, path = "/api/v1/dispatches/{id}/changes", tag = "dispatches",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, body = ChangeList), (status = 401, body = Details), (status = 404, body = Details))
)]
pub async fn list(State(api): State<Api>, person: Person, Path(id): Path<String>) -> Result<Json<ChangeList>, Problem> {
    let (commits, as_of) = made(&api, &person, &id).await?;
    let ended = commits.is_some();
    let mut rows = Vec::new();
    for commit in commits.unwrap_or_default() {
        rows.push(standing(&api, &id, &commit).await?);
    }
    Ok(Json(ChangeList { as_of, ended, rows }))
}

/// What a dispatch changed in one workspace, line by line.
#[utoipa::path(
    get, path = "/api/v1/dispatches/{id}/changes/{workspace}", tag = "dispatches",
    params(
        ("id" = String, Path, description = "Its id"),
        ("workspace" = String, Path, description = "Which of its workspaces")
    ),
    responses(
        (status = 200, body = ChangeOne), (status = 401, body = Details),
        (status = 404, body = Details, description = "NO_COMMIT, PROPOSAL_REJECTED, or it is not there or not yours"),
        (status = 413, body = Details), (status = 503, body = Details, description = "the bucket or the runtime does not answer")
    )
)]
pub async fn one(
    State(api): State<Api>,
    person: Person,
    Path((id, workspace)): Path<(String, String)>,
) -> Result<Json<ChangeOne>, Problem> {
    let (commits, as_of) = made(&api, &person, &id).await?;
    let commit = commits.unwrap_or_default().into_iter().find(|c| c.workspace.as_str() == workspace);
    let change = standing(&api, &id, &commit.ok_or_else(Problem::not_found)?).await?;
    let (commit, proposal) = shown(&change)?;
    let diff = ask_diff(&api, &workspace, commit, proposal.then_some(id.as_str())).await?;
    Ok(Json(ChangeOne { as_of, change, diff }))
}

/// What the run's end says of workspaces; `None` while it has not ended.
async fn made(api: &Api, person: &Person, id: &str) -> Result<(Option<Vec<RunCommit>>, u64), Problem> {
    let (_, seqs, as_of) = visible_dispatch(api, person, known(id)?.as_str()).await?;
    let messages = messages(api, &seqs).await?;
    let events = messages.iter().flat_map(|m| &m.items).filter_map(|i| serde_json::from_str::<Value>(&i.event).ok());
    Ok((events.filter_map(|event| commits_of(&event)).next_back(), as_of))
}

fn commits_of(event: &Value) -> Option<Vec<RunCommit>> {
    if event.get("type").and_then(Value::as_str) != Some(FINISHED) {
        return None;
    }
    let commits = event.pointer("/data/commits").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
    let commits: Vec<RunCommit> = serde_json::from_value(commits).ok()?;
    // Session files lie in a workspace of their own, which is the person's memory and not what was asked for.
    Some(commits.into_iter().filter(|c| !is_system(c.workspace.as_str())).collect())
}

/// What became of a commit since.
async fn standing(api: &Api, dispatch: &str, commit: &RunCommit) -> Result<ChangeShape, Problem> {
    if commit.outcome != CommitOutcome::Proposed {
        return Ok(stands(commit, None));
    }
    let (row, _) = row(api, commit.workspace.as_str()).await?;
    Ok(stands(commit, row.proposals.iter().find(|p| p.proposal == dispatch)))
}

/// Pure: a run's commit, with the proposal that it became.
fn stands(commit: &RunCommit, proposal: Option<&ProposalRow>) -> ChangeShape {
    let proposed = commit.outcome == CommitOutcome::Proposed;
    // The run's end is recorded just before its proposal is.
    let state = proposed.then(|| proposal.map_or_else(|| "open".to_owned(), |p| p.state.clone()));
    ChangeShape {
        workspace: commit.workspace.to_string(),
        mode: commit.mode.as_str().to_owned(),
        base: commit.base.clone(),
        commit: commit.commit.clone(),
        outcome: commit.outcome.as_str().to_owned(),
        reason: commit.reason.clone(),
        landed: proposal.and_then(|p| p.landed.clone()).filter(|_| proposed),
        proposal: state,
    }
}

/// Which commit is to be shown, and whether it is one that waits.
fn shown(change: &ChangeShape) -> Result<(&str, bool), Problem> {
    let none = |code: &str, detail: &str| Err(Problem::new(Code::NotFound, detail).code(code));
    match (change.proposal.as_deref(), change.landed.as_deref(), change.commit.as_deref()) {
        (Some("rejected"), ..) => none("PROPOSAL_REJECTED", "the owner said no, and what was proposed is not kept"),
        (Some("landed"), Some(landed), _) => Ok((landed, false)),
        (Some(_), _, Some(commit)) => Ok((commit, true)),
        (None, _, Some(commit)) => Ok((commit, false)),
        (.., None) => none("NO_COMMIT", "the run left no commit in this workspace"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use custody_contracts::ids::WorkspaceId;
    use custody_contracts::unit::Mode;
    use rstest::rstest;
    use serde_json::json;

    fn commit(outcome: CommitOutcome, commit: Option<&str>) -> RunCommit {
        RunCommit {
            workspace: WorkspaceId::parse("notes").unwrap(),
            mode: Mode::Rw,
            base: "b".into(),
            commit: commit.map(str::to_owned),
            outcome,
            reason: None,
            tree: None,
        }
    }

    fn proposal(state: &str, landed: Option<&str>) -> ProposalRow {
        ProposalRow { state: state.into(), landed: landed.map(str::to_owned), ..ProposalRow::default() }
    }

    #[rstest]
    #[case::landed(CommitOutcome::Landed, Some("c"), None, Ok(("c", false)))]
    #[case::merged(CommitOutcome::Merged, Some("c"), None, Ok(("c", false)))]
    #[case::unchanged(CommitOutcome::Unchanged, None, None, Err("NO_COMMIT"))]
    #[case::refused(CommitOutcome::Refused, None, None, Err("NO_COMMIT"))]
    #[case::not_recorded_yet(CommitOutcome::Proposed, Some("c"), None, Ok(("c", true)))]
    #[case::waits(CommitOutcome::Proposed, Some("c"), Some(("open", None)), Ok(("c", true)))]
    #[case::accepted(CommitOutcome::Proposed, Some("c"), Some(("accepted", None)), Ok(("c", true)))]
    #[case::landed_later(CommitOutcome::Proposed, Some("c"), Some(("landed", Some("t"))), Ok(("t", false)))]
    #[case::rejected(CommitOutcome::Proposed, Some("c"), Some(("rejected", None)), Err("PROPOSAL_REJECTED"))]
    fn which_commit_is_shown(
        #[case] outcome: CommitOutcome,
        #[case] id: Option<&str>,
        #[case] row: Option<(&str, Option<&str>)>,
        #[case] expected: Result<(&str, bool), &str>,
    ) {
        let row = row.map(|(state, landed)| proposal(state, landed));
        let change = stands(&commit(outcome, id), row.as_ref());
        let told = shown(&change).map_err(|p| p.code.clone());
        assert_eq!(told, expected.map_err(str::to_owned));
    }

    #[test]
    fn session_files_are_not_among_the_changes() {
        let one = |id: &str| json!({ "workspace": id, "mode": "rw", "base": "0".repeat(40), "commit": "1".repeat(40), "outcome": "landed" });
        let event = json!({ "type": FINISHED, "data": { "commits": [one("notes"), one("sys-u_jane")] } });
        let found = commits_of(&event).unwrap();
        assert_eq!(found.iter().map(|c| c.workspace.as_str()).collect::<Vec<_>>(), ["notes"]);
        assert_eq!(commits_of(&json!({ "type": FINISHED, "data": {} })), Some(Vec::new()));
        assert_eq!(commits_of(&json!({ "type": "custody.run.started.v1", "data": {} })), None);
    }
}
