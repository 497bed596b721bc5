//! Workspaces: rows, histories, trees, and what a commit changed. Where a bucket is and who opens it is not told.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One workspace, as far as the person may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkspaceShape {
    /// Its id.
    #[schema(example = "notes")]
    pub workspace: String,
    /// Whose it is; `*` is everybody's of this installation.
    pub owner: String,
    /// What it is for, in one line.
    pub purpose: String,
    /// The most that any dispatch may have: ro, propose or rw.
    pub mode: String,
    /// The branch that counts.
    pub trunk: String,
    /// Whether its bytes are encrypted at rest.
    pub encrypted: bool,
    /// The most that a dispatch of the person may have; absent for an administrator who is no member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
    /// The trunk's commit that was recorded last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Commits that landed.
    pub landed: u64,
    /// Proposals that wait.
    pub waiting: u64,
    /// When it was registered. RFC 3339.
    pub registered_at: String,
    /// Sequence of its last event.
    pub last_seq: u64,
}

/// One proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProposalShape {
    /// The dispatch whose changes they are.
    pub proposal: String,
    /// The person they are by.
    pub subject: String,
    /// open, accepted, landed or rejected.
    pub state: String,
    /// The commit they were made on.
    pub base: String,
    /// The commit that holds them.
    pub commit: String,
    /// Why they did not land, when they were meant to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The trunk's commit that they became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landed: Option<String>,
    /// When it was opened. RFC 3339.
    pub opened_at: String,
}

/// Workspaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkspacePage {
    /// The ledger sequence up to which everything is in it.
    pub as_of: u64,
    /// By id.
    pub rows: Vec<WorkspaceShape>,
}

/// One workspace as of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkspaceOne {
    /// The ledger sequence up to which everything is in it.
    pub as_of: u64,
    /// The row.
    pub row: WorkspaceShape,
    /// Its proposals, oldest first: all of them for its owner, their own for others.
    pub proposals: Vec<ProposalShape>,
}

/// One commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommitShape {
    /// Git's id.
    pub commit: String,
    /// The person.
    pub author: String,
    /// What made it: the launcher.
    pub committer: String,
    /// RFC 3339.
    pub time: String,
    /// The first line.
    pub subject: String,
    /// The dispatch, when it is a run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch: Option<String>,
    /// The effect, when it is a run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}

/// The newest commits of a trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommitLog {
    /// The workspace.
    pub workspace: String,
    /// Newest first.
    pub rows: Vec<CommitShape>,
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EntryShape {
    /// From the root.
    pub path: String,
    /// Git's mode: `100644`, `100755`, `120000`, `160000`.
    pub mode: String,
    /// Git's id.
    pub id: String,
    /// Its size.
    pub bytes: u64,
}

/// Everything in a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TreeShape {
    /// The workspace.
    pub workspace: String,
    /// The commit; absent when nothing was ever put in.
    pub commit: Option<String>,
    /// SHA-256 over the whole list.
    pub digest: Option<String>,
    /// By path, 2000 at the most.
    pub entries: Vec<EntryShape>,
    /// All entries.
    pub total: u64,
    /// Some are missing here.
    pub cut: bool,
}

/// One file that a commit changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileShape {
    /// Its path; what could move text is replaced.
    pub path: String,
    /// Its path before, when it has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// added, deleted, modified, renamed or retyped (a file became a link, or the other way round).
    pub change: String,
    /// Lines that were added.
    pub added: u64,
    /// Lines that were removed.
    pub removed: u64,
    /// It is not text: there is no patch.
    pub binary: bool,
    /// Hunks of a unified diff, from the first `@@` on; at most 32 KiB.
    pub patch: String,
    /// The patch is not whole.
    pub cut: bool,
}

/// A commit, and what it changed against the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiffShape {
    /// The commit.
    pub commit: CommitShape,
    /// The one before it; absent for the first.
    pub parent: Option<String>,
    /// Files by path, 200 at the most; patches of 192 KiB together.
    pub files: Vec<FileShape>,
    /// All files that it changed.
    pub total: u64,
    /// Files are missing here, or patches are not whole.
    pub cut: bool,
}

/// What became of what a run changed in one workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeShape {
    /// The workspace.
    pub workspace: String,
    /// How it was mounted.
    pub mode: String,
    /// The commit that the run began with.
    pub base: String,
    /// The commit that holds the changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// unchanged, landed, merged, proposed or refused, as the run's end says.
    pub outcome: String,
    /// Why not otherwise; a stable code stands first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where the proposal stands now: open, accepted, landed or rejected. Absent when nothing was proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<String>,
    /// The trunk's commit that the proposal became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landed: Option<String>,
}

/// What a dispatch changed, by workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeList {
    /// The ledger sequence up to which everything is in it.
    pub as_of: u64,
    /// Whether the run has ended; before that nothing is changed.
    pub ended: bool,
    /// One for each workspace that it could write.
    pub rows: Vec<ChangeShape>,
}

/// What a dispatch changed in one workspace, line by line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeOne {
    /// The ledger sequence up to which everything is in it.
    pub as_of: u64,
    /// What became of it.
    pub change: ChangeShape,
    /// The commit.
    pub diff: DiffShape,
}
