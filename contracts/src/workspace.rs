//! workspace.v1: a bucket, an id, a mode and encryption; and what the ledger says of workspaces and of the changes that
//! runs make in them. Must never say anything about content or layout.

use crate::ids::{DispatchId, Subject, WorkspaceId};
use crate::unit::Mode;
use serde::{Deserialize, Serialize};

/// A bucket that holds one git repository of the user's own. Source: contract workspace.v1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workspace {
    /// The id that dispatches and grants name.
    pub id: WorkspaceId,
    /// `file:///…`, `s3://bucket[/prefix]` or `nats://<object store bucket>`; never with credentials.
    pub bucket: String,
    /// The most that any dispatch may have here.
    pub mode: Mode,
    /// How the bytes in the bucket are protected.
    pub encryption: Encryption,
    /// What it is for, in one line.
    pub purpose: String,
    /// The branch that counts.
    pub trunk: String,
}

/// Encryption at rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encryption {
    /// Whether there is any.
    pub scheme: Scheme,
    /// The age public keys that can read the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
}

/// How bytes are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// As they are.
    None,
    /// Each object is an age file.
    Age,
}

impl Encryption {
    /// No encryption.
    pub fn none() -> Encryption {
        Encryption { scheme: Scheme::None, recipients: Vec::new() }
    }

    /// Encryption to these age recipients.
    pub fn age(recipients: Vec<String>) -> Encryption {
        Encryption { scheme: Scheme::Age, recipients }
    }
}

/// A workspace was registered, or its document or its people changed. The bucket, the trunk and whether it is encrypted
/// never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceRegistered {
    /// Its document.
    pub workspace: Workspace,
    /// The person whose it is; `*` when it is everybody's of this installation.
    pub owner: String,
    /// Who else may mount it, and how far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<WorkspaceMember>,
    /// Who registered it.
    pub by: String,
}

/// Somebody who may mount a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceMember {
    /// The person; `*` is everybody.
    pub subject: String,
    /// The most that they may have.
    pub mode: Mode,
}

/// A workspace's packs were stored anew for other recipients; what is stored from here on opens with their keys alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceKeyRotated {
    /// Which.
    pub workspace: WorkspaceId,
    /// The recipients from here on.
    pub recipients: Vec<String>,
    /// Who did it.
    pub by: String,
}

/// A person put files into a workspace without a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceImported {
    /// Which.
    pub workspace: WorkspaceId,
    /// The commit before.
    pub base: String,
    /// The commit that holds them.
    pub commit: String,
    /// Who did it.
    pub by: String,
}

/// A run's changes wait for the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceProposalOpened {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// The proposal: the dispatch whose changes they are.
    pub proposal: DispatchId,
    /// The person it is by.
    pub subject: Subject,
    /// The commit they were made on.
    pub base: String,
    /// The commit that holds them.
    pub commit: String,
    /// Why they did not land, when they were meant to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The owner said yes; the changes are being merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceProposalAccepted {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// Which proposal.
    pub proposal: DispatchId,
    /// Who said yes.
    pub by: String,
}

/// The changes of a proposal are in the trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceProposalLanded {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// Which proposal.
    pub proposal: DispatchId,
    /// The trunk's commit that holds them.
    pub commit: String,
    /// Who landed it.
    pub by: String,
}

/// The owner said no. The commit stays where it is until the packs are put together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceProposalRejected {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// Which proposal.
    pub proposal: DispatchId,
    /// Who said no.
    pub by: String,
    /// Why.
    pub why: String,
}

/// Events of kind workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkspaceEvent {
    /// Registered.
    Registered(WorkspaceRegistered),
    /// New recipients.
    KeyRotated(WorkspaceKeyRotated),
    /// Files put in by a person.
    Imported(WorkspaceImported),
    /// Changes wait.
    ProposalOpened(WorkspaceProposalOpened),
    /// The owner said yes.
    ProposalAccepted(WorkspaceProposalAccepted),
    /// They are in the trunk.
    ProposalLanded(WorkspaceProposalLanded),
    /// The owner said no.
    ProposalRejected(WorkspaceProposalRejected),
}

impl WorkspaceEvent {
    /// The workspace that it is about.
    pub fn workspace(&self) -> &WorkspaceId {
        match self {
            WorkspaceEvent::Registered(e) => &e.workspace.id,
            WorkspaceEvent::KeyRotated(e) => &e.workspace,
            WorkspaceEvent::Imported(e) => &e.workspace,
            WorkspaceEvent::ProposalOpened(e) => &e.workspace,
            WorkspaceEvent::ProposalAccepted(e) => &e.workspace,
            WorkspaceEvent::ProposalLanded(e) => &e.workspace,
            WorkspaceEvent::ProposalRejected(e) => &e.workspace,
        }
    }
}

/// A workspace as a run mounts it, fixed at the claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountBase {
    /// Which.
    pub workspace: WorkspaceId,
    /// How.
    pub mode: Mode,
    /// The commit whose files are mounted.
    pub base: String,
}

/// What became of a run's changes in one workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunCommit {
    /// Which.
    pub workspace: WorkspaceId,
    /// How it was mounted.
    pub mode: Mode,
    /// The commit that the changes were made on.
    pub base: String,
    /// The commit that holds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What became of them.
    pub outcome: CommitOutcome,
    /// Why not otherwise, with a stable code first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Digest over the list of everything in the commit's tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
}

/// What became of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitOutcome {
    /// There were none.
    Unchanged,
    /// They are in the trunk, on the commit they were made on.
    Landed,
    /// They are in the trunk, merged with what landed meanwhile.
    Merged,
    /// They wait for the owner.
    Proposed,
    /// They were not kept.
    Refused,
}

impl CommitOutcome {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            CommitOutcome::Unchanged => "unchanged",
            CommitOutcome::Landed => "landed",
            CommitOutcome::Merged => "merged",
            CommitOutcome::Proposed => "proposed",
            CommitOutcome::Refused => "refused",
        }
    }
}
