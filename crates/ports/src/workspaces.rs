//! Workspaces, as loops and the command line see them: a git repository in a bucket, opened, read, and moved on by one
//! fenced step. Nothing here decides what may land; [`Head::next`] is the only place where a head changes.

use crate::compared::{Compared, ComparedMax};
use custody_contracts::workspace::Workspace;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// How large things in a workspace may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceLimits {
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of all files of a working copy together.
    pub total_bytes: u64,
    /// Files, links and folders of a working copy.
    pub entries: u64,
    /// Bytes of what one commit adds, packed.
    pub commit_bytes: u64,
}

impl Default for WorkspaceLimits {
    fn default() -> Self {
        WorkspaceLimits { file_bytes: 32 << 20, total_bytes: 512 << 20, entries: 50_000, commit_bytes: 128 << 20 }
    }
}

/// Where a workspace stands: which commit counts, which wait, and what is stored. One object of the bucket, numbered;
/// the one with the highest number counts, and none is ever changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// 1 for the first.
    pub n: u64,
    /// Digest of the head before this one; empty for the first.
    pub previous: String,
    /// The commit of the trunk.
    pub trunk: String,
    /// Commits that wait for the owner, by the id of their proposal.
    #[serde(default)]
    pub proposals: BTreeMap<String, String>,
    /// Stored packs, in the order in which they are to be read.
    pub packs: Vec<Pack>,
}

/// One stored pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// Digest of the stored bytes; also its name.
    pub digest: String,
    /// Their size.
    pub bytes: u64,
}

/// What one step does to a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The trunk moves to a commit.
    Trunk(String),
    /// A commit waits for the owner.
    Propose {
        /// The proposal.
        id: String,
        /// Its commit.
        commit: String,
    },
    /// A proposal is landed: the trunk moves to its commit, and it waits no longer.
    Land {
        /// The proposal.
        id: String,
        /// The trunk's new commit.
        commit: String,
    },
    /// A proposal waits no longer.
    Close {
        /// The proposal.
        id: String,
    },
}

impl Head {
    /// The head after this one. Pure.
    pub fn next(&self, own_digest: String, change: Change, pack: Option<Pack>) -> Head {
        let mut next = self.clone();
        next.n += 1;
        next.previous = own_digest;
        next.packs.extend(pack);
        match change {
            Change::Trunk(commit) => next.trunk = commit,
            Change::Propose { id, commit } => {
                next.proposals.insert(id, commit);
            }
            Change::Land { id, commit } => {
                next.trunk = commit;
                next.proposals.remove(&id);
            }
            Change::Close { id } => {
                next.proposals.remove(&id);
            }
        }
        next
    }
}

/// Why a workspace did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkspaceError {
    /// Its bucket cannot be used as it is written.
    #[error("bucket {0}")]
    BadBucket(String),
    /// Its bucket holds nothing: it was never made, or it is another's.
    #[error("the bucket holds no workspace {0}")]
    Empty(String),
    /// No identity of this installation opens it.
    #[error("workspace {0} is encrypted, and no identity of this installation opens it")]
    Locked(String),
    /// What is stored is not what was stored.
    #[error("workspace {workspace} is damaged: {why}")]
    Corrupt {
        /// Which.
        workspace: String,
        /// What is wrong.
        why: String,
    },
    /// Larger than it may be.
    #[error("{code}: {why}")]
    TooLarge {
        /// Stable code.
        code: &'static str,
        /// What, and how large.
        why: String,
    },
    /// There is no such path or commit.
    #[error("there is no {0}")]
    Missing(String),
    /// The bucket is away.
    #[error("the bucket of workspace {workspace} is not reachable: {why}")]
    Unavailable {
        /// Which.
        workspace: String,
        /// Why.
        why: String,
    },
    /// Something on this machine went wrong: git, disk.
    #[error("{doing}: {why}")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// What went wrong.
        why: String,
    },
}

/// Something in a working copy that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Stable code, for example `BLOB_TOO_LARGE`.
    pub code: &'static str,
    /// Its path, as it may be shown.
    pub path: String,
    /// More.
    pub detail: String,
}

/// What a working copy is, compared with its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Git's id of the tree.
    pub tree: String,
    /// Whether it is the tree of the base.
    pub unchanged: bool,
    /// What is not in it, at most 100.
    pub left_out: Vec<LeftOut>,
}

/// What two changes of one base come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// One tree.
    Clean(String),
    /// Both changed the same lines of these files.
    Conflicts(Vec<String>),
}

/// A commit to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommit {
    /// Git's id of the tree.
    pub tree: String,
    /// The commit before.
    pub parent: String,
    /// The person it is by.
    pub author: String,
    /// What made it: the launcher.
    pub committer: String,
    /// Seconds since the epoch.
    pub time: u64,
    /// Subject line, body and trailers.
    pub message: String,
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// From the root.
    pub path: String,
    /// Git's mode: `100644`, `100755`, `120000`, `160000`.
    pub mode: String,
    /// Git's id.
    pub id: String,
    /// Bytes; 0 for what is not stored here.
    pub bytes: u64,
}

/// One commit of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Logged {
    /// Git's id.
    pub commit: String,
    /// The person.
    pub author: String,
    /// What made it.
    pub committer: String,
    /// Seconds since the epoch.
    pub time: u64,
    /// The first line.
    pub subject: String,
    /// The dispatch, when it is a run's.
    pub dispatch: Option<String>,
    /// The effect, when it is a run's.
    pub effect: Option<String>,
}

/// Whose the files of a working copy become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The user of boxes, by its id on the host, to be written.
    Box(u32),
    /// Whoever calls, to be read only.
    Person,
}

/// Workspaces by their documents.
pub trait Workspaces: Send + Sync {
    /// Opens one. Nothing of its content is read before it is asked for.
    fn open<'a>(&'a self, workspace: &'a Workspace) -> BoxFuture<'a, Result<Box<dyn OpenWorkspace>, WorkspaceError>>;
}

/// One workspace, with what was read of it so far. Each method that names commits needs a head that reaches them.
pub trait OpenWorkspace: Send + Sync {
    /// Makes the first head if there is none. Safe to call again.
    fn found(&self) -> BoxFuture<'_, Result<Head, WorkspaceError>>;
    /// The head that counts.
    fn head(&self) -> BoxFuture<'_, Result<Head, WorkspaceError>>;
    /// Puts the files of a commit into an empty folder.
    fn check_out<'a>(
        &'a self,
        head: &'a Head,
        commit: &'a str,
        folder: &'a Path,
        owner: Owner,
        limits: WorkspaceLimits,
    ) -> BoxFuture<'a, Result<(), WorkspaceError>>;
    /// Reads a folder as a tree, without following anything in it.
    fn snapshot<'a>(
        &'a self,
        head: &'a Head,
        base: &'a str,
        folder: &'a Path,
        limits: WorkspaceLimits,
    ) -> BoxFuture<'a, Result<Snapshot, WorkspaceError>>;
    /// The tree of `base` with one file put in place of what was there.
    fn with_file<'a>(
        &'a self,
        head: &'a Head,
        base: &'a str,
        path: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<Snapshot, WorkspaceError>>;
    /// Three-way merge of a tree that was made from `base` with a commit that came after `base`.
    fn merge<'a>(
        &'a self,
        head: &'a Head,
        base: &'a str,
        tree: &'a str,
        onto: &'a str,
    ) -> BoxFuture<'a, Result<Merged, WorkspaceError>>;
    /// Makes a commit on this machine; it counts for nobody before [`OpenWorkspace::advance`].
    fn commit<'a>(&'a self, head: &'a Head, new: &'a NewCommit) -> BoxFuture<'a, Result<String, WorkspaceError>>;
    /// Stores what a commit adds to what the head has; `None` when it adds nothing.
    fn store<'a>(
        &'a self,
        head: &'a Head,
        commit: &'a str,
        limits: WorkspaceLimits,
    ) -> BoxFuture<'a, Result<Option<Pack>, WorkspaceError>>;
    /// Makes the next head; `None` when somebody else made it first, and then everything is to be decided anew.
    fn advance<'a>(
        &'a self,
        head: &'a Head,
        change: Change,
        pack: Option<Pack>,
    ) -> BoxFuture<'a, Result<Option<Head>, WorkspaceError>>;
    /// The newest commits of a history, after `since` when it is given.
    fn log<'a>(
        &'a self,
        head: &'a Head,
        commit: &'a str,
        since: Option<&'a str>,
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<Logged>, WorkspaceError>>;
    /// Everything in a commit's tree, and the digest over the list.
    fn tree<'a>(
        &'a self,
        head: &'a Head,
        commit: &'a str,
    ) -> BoxFuture<'a, Result<(Vec<Entry>, String), WorkspaceError>>;
    /// One file of a commit.
    fn file<'a>(
        &'a self,
        head: &'a Head,
        commit: &'a str,
        path: &'a str,
        bytes_max: u64,
    ) -> BoxFuture<'a, Result<Vec<u8>, WorkspaceError>>;
    /// What changed between two commits, as text.
    fn diff<'a>(
        &'a self,
        head: &'a Head,
        from: &'a str,
        to: &'a str,
        bytes_max: u64,
    ) -> BoxFuture<'a, Result<String, WorkspaceError>>;
    /// What changed between two commits, file by file and bounded; from nothing when there is no commit before.
    fn compare<'a>(
        &'a self,
        head: &'a Head,
        from: Option<&'a str>,
        to: &'a str,
        most: ComparedMax,
    ) -> BoxFuture<'a, Result<Compared, WorkspaceError>>;
    /// Whether a commit is this tip or came before it. What nobody stored, or is stored no longer, is not.
    fn reaches<'a>(
        &'a self,
        head: &'a Head,
        tip: &'a str,
        commit: &'a str,
    ) -> BoxFuture<'a, Result<bool, WorkspaceError>>;
    /// The trunk with its history as a git bundle whose branch has this name.
    fn bundle<'a>(&'a self, head: &'a Head, branch: &'a str) -> BoxFuture<'a, Result<Vec<u8>, WorkspaceError>>;
    /// Stores everything anew, as one pack, for the recipients of this document; the packs before are removed once the
    /// new head counts. `None` when somebody else moved the head first.
    fn repack<'a>(&'a self, head: &'a Head) -> BoxFuture<'a, Result<Option<Head>, WorkspaceError>>;
}
