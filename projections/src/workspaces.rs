//! Every workspace: its document and its people, where its trunk was moved last, and what waits for its owner. A system
//! workspace has a row once a run has left a session file in it.

use crate::table::{Table, folded_table};
use custody_contracts::events::{LedgerEvent, RunEvent};
use custody_contracts::workspace::{CommitOutcome, Workspace, WorkspaceEvent, WorkspaceMember};
use custody_ledger::{Projection, Recorded};
use serde::{Deserialize, Serialize};

/// How many proposals a row keeps; the oldest that are decided go first.
pub const PROPOSALS_KEPT_MAX: usize = 500;

/// One proposal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProposalRow {
    /// The dispatch whose changes they are.
    pub proposal: String,
    /// The person they are by.
    pub subject: String,
    /// `open`, `accepted`, `landed` or `rejected`.
    pub state: String,
    /// The commit they were made on.
    pub base: String,
    /// The commit that holds them.
    pub commit: String,
    /// Why they did not land, when they were meant to.
    pub reason: Option<String>,
    /// The trunk's commit that they became.
    pub landed: Option<String>,
    /// When it was opened, RFC 3339.
    pub opened_at: String,
}

/// One workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkspaceRow {
    /// Its id.
    pub workspace: String,
    /// Its document, with the recipients of today; none for a system workspace.
    pub document: Option<Workspace>,
    /// Whose it is.
    pub owner: String,
    /// Who else may mount it.
    pub members: Vec<WorkspaceMember>,
    /// The trunk's commit that was recorded last.
    pub commit: Option<String>,
    /// Commits that landed.
    pub landed: u64,
    /// Proposals that wait.
    pub waiting: u64,
    /// Proposals, oldest first.
    pub proposals: Vec<ProposalRow>,
    /// When it was registered, RFC 3339.
    pub registered_at: String,
    /// Sequence of its last event.
    pub last_seq: u64,
}

impl WorkspaceRow {
    fn proposal(&mut self, id: &str, change: impl FnOnce(&mut ProposalRow)) {
        if let Some(row) = self.proposals.iter_mut().find(|p| p.proposal == id) {
            change(row);
        }
        self.count();
    }

    fn count(&mut self) {
        let waits = |p: &&ProposalRow| matches!(p.state.as_str(), "open" | "accepted");
        self.waiting = self.proposals.iter().filter(waits).count() as u64;
        if self.proposals.len() > PROPOSALS_KEPT_MAX
            && let Some(decided) = self.proposals.iter().position(|p| !waits(&p))
        {
            self.proposals.remove(decided);
        }
    }
}

/// The projection.
#[derive(Debug)]
pub struct Workspaces;

impl Projection for Workspaces {
    const NAME: &'static str = "workspaces";
    const VERSION: u32 = 1;
    type State = Table<WorkspaceRow>;

    fn apply(state: &mut Self::State, recorded: &Recorded) {
        match &recorded.event {
            Some(LedgerEvent::Workspace(event)) => on_workspace(state, recorded, event),
            Some(LedgerEvent::Run(RunEvent::Finished(e))) => {
                let subject = recorded.envelope.subject.as_deref().unwrap_or_default();
                let moved = |o: CommitOutcome| matches!(o, CommitOutcome::Landed | CommitOutcome::Merged);
                for commit in e.commits.iter().filter(|c| moved(c.outcome)) {
                    let row = state.edit(commit.workspace.as_str());
                    if row.workspace.is_empty() {
                        // Nobody registers a system workspace.
                        row.workspace = commit.workspace.to_string();
                        row.owner = subject.to_owned();
                        row.registered_at.clone_from(&recorded.envelope.time);
                    }
                    row.commit.clone_from(&commit.commit);
                    row.landed += 1;
                    row.last_seq = recorded.seq.0;
                }
            }
            Some(
                LedgerEvent::Run(RunEvent::Claimed(_) | RunEvent::Started(_))
                | LedgerEvent::Dispatch(_)
                | LedgerEvent::Effect(_)
                | LedgerEvent::Launcher(_)
                | LedgerEvent::Key(_)
                | LedgerEvent::Checkpoint(_)
                | LedgerEvent::Grant(_)
                | LedgerEvent::Approval(_)
                | LedgerEvent::Token(_),
            )
            | None => {}
        }
    }
}

fn on_workspace(state: &mut Table<WorkspaceRow>, recorded: &Recorded, event: &WorkspaceEvent) {
    let row = state.edit(event.workspace().as_str());
    row.last_seq = recorded.seq.0;
    match event {
        WorkspaceEvent::Registered(e) => {
            if row.registered_at.is_empty() {
                row.registered_at.clone_from(&recorded.envelope.time);
            }
            row.workspace = e.workspace.id.to_string();
            row.document = Some(e.workspace.clone());
            row.owner.clone_from(&e.owner);
            row.members.clone_from(&e.members);
        }
        WorkspaceEvent::KeyRotated(e) => {
            if let Some(document) = &mut row.document {
                document.encryption.recipients.clone_from(&e.recipients);
            }
        }
        WorkspaceEvent::Imported(e) => {
            row.commit = Some(e.commit.clone());
            row.landed += 1;
        }
        WorkspaceEvent::ProposalOpened(e) => {
            if !row.proposals.iter().any(|p| p.proposal == e.proposal.as_str()) {
                row.proposals.push(ProposalRow {
                    proposal: e.proposal.to_string(),
                    subject: e.subject.to_string(),
                    state: "open".into(),
                    base: e.base.clone(),
                    commit: e.commit.clone(),
                    reason: e.reason.clone(),
                    landed: None,
                    opened_at: recorded.envelope.time.clone(),
                });
            }
            row.count();
        }
        WorkspaceEvent::ProposalAccepted(e) => row.proposal(e.proposal.as_str(), |p| p.state = "accepted".into()),
        WorkspaceEvent::ProposalLanded(e) => {
            row.proposal(e.proposal.as_str(), |p| {
                p.state = "landed".into();
                p.landed = Some(e.commit.clone());
            });
            row.commit = Some(e.commit.clone());
            row.landed += 1;
        }
        WorkspaceEvent::ProposalRejected(e) => row.proposal(e.proposal.as_str(), |p| p.state = "rejected".into()),
    }
}

folded_table!(Workspaces);
