//! What a workspace holds, told to the web over request and reply: `content.log`, `content.tree`, `content.diff`. Runtime
//! answers because it has the buckets and the keys that open them; whoever asks has neither, and has to know who may see
//! what. Must never write, never speak of a system workspace, and never show a commit that no tip of the head reaches.

use super::{Runtime, Shared};
use custody_contracts::ids::{DispatchId, WorkspaceId};
use custody_contracts::messages::ErrorDoc;
use custody_contracts::workspace::Workspace;
use custody_ports::compared::{Compared, ComparedMax};
use custody_ports::requests::{REQUEST_BYTES_MAX, Request, Requests};
use custody_ports::workspaces::{Head, Logged, OpenWorkspace, WorkspaceError, Workspaces};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The verbs that are answered.
pub const CONTENTS: [&str; 3] = ["log", "tree", "diff"];

/// How many questions are worked on at once: each runs git. More wait in line, and whoever asked gives up in its own time.
const AT_ONCE_MAX: usize = 4;
/// Commits of one answer.
const LOG_MAX: usize = 200;
/// Entries of one answer.
const ENTRIES_MAX: usize = 2_000;
/// Bytes of an answer before its envelope, with room for what escaping adds.
const ANSWER_BYTES_MAX: usize = REQUEST_BYTES_MAX - 16 * 1024;
/// How much of a difference is told.
const DIFF_MAX: ComparedMax =
    ComparedMax { files: 200, patch_bytes: 32 * 1024, bytes: 192 * 1024, read_bytes: 16 << 20 };

/// What a question may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    workspace: WorkspaceId,
    /// A commit; the trunk's newest when there is none.
    #[serde(default)]
    commit: Option<String>,
    /// The proposal that the commit belongs to, when it is not in the trunk.
    #[serde(default)]
    proposal: Option<DispatchId>,
    /// At most so many rows.
    #[serde(default)]
    limit: Option<usize>,
}

/// Answers until cancelled.
pub(super) async fn serve(
    runtime: Runtime,
    shared: Arc<Shared>,
    requests: Arc<dyn Requests>,
    cancel: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(AT_ONCE_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let request = tokio::select! {
            () = cancel.cancelled() => return,
            request = requests.next() => request,
        };
        match request {
            Ok(request) => {
                let (runtime, shared, requests) = (runtime.clone(), shared.clone(), requests.clone());
                tokio::spawn(async move {
                    let known = |id: &str| shared.with(|view| view.workspace(id).cloned());
                    let answer = match answer(runtime.workspaces.as_ref(), known, &request).await {
                        Ok(value) => json!({ "ok": value }),
                        Err(error) => serde_json::to_value(error).unwrap_or_default(),
                    };
                    if let Err(error) = requests.answer(&request.reply_to, answer.to_string().into_bytes()).await {
                        tracing::warn!(%error, subject = request.subject, "answer not sent");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "questions about workspaces lost; listening again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// One answer. `known` gives the document of a registered workspace.
async fn answer(
    all: &dyn Workspaces,
    known: impl Fn(&str) -> Option<Workspace>,
    request: &Request,
) -> Result<Value, ErrorDoc> {
    let question: Question = serde_json::from_slice(&request.bytes)
        .map_err(|e| ErrorDoc::new("QUERY_INVALID", format!("{}: {e}", request.subject), None))?;
    let id = question.workspace.as_str();
    // A system workspace is never registered, so nobody can ask for session files here.
    let Some(document) = known(id) else { return Err(missing(&format!("workspace {id}"))) };
    let told = |error: WorkspaceError| failed(id, &error);
    let open = all.open(&document).await.map_err(told)?;
    let head = match open.head().await {
        // Registered, and nothing was ever put in.
        Err(WorkspaceError::Empty(_)) => None,
        other => Some(other.map_err(told)?),
    };
    match request.subject.strip_prefix("content.").unwrap_or_default() {
        "log" => {
            let most = question.limit.unwrap_or(LOG_MAX).clamp(1, LOG_MAX);
            let rows = match &head {
                Some(head) => open.log(head, &head.trunk, None, most).await.map_err(told)?,
                None => Vec::new(),
            };
            Ok(json!({ "trunk": head.map(|h| h.trunk), "rows": rows }))
        }
        "tree" => {
            let Some(head) = head else {
                return Ok(json!({ "commit": null, "digest": null, "entries": [], "total": 0, "cut": false }));
            };
            let commit = wanted(open.as_ref(), &head, &question).await.map_err(told)?;
            let (entries, digest) = open.tree(&head, &commit).await.map_err(told)?;
            let total = entries.len();
            let entries = fitting(entries.iter().take(ENTRIES_MAX).map(|e| json!(e)), ANSWER_BYTES_MAX);
            let cut = entries.len() < total;
            Ok(json!({ "commit": commit, "digest": digest, "entries": entries, "total": total, "cut": cut }))
        }
        "diff" => {
            let Some(head) = head else { return Err(missing("commit")) };
            let commit = wanted(open.as_ref(), &head, &question).await.map_err(told)?;
            diff(open.as_ref(), &head, &commit).await.map_err(told)
        }
        other => Err(ErrorDoc::new("QUERY_UNKNOWN", format!("there is no question {other:?}"), None)),
    }
}

/// The commit that is asked for, if the trunk or the named proposal reaches it.
async fn wanted(open: &dyn OpenWorkspace, head: &Head, question: &Question) -> Result<String, WorkspaceError> {
    let missing = |what: &str| WorkspaceError::Missing(what.to_owned());
    let tip = match &question.proposal {
        Some(id) => head.proposals.get(id.as_str()).ok_or_else(|| missing("waiting proposal of that id"))?,
        None => &head.trunk,
    };
    let commit = question.commit.as_ref().unwrap_or(tip);
    if open.reaches(head, tip, commit).await? { Ok(commit.clone()) } else { Err(missing("commit of that id")) }
}

/// A commit, and what it changed against the one before it.
async fn diff(open: &dyn OpenWorkspace, head: &Head, commit: &str) -> Result<Value, WorkspaceError> {
    let log = open.log(head, commit, None, 2).await?;
    let Some(own) = log.first() else { return Err(WorkspaceError::Missing("commit of that id".into())) };
    let parent = log.get(1).map(|l| l.commit.clone());
    let compared = open.compare(head, parent.as_deref(), commit, DIFF_MAX).await?;
    Ok(as_answer(own, parent.as_deref(), compared))
}

/// As JSON that fits into one answer: escaping can make text longer, so patches go, the last ones first.
fn as_answer(own: &Logged, parent: Option<&str>, mut compared: Compared) -> Value {
    loop {
        let value = json!({
            "commit": own, "parent": parent, "files": compared.files, "total": compared.total, "cut": compared.cut,
        });
        if value.to_string().len() <= ANSWER_BYTES_MAX {
            return value;
        }
        compared.cut = true;
        match compared.files.iter_mut().rev().find(|f| !f.patch.is_empty()) {
            Some(file) => {
                file.patch = String::new();
                file.cut = true;
            }
            None => {
                let half = compared.files.len() / 2;
                compared.files.truncate(half);
            }
        }
    }
}

/// As many as fit into so many bytes.
fn fitting(rows: impl Iterator<Item = Value>, most: usize) -> Vec<Value> {
    let mut room = most;
    rows.map_while(|row| {
        room = room.checked_sub(row.to_string().len() + 1)?;
        Some(row)
    })
    .collect()
}

fn missing(what: &str) -> ErrorDoc {
    ErrorDoc::new("NOT_FOUND", format!("there is no {what}"), Some("custody workspace ls".into()))
}

/// A workspace's failure as the web may pass it on: nothing of this machine is in it, that goes to the log.
fn failed(id: &str, error: &WorkspaceError) -> ErrorDoc {
    let (code, message, hint) = match error {
        WorkspaceError::Missing(what) => return missing(what),
        WorkspaceError::Empty(_) => return missing("commit"),
        WorkspaceError::Unavailable { .. } | WorkspaceError::BadBucket(_) => {
            ("WORKSPACE_UNAVAILABLE", "its bucket does not answer", "try again; custody doctor")
        }
        WorkspaceError::Locked(_) => (
            "WORKSPACE_LOCKED",
            "it is encrypted, and the runtime has no identity that opens it",
            "custody workspace key: the runtime's file of identities",
        ),
        WorkspaceError::Corrupt { .. } => (
            "WORKSPACE_CORRUPT",
            "what is stored in its bucket is damaged",
            "restore the bucket from a copy; the ledger names every commit",
        ),
        WorkspaceError::TooLarge { .. } => {
            ("DIFF_TOO_LARGE", "it is too large to be shown here", "custody workspace diff shows it whole")
        }
        WorkspaceError::Failed { .. } => ("WORKSPACE_FAILED", "it could not be read", "try again; custody doctor"),
    };
    tracing::warn!(%error, workspace = id, "workspace not read");
    ErrorDoc::new(code, format!("workspace {id}: {message}"), Some(hint.into()))
}

#[cfg(test)]
mod tests;
