//! Changing a workspace as a person: importing files, landing and rejecting proposals. Every change is one commit under
//! the same fence as a run's, and is recorded through the authority.

use super::{Desk, Found, failed, proposal, usage};
use crate::commands::run::own_subject;
use crate::error::{CliError, CliResult, exit};
use crate::server::local::CLI_LAUNCHER;
use custody_contracts::ids::{DispatchId, UnixMillis, WorkspaceId};
use custody_contracts::workspace::{
    WorkspaceImported, WorkspaceProposalAccepted, WorkspaceProposalLanded, WorkspaceProposalRejected,
};
use custody_domain::workspace::landing::{TRIES_MAX, effect_id};
use custody_ports::clock::Clock;
use custody_ports::workspaces::{Change, Head, Merged, NewCommit, Owner, WorkspaceError};
use serde_json::json;
use std::path::Path;

fn now() -> u64 {
    let UnixMillis(ms) = crate::server::clock::SystemClock.now();
    ms / 1_000
}

fn busy(id: &str) -> CliError {
    CliError::new(exit::CONFLICT, "WORKSPACE_BUSY", format!("others changed {id} {TRIES_MAX} times meanwhile"))
        .hint("again")
}

fn conflict(id: &str, paths: &[String], hint: &str) -> CliError {
    let what = format!("{} changed in {id} too", paths.join(", "));
    CliError::new(exit::CONFLICT, "MERGE_CONFLICT", what).hint(hint)
}

/// The tree of a commit, as git names it.
fn tree_of(commit: &str) -> String {
    [commit, "^{tree}"].concat()
}

impl Desk<'_> {
    pub(super) async fn import(&self, id: &str, folder: &Path, replace: bool, message: Option<&str>) -> CliResult {
        let found = self.find(id).await?;
        Self::may_write(&found)?;
        let message = message.unwrap_or("Import").lines().next().unwrap_or("Import");
        let commit = import_into(self, &found, folder, replace, message).await?;
        let Some((base, commit)) = commit else {
            let row = json!({ "workspace": id, "commit": found.head.trunk, "changed": false });
            return self.ctx.render.one("workspace-done.v1", "workspace", &row);
        };
        let event = WorkspaceImported {
            workspace: WorkspaceId::parse(id).map_err(usage)?,
            base,
            commit: commit.clone(),
            by: own_subject(),
        };
        let answer = self.operator.command("workspace.import", serde_json::to_value(&event)?).await?;
        self.done(json!({ "workspace": id, "commit": commit, "state": "imported" }), &answer)
    }

    pub(super) async fn land(&self, id: &str, proposal_id: &str) -> CliResult {
        let found = self.find(id).await?;
        let row = proposal(&found.row, proposal_id)?.clone();
        let workspace = WorkspaceId::parse(id).map_err(usage)?;
        let dispatch = DispatchId::parse(proposal_id).map_err(usage)?;
        let me = own_subject();
        // The yes is recorded before anything moves: what the rules refuse changes nothing.
        let yes =
            WorkspaceProposalAccepted { workspace: workspace.clone(), proposal: dispatch.clone(), by: me.clone() };
        self.operator.command("workspace.accept", serde_json::to_value(&yes)?).await?;
        let effect = effect_id(&dispatch, &workspace);
        let message = format!(
            "Changes of {dispatch}\n\nProposed for {}, landed by {me}.\n\nDispatch-Id: {dispatch}\nEffect-Id: {effect}\n",
            row.subject
        );
        let commit = self.merge_proposal(&found, &row, &effect, &message).await?;
        let event = WorkspaceProposalLanded { workspace, proposal: dispatch, commit: commit.clone(), by: me };
        let answer = self.operator.command("workspace.landed", serde_json::to_value(&event)?).await?;
        self.done(json!({ "workspace": id, "proposal": proposal_id, "commit": commit, "state": "landed" }), &answer)
    }

    async fn merge_proposal(
        &self,
        found: &Found,
        row: &custody_projections::workspaces::ProposalRow,
        effect: &str,
        message: &str,
    ) -> CliResult<String> {
        let open = found.open.as_ref();
        let limits = self.target.config.workspaces.limits();
        for _ in 0..TRIES_MAX {
            let head = open.head().await.map_err(failed)?;
            let Some(proposed) = head.proposals.get(&row.proposal).cloned() else {
                return landed_before(found, &head, row, effect).await;
            };
            let (commit, pack) = if head.trunk == row.base {
                (proposed, None)
            } else {
                let merged = open.merge(&head, &row.base, &tree_of(&proposed), &head.trunk).await.map_err(failed)?;
                let tree = match merged {
                    Merged::Clean(tree) => tree,
                    Merged::Conflicts(paths) => {
                        let hint =
                            "let a dispatch merge them: mount the workspace rw and tell it; then reject this one";
                        return Err(conflict(&row.proposal, &paths, hint));
                    }
                };
                let new = NewCommit {
                    tree,
                    parent: head.trunk.clone(),
                    author: row.subject.clone(),
                    committer: CLI_LAUNCHER.to_owned(),
                    time: now(),
                    message: message.to_owned(),
                };
                let commit = open.commit(&head, &new).await.map_err(failed)?;
                let pack = open.store(&head, &commit, limits).await.map_err(failed)?;
                (commit, pack)
            };
            let change = Change::Land { id: row.proposal.clone(), commit: commit.clone() };
            if open.advance(&head, change, pack).await.map_err(failed)?.is_some() {
                return Ok(commit);
            }
        }
        Err(busy(found.document.id.as_str()))
    }

    pub(super) async fn reject(&self, id: &str, proposal_id: &str, why: &str) -> CliResult {
        let found = self.find(id).await?;
        proposal(&found.row, proposal_id)?;
        let event = WorkspaceProposalRejected {
            workspace: WorkspaceId::parse(id).map_err(usage)?,
            proposal: DispatchId::parse(proposal_id).map_err(usage)?,
            by: own_subject(),
            why: why.chars().take(2_000).collect(),
        };
        let answer = self.operator.command("workspace.reject", serde_json::to_value(&event)?).await?;
        for _ in 0..TRIES_MAX {
            let head = found.open.head().await.map_err(failed)?;
            if !head.proposals.contains_key(proposal_id) {
                break;
            }
            let change = Change::Close { id: proposal_id.to_owned() };
            if found.open.advance(&head, change, None).await.map_err(failed)?.is_some() {
                break;
            }
        }
        self.done(json!({ "workspace": id, "proposal": proposal_id, "state": "rejected" }), &answer)
    }
}

/// A proposal that waits no longer was landed by an earlier call, whose record did not get through.
async fn landed_before(
    found: &Found,
    head: &Head,
    row: &custody_projections::workspaces::ProposalRow,
    effect: &str,
) -> CliResult<String> {
    let log = found.open.log(head, &head.trunk, Some(&row.base), 1_000).await.map_err(failed)?;
    match log.into_iter().find(|l| l.effect.as_deref() == Some(effect)) {
        Some(one) => Ok(one.commit),
        None => Err(CliError::new(
            exit::INTEGRITY,
            "PROPOSAL_LOST",
            format!("proposal {} is neither in the trunk nor waiting in the bucket", row.proposal),
        )
        .hint("was the bucket put back to an older copy? its heads/ are numbered without a gap")),
    }
}

/// One commit by the person at the keyboard; `None` when nothing changes.
async fn import_into(
    desk: &Desk<'_>,
    found: &Found,
    folder: &Path,
    replace: bool,
    message: &str,
) -> CliResult<Option<(String, String)>> {
    if !folder.is_dir() {
        return Err(usage(format!("{} is no folder", folder.display())));
    }
    let open = found.open.as_ref();
    let limits = desk.target.config.workspaces.limits();
    let base = found.head.trunk.clone();
    let work = tempfile::tempdir()?;
    if !replace {
        open.check_out(&found.head, &base, work.path(), Owner::Person, limits).await.map_err(failed)?;
    }
    copy_over(folder, work.path(), 0)?;
    let snapshot = open.snapshot(&found.head, &base, work.path(), limits).await.map_err(failed)?;
    if let Some(left) = snapshot.left_out.first() {
        let what = format!("{}: {}, {} ({} in all)", left.code, left.path, left.detail, snapshot.left_out.len());
        return Err(usage(what).hint("take it out of the folder; a workspace holds plain files and links inside it"));
    }
    if snapshot.unchanged {
        return Ok(None);
    }
    for _ in 0..TRIES_MAX {
        let head = open.head().await.map_err(failed)?;
        let tree = if head.trunk == base {
            snapshot.tree.clone()
        } else {
            match open.merge(&head, &base, &snapshot.tree, &head.trunk).await.map_err(failed)? {
                Merged::Clean(tree) => tree,
                Merged::Conflicts(paths) => return Err(conflict(found.document.id.as_str(), &paths, "import again")),
            }
        };
        let new = NewCommit {
            tree,
            parent: head.trunk.clone(),
            author: own_subject(),
            committer: CLI_LAUNCHER.to_owned(),
            time: now(),
            message: [message, "\n"].concat(),
        };
        let commit = open.commit(&head, &new).await.map_err(failed)?;
        let pack = open.store(&head, &commit, limits).await.map_err(failed)?;
        let moved = open.advance(&head, Change::Trunk(commit.clone()), pack).await.map_err(failed)?;
        if moved.is_some() {
            return Ok(Some((head.trunk, commit)));
        }
    }
    Err(busy(found.document.id.as_str()))
}

/// Copies a person's own folder over another; links are copied as links, a `.git` is left where it is.
fn copy_over(from: &Path, to: &Path, depth: usize) -> CliResult {
    if depth > 64 {
        return Err(failed(WorkspaceError::TooLarge { code: "PATH_NOT_ALLOWED", why: from.display().to_string() }));
    }
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() == ".git" {
            continue;
        }
        let (source, place, kind) = (entry.path(), to.join(entry.file_name()), entry.file_type()?);
        let there = std::fs::symlink_metadata(&place).ok();
        if kind.is_dir() {
            if there.as_ref().is_some_and(|t| !t.is_dir()) {
                std::fs::remove_file(&place)?;
            }
            std::fs::create_dir_all(&place)?;
            copy_over(&source, &place, depth + 1)?;
            continue;
        }
        match there {
            Some(t) if t.is_dir() => std::fs::remove_dir_all(&place)?,
            Some(_) => std::fs::remove_file(&place)?,
            None => {}
        }
        if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&source)?, &place)?;
        } else if kind.is_file() {
            std::fs::copy(&source, &place)?;
        } else {
            return Err(usage(format!("{} is neither a file nor a folder", source.display())));
        }
    }
    Ok(())
}
