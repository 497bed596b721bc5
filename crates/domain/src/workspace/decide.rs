//! What may happen to a workspace.

use super::system::is_system;
use super::{
    OPEN_PROPOSALS_MAX, Proposal, ProposalState, WorkspaceCommand, WorkspaceRefusal, WorkspaceState, Workspaces,
};
use crate::events::OfWorkspace;
use custody_contracts::catalogue;
use custody_contracts::ids::{DispatchId, Subject};
use custody_contracts::workspace::{Scheme, WorkspaceEvent, WorkspaceRegistered};
use custody_ledger::Decider;
use std::collections::BTreeSet;

impl Decider for Workspaces {
    type Command = WorkspaceCommand;
    type Event = OfWorkspace;
    type State = WorkspaceState;
    type Refusal = WorkspaceRefusal;

    fn decide(state: &WorkspaceState, command: WorkspaceCommand) -> Result<Vec<OfWorkspace>, WorkspaceRefusal> {
        let event = match command {
            WorkspaceCommand::Register(wanted) => match register(state, wanted)? {
                Some(event) => event,
                None => return Ok(Vec::new()),
            },
            WorkspaceCommand::RotateKey(wanted) => {
                let is = known(state, wanted.workspace.as_str())?;
                owns(is, &wanted.by)?;
                if is.workspace.encryption.scheme != Scheme::Age {
                    return Err(WorkspaceRefusal::NotEncrypted(wanted.workspace.to_string()));
                }
                let mut document = is.workspace.clone();
                document.encryption.recipients.clone_from(&wanted.recipients);
                check_document(&document)?;
                if document == is.workspace {
                    return Ok(Vec::new());
                }
                WorkspaceEvent::KeyRotated(wanted)
            }
            WorkspaceCommand::Import(wanted) => {
                owns(known(state, wanted.workspace.as_str())?, &wanted.by)?;
                WorkspaceEvent::Imported(wanted)
            }
            WorkspaceCommand::OpenProposal(wanted) => {
                known(state, wanted.workspace.as_str())?;
                if state.proposals.contains_key(wanted.proposal.as_str()) {
                    return Ok(Vec::new());
                }
                if state.waiting() >= OPEN_PROPOSALS_MAX {
                    return Err(WorkspaceRefusal::TooMany(wanted.workspace.to_string()));
                }
                WorkspaceEvent::ProposalOpened(wanted)
            }
            WorkspaceCommand::AcceptProposal(wanted) => {
                owns(known(state, wanted.workspace.as_str())?, &wanted.by)?;
                match proposal(state, &wanted.proposal)?.state {
                    ProposalState::Open => WorkspaceEvent::ProposalAccepted(wanted),
                    ProposalState::Accepted | ProposalState::Landed(_) => return Ok(Vec::new()),
                    ProposalState::Rejected => return Err(WorkspaceRefusal::Decided(wanted.proposal, "rejected")),
                }
            }
            WorkspaceCommand::LandProposal(wanted) => {
                known(state, wanted.workspace.as_str())?;
                match proposal(state, &wanted.proposal)?.state {
                    ProposalState::Accepted => WorkspaceEvent::ProposalLanded(wanted),
                    ProposalState::Landed(_) => return Ok(Vec::new()),
                    ProposalState::Open => return Err(WorkspaceRefusal::NotAccepted(wanted.proposal)),
                    ProposalState::Rejected => return Err(WorkspaceRefusal::Decided(wanted.proposal, "rejected")),
                }
            }
            WorkspaceCommand::RejectProposal(wanted) => {
                owns(known(state, wanted.workspace.as_str())?, &wanted.by)?;
                match proposal(state, &wanted.proposal)?.state {
                    // Also after a yes: a merge that found a conflict leaves it accepted, and it must be possible to let go.
                    ProposalState::Open | ProposalState::Accepted => WorkspaceEvent::ProposalRejected(wanted),
                    ProposalState::Rejected => return Ok(Vec::new()),
                    ProposalState::Landed(_) => return Err(WorkspaceRefusal::Decided(wanted.proposal, "landed")),
                }
            }
        };
        Ok(vec![OfWorkspace(event)])
    }

    fn evolve(state: WorkspaceState, event: &OfWorkspace) -> WorkspaceState {
        state.after(&event.0)
    }
}

fn known<'a>(state: &'a WorkspaceState, id: &str) -> Result<&'a WorkspaceRegistered, WorkspaceRefusal> {
    state.registered.as_ref().ok_or_else(|| WorkspaceRefusal::Unknown(id.chars().take(80).collect()))
}

fn proposal<'a>(state: &'a WorkspaceState, id: &DispatchId) -> Result<&'a Proposal, WorkspaceRefusal> {
    state.proposals.get(id.as_str()).ok_or_else(|| WorkspaceRefusal::NoProposal(id.clone()))
}

fn owns(is: &WorkspaceRegistered, by: &str) -> Result<(), WorkspaceRefusal> {
    if is.owner == "*" || is.owner == by {
        return Ok(());
    }
    Err(WorkspaceRefusal::NotOwner {
        id: is.workspace.id.to_string(),
        owner: is.owner.clone(),
        by: by.chars().take(128).collect(),
    })
}

fn register(state: &WorkspaceState, wanted: WorkspaceRegistered) -> Result<Option<WorkspaceEvent>, WorkspaceRefusal> {
    let id = wanted.workspace.id.as_str();
    if is_system(id) {
        return Err(WorkspaceRefusal::Reserved(id.to_owned()));
    }
    check_document(&wanted.workspace)?;
    check_people(&wanted)?;
    if let Some(is) = &state.registered {
        if *is == wanted {
            return Ok(None);
        }
        owns(is, &wanted.by)?;
        let (old, new) = (&is.workspace, &wanted.workspace);
        let fixed = [
            ("bucket", old.bucket != new.bucket),
            ("trunk", old.trunk != new.trunk),
            ("encryption", old.encryption != new.encryption),
        ];
        if let Some((what, _)) = fixed.into_iter().find(|(_, changed)| *changed) {
            return Err(WorkspaceRefusal::Fixed { id: id.to_owned(), what });
        }
    }
    Ok(Some(WorkspaceEvent::Registered(wanted)))
}

fn check_document(document: &custody_contracts::workspace::Workspace) -> Result<(), WorkspaceRefusal> {
    let value = serde_json::to_value(document).map_err(|e| WorkspaceRefusal::Invalid(e.to_string()))?;
    catalogue::check("workspace.v1", "Workspace", &value).map_err(|e| WorkspaceRefusal::Invalid(e.to_string()))
}

fn check_people(wanted: &WorkspaceRegistered) -> Result<(), WorkspaceRefusal> {
    let people = std::iter::once(&wanted.owner).chain(wanted.members.iter().map(|m| &m.subject));
    let mut seen = BTreeSet::new();
    for person in people {
        if person != "*" {
            Subject::parse(person).map_err(|e| WorkspaceRefusal::Invalid(e.to_string()))?;
        }
        if !seen.insert(person) {
            return Err(WorkspaceRefusal::Invalid(format!("{person} is named twice")));
        }
    }
    Ok(())
}
