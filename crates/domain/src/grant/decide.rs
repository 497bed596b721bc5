//! What may happen to a grant.

use super::{GrantCommand, GrantNo, GrantState, Grants};
use crate::events::OfGrant;
use custody_contracts::grant::GrantEvent;
use custody_ledger::Decider;

impl Decider for Grants {
    type Command = GrantCommand;
    type Event = OfGrant;
    type State = GrantState;
    type Refusal = GrantNo;

    fn decide(state: &GrantState, command: GrantCommand) -> Result<Vec<OfGrant>, GrantNo> {
        let event = match command {
            GrantCommand::Request(wanted) => {
                let id = wanted.wanted.id.to_string();
                if let Some(issued) = &state.issued {
                    return if issued.grant.terms() == wanted.wanted {
                        Ok(Vec::new())
                    } else {
                        Err(GrantNo::Exists(id))
                    };
                }
                match &state.requested {
                    Some(asked) if asked.wanted == wanted.wanted => return Ok(Vec::new()),
                    Some(_) => return Err(GrantNo::Differs(id)),
                    None => GrantEvent::Requested(wanted),
                }
            }
            GrantCommand::Issue(wanted) => {
                let terms = wanted.grant.terms();
                let id = terms.id.to_string();
                if let Some(issued) = &state.issued {
                    // Given once: a second consent to the same terms adds nothing.
                    return if issued.grant.terms() == terms { Ok(Vec::new()) } else { Err(GrantNo::Exists(id)) };
                }
                if state.requested.as_ref().is_some_and(|asked| asked.wanted != terms) {
                    return Err(GrantNo::Differs(id));
                }
                GrantEvent::Issued(wanted)
            }
            GrantCommand::Refuse(refused) => GrantEvent::Refused(refused),
            GrantCommand::Revoke(wanted) => {
                if state.issued.is_none() {
                    return Err(GrantNo::Unknown(wanted.grant.to_string()));
                }
                if state.revoked.is_some() {
                    return Ok(Vec::new());
                }
                GrantEvent::Revoked(wanted)
            }
        };
        Ok(vec![OfGrant(event)])
    }

    fn evolve(state: GrantState, event: &OfGrant) -> GrantState {
        state.after(&event.0)
    }
}
