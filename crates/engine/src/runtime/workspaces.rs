//! Workspaces of a run: the commits that it begins with, the plain folders that are mounted, and the landing of what it
//! changed. What follows is decided in `domain::workspace::landing`; here it is carried out, step by durable step, each
//! recognised when it was done in an earlier life. Must never put anything of git into a folder that a box sees.

use super::drive::One;
use super::view::Open;
use super::{Runtime, Shared, collect};
use crate::crash;
use crate::replay::before;
use custody_contracts::canonical::digest;
use custody_contracts::events::{DispatchAdmitted, SessionFile, StopReason};
use custody_contracts::ids::{UnixMillis, WorkspaceId};
use custody_contracts::unit::{InputTrust, Mode};
use custody_contracts::workspace::{CommitOutcome, Encryption, MountBase, RunCommit, Workspace};
use custody_domain::workspace::landing::{Already, Facts, MergeFound, Step, TRIES_MAX, effect_id, message, step};
use custody_domain::workspace::system;
use custody_ports::blobs::SEAL_BYTES_MAX;
use custody_ports::workspaces::{
    Change, Head, LeftOut, Merged, NewCommit, OpenWorkspace, Owner, Snapshot, WorkspaceError,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a bucket that is away is asked for again before a run ends without it.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// The first pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often a bucket is asked for the commit that a run begins with.
const BASE_TRIES_MAX: usize = 4;
/// Commits that are looked through for an earlier life's work.
const LOOKED_THROUGH_MAX: usize = 1_000;
/// The same, where there is no base.
const NEWEST_MAX: usize = 50;

/// Where the person's own system workspaces are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemWorkspaces {
    /// Their bucket.
    pub bucket: String,
    /// Age recipients; none: they are not encrypted.
    pub recipients: Vec<String>,
}

impl SystemWorkspaces {
    /// The document of one person's.
    pub fn document(&self, id: WorkspaceId) -> Workspace {
        let encryption =
            if self.recipients.is_empty() { Encryption::none() } else { Encryption::age(self.recipients.clone()) };
        Workspace {
            id,
            bucket: self.bucket.clone(),
            mode: Mode::Rw,
            encryption,
            purpose: "Session files.".into(),
            trunk: "main".into(),
        }
    }
}

/// The folder of a run's working copy.
pub(crate) fn copy_of(run_folder: &Path, workspace: &str) -> PathBuf {
    run_folder.join("ws").join(workspace)
}

/// The commits that a run begins with. A workspace whose bucket does not answer is left out, and then the run does not
/// start: the claim must be made to record that.
pub(super) async fn bases(runtime: &Runtime, shared: &Shared, open: &Open) -> Vec<MountBase> {
    let all = open.admitted.unit.workspaces.iter().map(|mount| async move {
        let document = shared.with(|view| view.workspace(mount.id.as_str()).cloned())?;
        match asked_again(runtime, &document).await {
            Ok(head) => Some(MountBase { workspace: mount.id.clone(), mode: mount.mode, base: head.trunk }),
            Err(error) => {
                tracing::warn!(%error, workspace = %mount.id, "no commit to begin with");
                None
            }
        }
    });
    futures::future::join_all(all).await.into_iter().flatten().collect()
}

/// A bucket that is away for a moment costs no dispatch.
async fn asked_again(runtime: &Runtime, document: &Workspace) -> Result<Head, WorkspaceError> {
    let mut pause = PAUSE;
    for _ in 1..BASE_TRIES_MAX {
        match head_of(runtime, document).await {
            Err(error @ (WorkspaceError::Unavailable { .. } | WorkspaceError::Failed { .. })) => {
                tracing::warn!(%error, workspace = %document.id, "no commit to begin with; asking again");
            }
            answer => return answer,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    head_of(runtime, document).await
}

async fn head_of(runtime: &Runtime, document: &Workspace) -> Result<Head, WorkspaceError> {
    runtime.workspaces.open(document).await?.found().await
}

/// Makes the folder of every workspace, empty: its files come with [`fill`].
///
/// # Errors
/// A sentence with a stable code first.
pub(super) fn places(folder: &Path, admitted: &DispatchAdmitted, box_uid: u32) -> Result<(), String> {
    for mount in &admitted.unit.workspaces {
        let id = mount.id.as_str();
        place(&copy_of(folder, id), box_uid).map_err(|e| refused(id, &e))?;
    }
    Ok(())
}

/// Whether every workspace of a run is there, with the commit that it begins with.
///
/// # Errors
/// A sentence with a stable code first.
pub(super) fn all_known(run: &One<'_>) -> Result<(), String> {
    run.open.admitted.unit.workspaces.iter().try_for_each(|mount| known(run, mount.id.as_str()).map(drop))
}

/// Puts the files of every workspace into its folder.
///
/// # Errors
/// A sentence with a stable code first.
pub(super) async fn fill(run: &One<'_>) -> Result<(), String> {
    let all = run.open.admitted.unit.workspaces.iter().map(|mount| async move {
        let (document, base) = known(run, mount.id.as_str())?;
        put(run, &document, &base).await.map_err(|e| refused(mount.id.as_str(), &e))
    });
    // Each to its end: what writes into a folder must not go on when the folder is removed.
    futures::future::join_all(all).await.into_iter().collect()
}

/// A workspace and the commit that the run begins with.
fn known(run: &One<'_>, id: &str) -> Result<(Workspace, String), String> {
    let Some(document) = run.shared.with(|view| view.workspace(id).cloned()) else {
        return Err(format!("WORKSPACE_MISSING: workspace {id} is not registered; custody workspace new {id}"));
    };
    match run.claimed.mounts.iter().find(|m| m.workspace.as_str() == id) {
        Some(mount) => Ok((document, mount.base.clone())),
        None => Err(format!(
            "WORKSPACE_UNAVAILABLE: the bucket of workspace {id} did not answer when the run was claimed; launch again (custody doctor)"
        )),
    }
}

fn place(copy: &Path, box_uid: u32) -> Result<(), WorkspaceError> {
    let io = |e: std::io::Error| WorkspaceError::Failed { doing: "making a working copy", why: e.to_string() };
    // What an earlier life began is begun again: no box has seen it.
    match std::fs::remove_dir_all(copy) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
        _ => {}
    }
    std::fs::create_dir_all(copy).map_err(io)?;
    collect::give_to_box(copy, box_uid).map_err(io)
}

async fn put(run: &One<'_>, document: &Workspace, base: &str) -> Result<(), WorkspaceError> {
    let copy = copy_of(run.folder, document.id.as_str());
    let owner = Owner::Box(run.runtime.config.classes.box_uid());
    let open = run.runtime.workspaces.open(document).await?;
    let head = open.found().await?;
    open.check_out(&head, base, &copy, owner, run.runtime.config.workspace_limits).await
}

fn refused(id: &str, error: &WorkspaceError) -> String {
    let code = code_of(error);
    format!("{code}: workspace {id}: {error}")
}

fn code_of(error: &WorkspaceError) -> &'static str {
    match error {
        WorkspaceError::Unavailable { .. } | WorkspaceError::Empty(_) | WorkspaceError::BadBucket(_) => {
            "WORKSPACE_UNAVAILABLE"
        }
        WorkspaceError::Locked(_) => "WORKSPACE_LOCKED",
        WorkspaceError::Corrupt { .. } | WorkspaceError::Missing(_) => "WORKSPACE_CORRUPT",
        WorkspaceError::TooLarge { code, .. } => code,
        WorkspaceError::Failed { .. } => "WORKSPACE_FAILED",
    }
}

/// Lands what a run changed, workspace by workspace.
pub(super) async fn land(run: &One<'_>, ended: StopReason, finished_at: UnixMillis) -> Vec<RunCommit> {
    let mut commits = Vec::new();
    for mount in run.claimed.mounts.iter().filter(|m| m.mode != Mode::Ro) {
        let document = run.shared.with(|view| view.workspace(mount.workspace.as_str()).cloned());
        let copy = copy_of(run.folder, mount.workspace.as_str());
        let commit = match document {
            Some(document) if copy.is_dir() => {
                let source = Source::Copy(&copy);
                one(run, &document, mount, source, ended, finished_at).await
            }
            _ => nothing(mount, CommitOutcome::Unchanged, None),
        };
        commits.push(commit);
    }
    commits
}

fn nothing(mount: &MountBase, outcome: CommitOutcome, reason: Option<String>) -> RunCommit {
    RunCommit {
        workspace: mount.workspace.clone(),
        mode: mount.mode,
        base: mount.base.clone(),
        commit: None,
        outcome,
        reason,
        tree: None,
    }
}

/// Where changes come from.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// A working copy that a box has written.
    Copy(&'a Path),
    /// One file at a path, put over whatever the trunk has there.
    File(&'a str, &'a [u8]),
}

/// Tries until it is done, or the bucket was away for too long; then the working copy is kept aside.
async fn one(
    run: &One<'_>,
    document: &Workspace,
    mount: &MountBase,
    source: Source<'_>,
    ended: StopReason,
    finished_at: UnixMillis,
) -> RunCommit {
    let until = tokio::time::Instant::now() + AWAY_MAX;
    let mut pause = PAUSE;
    loop {
        let error = match land_one(run, document, mount, source, ended, finished_at).await {
            Ok(commit) => return commit,
            Err(error) => error,
        };
        let again = matches!(error, WorkspaceError::Unavailable { .. } | WorkspaceError::Failed { .. });
        if !again || tokio::time::Instant::now() >= until {
            tracing::error!(%error, workspace = %document.id, dispatch = run.dispatch(), "changes not landed");
            let kept = keep_aside(run, document, source);
            let reason = format!("{}{kept}", refused(document.id.as_str(), &error));
            return nothing(mount, CommitOutcome::Refused, Some(reason.chars().take(1_000).collect()));
        }
        tracing::warn!(%error, workspace = %document.id, dispatch = run.dispatch(), "landing tried again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// What could not be stored anywhere is moved out of the run's folder, which goes away.
fn keep_aside(run: &One<'_>, document: &Workspace, source: Source<'_>) -> String {
    let Source::Copy(copy) = source else { return String::new() };
    let kept = run.runtime.config.kept.join(run.dispatch());
    let place = kept.join(document.id.as_str());
    match std::fs::create_dir_all(&kept).and_then(|()| std::fs::rename(copy, &place)) {
        Ok(()) => format!("; its files are kept in {}", place.display()),
        Err(error) => format!("; its files could not be kept: {error}"),
    }
}

fn sentence(left: &LeftOut) -> String {
    format!("{}: {}, {}", left.code, left.path, left.detail)
}

async fn read(
    run: &One<'_>,
    open: &dyn OpenWorkspace,
    head: &Head,
    base: &str,
    source: Source<'_>,
) -> Result<Snapshot, WorkspaceError> {
    match source {
        Source::Copy(copy) => open.snapshot(head, base, copy, run.runtime.config.workspace_limits).await,
        Source::File(path, bytes) => open.with_file(head, &head.trunk, path, bytes.to_vec()).await,
    }
}

async fn land_one(
    run: &One<'_>,
    document: &Workspace,
    mount: &MountBase,
    source: Source<'_>,
    ended: StopReason,
    finished_at: UnixMillis,
) -> Result<RunCommit, WorkspaceError> {
    let admitted = &run.open.admitted;
    let effect = effect_id(&admitted.dispatch, &mount.workspace);
    let open = run.runtime.workspaces.open(document).await?;
    let mut facts = Facts {
        mode: mount.mode,
        trust: match source {
            Source::Copy(_) => admitted.unit.trigger.input_trust(),
            Source::File(..) => InputTrust::Trusted,
        },
        ended: match source {
            Source::Copy(_) => ended,
            Source::File(..) => StopReason::Completed,
        },
        unchanged: false,
        left_out: Vec::new(),
        trunk_is_base: false,
        already: None,
        tries: 0,
        merge: None,
    };
    let mut snapshot: Option<Snapshot> = None;
    loop {
        let head = open.found().await?;
        // A file is put over the newest trunk, so that its base is the trunk, and nothing can conflict.
        let base = match source {
            Source::Copy(_) => mount.base.clone(),
            Source::File(..) => head.trunk.clone(),
        };
        let since = match source {
            Source::Copy(_) => Some(mount.base.as_str()),
            Source::File(..) => None,
        };
        facts.already = already(open.as_ref(), &head, since, run.dispatch(), &effect).await?;
        if snapshot.is_none() || matches!(source, Source::File(..)) {
            let found = match read(run, open.as_ref(), &head, &base, source).await {
                // Too much in all: nothing of it can be kept, and why is said by name.
                Err(error @ WorkspaceError::TooLarge { .. }) => {
                    let reason = left_out_reason(&error);
                    return Ok(nothing(mount, CommitOutcome::Refused, Some(reason)));
                }
                other => other?,
            };
            facts.unchanged = found.unchanged;
            facts.left_out = found.left_out.iter().map(sentence).collect();
            snapshot = Some(found);
            crash::point("ws.after_snapshot");
        }
        let Some(found) = &snapshot else { continue };
        facts.trunk_is_base = head.trunk == base;
        let mut tree = found.tree.clone();
        let mut next = step(&facts);
        if next == Step::Merge {
            facts.merge = Some(match open.merge(&head, &base, &found.tree, &head.trunk).await? {
                Merged::Clean(merged) => {
                    tree = merged;
                    MergeFound::Clean
                }
                Merged::Conflicts(paths) => MergeFound::Conflicts(paths),
            });
            next = step(&facts);
        }
        let (parent, outcome, reason) = match next {
            Step::Unchanged => return Ok(nothing(mount, CommitOutcome::Unchanged, None)),
            Step::Refuse(reason) => return Ok(nothing(mount, CommitOutcome::Refused, Some(reason))),
            Step::Already(before, reason) => return done_before(open.as_ref(), &head, mount, before, reason).await,
            Step::Land => (base.clone(), CommitOutcome::Landed, None),
            Step::LandMerged => (head.trunk.clone(), CommitOutcome::Merged, None),
            Step::Propose(reason) => (base.clone(), CommitOutcome::Proposed, reason),
            // A merge that was asked for twice would be a rule that does not end.
            Step::Merge => {
                return Err(WorkspaceError::Failed { doing: "landing", why: "a merge led to a merge".into() });
            }
        };
        let new = NewCommit {
            tree,
            parent,
            author: admitted.unit.identity.subject.to_string(),
            committer: admitted.launch.launcher.to_string(),
            time: finished_at.0 / 1_000,
            message: message(
                &admitted.dispatch,
                &mount.workspace,
                &admitted.unit.identity.subject,
                &admitted.launch.launcher,
            ),
        };
        let commit = open.commit(&head, &new).await?;
        let pack = match open.store(&head, &commit, run.runtime.config.workspace_limits).await {
            Err(error @ WorkspaceError::TooLarge { .. }) => {
                return Ok(nothing(mount, CommitOutcome::Refused, Some(left_out_reason(&error))));
            }
            other => other?,
        };
        crash::point("ws.after_pack");
        let change = match outcome {
            CommitOutcome::Proposed => Change::Propose { id: run.dispatch().to_owned(), commit: commit.clone() },
            _ => Change::Trunk(commit.clone()),
        };
        if let Some(moved) = open.advance(&head, change, pack).await? {
            crash::point("ws.after_head");
            let (_, tree) = open.tree(&moved, &commit).await?;
            return Ok(RunCommit {
                workspace: mount.workspace.clone(),
                mode: mount.mode,
                base,
                commit: Some(commit),
                outcome,
                reason,
                tree: Some(tree),
            });
        }
        // Somebody was first. Everything is asked again.
        facts.tries += 1;
        facts.merge = None;
        if facts.tries > 4 * TRIES_MAX {
            return Err(WorkspaceError::Unavailable {
                workspace: document.id.to_string(),
                why: format!("others were first {} times", facts.tries),
            });
        }
        tokio::time::sleep(Duration::from_millis(u64::from(facts.tries % 8) * 10)).await;
    }
}

fn left_out_reason(error: &WorkspaceError) -> String {
    error.to_string().chars().take(900).collect()
}

/// What an earlier life of this runtime has done of it. Without a base only the newest commits are looked through: a
/// session file that landed long ago is found by its content.
async fn already(
    open: &dyn OpenWorkspace,
    head: &Head,
    base: Option<&str>,
    dispatch: &str,
    effect: &str,
) -> Result<Option<Already>, WorkspaceError> {
    if let Some(commit) = head.proposals.get(dispatch) {
        return Ok(Some(Already::Proposed(commit.clone())));
    }
    if base == Some(head.trunk.as_str()) {
        return Ok(None);
    }
    let most = if base.is_some() { LOOKED_THROUGH_MAX } else { NEWEST_MAX };
    let log = open.log(head, &head.trunk, base, most).await?;
    let Some(place) = log.iter().position(|l| l.effect.as_deref() == Some(effect)) else { return Ok(None) };
    let commit = log.get(place).map(|l| l.commit.clone()).unwrap_or_default();
    // The oldest of them stands on the base.
    let landed = base.is_none() || place + 1 == log.len();
    Ok(Some(if landed { Already::Landed(commit) } else { Already::Merged(commit) }))
}

async fn done_before(
    open: &dyn OpenWorkspace,
    head: &Head,
    mount: &MountBase,
    before: Already,
    reason: Option<String>,
) -> Result<RunCommit, WorkspaceError> {
    let (outcome, commit) = match before {
        Already::Landed(commit) => (CommitOutcome::Landed, commit),
        Already::Merged(commit) => (CommitOutcome::Merged, commit),
        Already::Proposed(commit) => (CommitOutcome::Proposed, commit),
    };
    let (_, tree) = open.tree(head, &commit).await?;
    Ok(RunCommit {
        workspace: mount.workspace.clone(),
        mode: mount.mode,
        base: mount.base.clone(),
        commit: Some(commit),
        outcome,
        reason,
        tree: Some(tree),
    })
}

/// Keeps a session file: in the person's own system workspace, and where that cannot be had, as a blob, so that the next
/// turn finds it in any case.
pub(super) async fn keep_session(
    run: &One<'_>,
    bytes: Vec<u8>,
    finished_at: UnixMillis,
) -> (Option<SessionFile>, Option<RunCommit>, Option<String>) {
    let admitted = &run.open.admitted;
    let (subject, size) = (&admitted.unit.identity.subject, bytes.len() as u64);
    // Sealed in both places: neither a commit nor a blob can be taken back, and a key can be destroyed.
    let sealed = match run.runtime.blobs.seal(subject, bytes.clone()) {
        Ok(sealed) => sealed,
        Err(error) => return (None, None, Some(format!("session file not stored: {error}"))),
    };
    let file = SessionFile { id: admitted.session.clone(), digest: digest(&sealed), bytes: size };
    let document = run.runtime.config.system.document(system::of(&admitted.unit.identity.subject));
    let path = system::session_path(&admitted.session);
    let landed = async {
        let head = head_of(run.runtime, &document).await?;
        let mount = MountBase { workspace: document.id.clone(), mode: Mode::Rw, base: head.trunk };
        let source = Source::File(&path, &sealed);
        land_one(run, &document, &mount, source, StopReason::Completed, finished_at).await
    };
    match landed.await {
        Ok(commit) if commit.outcome != CommitOutcome::Refused => return (Some(file), Some(commit), None),
        Ok(commit) => tracing::warn!(reason = commit.reason, "session file refused by its workspace; kept as a blob"),
        Err(error) => tracing::warn!(%error, "session file not in its workspace; kept as a blob"),
    }
    match run.runtime.blobs.put(subject, bytes).await {
        Ok(_) => (Some(file), None, None),
        Err(error) => (None, None, Some(format!("session file not stored: {error}"))),
    }
}

/// The bytes of a session file: from the person's system workspace, or the blob of that name.
///
/// # Errors
/// A sentence.
pub(super) async fn session_bytes(run: &One<'_>, wanted: &str) -> Result<Vec<u8>, String> {
    let admitted = &run.open.admitted;
    let document = run.runtime.config.system.document(system::of(&admitted.unit.identity.subject));
    // A turn that is repeated goes on from the file of that time, in the session of that time.
    let before = before(admitted, run.runtime.log.as_ref()).await?;
    let session = before.as_ref().map_or(&admitted.session, |before| &before.session);
    let found = async {
        let open = run.runtime.workspaces.open(&document).await?;
        let head = open.head().await?;
        let commit = before.as_ref().and_then(|before| before.commit.as_ref()).unwrap_or(&head.trunk);
        let path = system::session_path(session);
        open.file(&head, commit, &path, run.runtime.config.limits.session_bytes + SEAL_BYTES_MAX).await
    };
    match found.await {
        Ok(kept) if digest(&kept) == wanted => return run.runtime.blobs.open(kept).map_err(|e| e.to_string()),
        Ok(_) => tracing::warn!(%session, "the session file in its workspace is another one"),
        Err(error) => tracing::debug!(%error, %session, "session file not in its workspace"),
    }
    run.runtime.blobs.get(wanted).await.map_err(|e| e.to_string())
}
