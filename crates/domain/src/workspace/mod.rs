//! A workspace: registered with an owner, its keys rotated, its proposals opened, accepted, landed or rejected.
//!
//! Beside the decider: [`may_mount`] is admission's question, [`landing`] what becomes of a run's changes, [`system`] the
//! private workspace of each person, [`account`] whether a trunk is what the ledger says.

mod accounted;
mod decide;
mod evolve;
pub mod landing;
mod mount;
pub mod system;
#[cfg(test)]
mod tests;

pub use accounted::{Accounted, OfTrunk, account};
pub use mount::{MountRefusal, may_mount, most};

use custody_contracts::ids::DispatchId;
use custody_contracts::unit::Mode;
use custody_contracts::workspace::{
    WorkspaceImported, WorkspaceKeyRotated, WorkspaceProposalAccepted, WorkspaceProposalLanded,
    WorkspaceProposalOpened, WorkspaceProposalRejected, WorkspaceRegistered,
};
use std::collections::BTreeMap;

/// The most proposals of one workspace that may wait at once.
pub const OPEN_PROPOSALS_MAX: usize = 256;

/// What one workspace is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkspaceState {
    registered: Option<WorkspaceRegistered>,
    proposals: BTreeMap<String, Proposal>,
}

/// One proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// How it was opened.
    pub opened: WorkspaceProposalOpened,
    /// Where it stands.
    pub state: ProposalState,
}

/// Where a proposal stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProposalState {
    /// It waits.
    Open,
    /// The owner said yes, and it is being merged.
    Accepted,
    /// It is in the trunk, as this commit.
    Landed(String),
    /// The owner said no.
    Rejected,
}

impl WorkspaceState {
    /// Its registration with the recipients of today; `None` if it never was.
    pub fn registered(&self) -> Option<&WorkspaceRegistered> {
        self.registered.as_ref()
    }

    /// Its proposals, by id.
    pub fn proposals(&self) -> &BTreeMap<String, Proposal> {
        &self.proposals
    }

    /// How many proposals wait.
    pub fn waiting(&self) -> usize {
        let waits = |p: &&Proposal| matches!(p.state, ProposalState::Open | ProposalState::Accepted);
        self.proposals.values().filter(waits).count()
    }
}

/// What can be commanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkspaceCommand {
    /// Register, or register again with other people, another purpose or another mode.
    Register(WorkspaceRegistered),
    /// New recipients.
    RotateKey(WorkspaceKeyRotated),
    /// Files were put in.
    Import(WorkspaceImported),
    /// A run's changes wait.
    OpenProposal(WorkspaceProposalOpened),
    /// The owner says yes.
    AcceptProposal(WorkspaceProposalAccepted),
    /// It was merged.
    LandProposal(WorkspaceProposalLanded),
    /// The owner says no.
    RejectProposal(WorkspaceProposalRejected),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkspaceRefusal {
    /// There is none of this name.
    #[error("workspace {0} is not registered")]
    Unknown(String),
    /// Its name belongs to the installation.
    #[error("{0} is the name of a system workspace; choose one that does not begin with sys-")]
    Reserved(String),
    /// Not a workspace.v1, or not a person.
    #[error("{0}")]
    Invalid(String),
    /// Something that never changes was to change.
    #[error("the {what} of workspace {id} cannot change; register another workspace and import into it")]
    Fixed {
        /// Which workspace.
        id: String,
        /// What.
        what: &'static str,
    },
    /// Somebody else's.
    #[error("workspace {id} is {owner}'s; {by} may not do this")]
    NotOwner {
        /// Which.
        id: String,
        /// Whose.
        owner: String,
        /// Who asked.
        by: String,
    },
    /// It is not encrypted, so there is no key.
    #[error("workspace {0} is not encrypted; keys are chosen when it is registered")]
    NotEncrypted(String),
    /// There is no such proposal.
    #[error("there is no proposal {0}")]
    NoProposal(DispatchId),
    /// It was decided before, otherwise.
    #[error("proposal {0} was {1} before")]
    Decided(DispatchId, &'static str),
    /// It was not accepted.
    #[error("proposal {0} was not accepted by the owner")]
    NotAccepted(DispatchId),
    /// Too many wait.
    #[error("{OPEN_PROPOSALS_MAX} proposals wait in workspace {0}; land or reject some")]
    TooMany(String),
}

/// How far a mode goes: read, propose, write.
pub fn rank(mode: Mode) -> u8 {
    match mode {
        Mode::Ro => 0,
        Mode::Propose => 1,
        Mode::Rw => 2,
    }
}

/// The rule.
#[derive(Debug)]
pub struct Workspaces;
