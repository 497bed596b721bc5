//! A workspace's state from its events.

use super::{Proposal, ProposalState, WorkspaceState};
use custody_contracts::workspace::WorkspaceEvent;

impl WorkspaceState {
    /// The state after one more event.
    pub fn after(mut self, event: &WorkspaceEvent) -> Self {
        match event {
            WorkspaceEvent::Registered(e) => self.registered = Some(e.clone()),
            WorkspaceEvent::KeyRotated(e) => {
                if let Some(is) = &mut self.registered {
                    is.workspace.encryption.recipients.clone_from(&e.recipients);
                }
            }
            WorkspaceEvent::Imported(_) => {}
            WorkspaceEvent::ProposalOpened(e) => {
                let proposal = Proposal { opened: e.clone(), state: ProposalState::Open };
                self.proposals.entry(e.proposal.to_string()).or_insert(proposal);
            }
            WorkspaceEvent::ProposalAccepted(e) => self.proposal(e.proposal.as_str(), ProposalState::Accepted),
            WorkspaceEvent::ProposalLanded(e) => {
                self.proposal(e.proposal.as_str(), ProposalState::Landed(e.commit.clone()));
            }
            WorkspaceEvent::ProposalRejected(e) => self.proposal(e.proposal.as_str(), ProposalState::Rejected),
        }
        self
    }

    fn proposal(&mut self, id: &str, state: ProposalState) {
        if let Some(proposal) = self.proposals.get_mut(id) {
            proposal.state = state;
        }
    }
}
