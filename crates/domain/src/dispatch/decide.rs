//! What may happen to a dispatch, and its state from its events.

use super::{Dispatch, DispatchCommand, DispatchRefusal, DispatchState};
use crate::events::OfDispatch;
use custody_contracts::events::{DispatchEvent, FollowUpAccepted, LaunchRef};
use custody_ledger::Decider;

impl DispatchState {
    /// Where it was asked for first.
    pub fn launch(&self) -> Option<&LaunchRef> {
        let admitted = self.admitted.as_ref().map(|a| &a.launch);
        admitted.or_else(|| self.refused.as_ref().map(|r| &r.launch))
    }

    fn judged(&self, launch: &LaunchRef) -> Option<Result<(), DispatchRefusal>> {
        let first = self.launch()?;
        Some(if first.digest == launch.digest {
            Ok(())
        } else {
            Err(DispatchRefusal::IdReused { first: first.stream_seq })
        })
    }
}

impl Decider for Dispatch {
    type Command = DispatchCommand;
    type Event = OfDispatch;
    type State = DispatchState;
    type Refusal = DispatchRefusal;

    fn decide(state: &DispatchState, command: DispatchCommand) -> Result<Vec<OfDispatch>, DispatchRefusal> {
        let event = match command {
            DispatchCommand::Admit(admitted) => match state.judged(&admitted.launch) {
                Some(before) => return before.map(|()| Vec::new()),
                None => DispatchEvent::Admitted(admitted),
            },
            DispatchCommand::Refuse(refused) => match state.judged(&refused.launch) {
                Some(before) => return before.map(|()| Vec::new()),
                None => DispatchEvent::Refused(refused),
            },
            DispatchCommand::RequestStop(stop) => {
                if state.admitted.is_none() {
                    return Err(DispatchRefusal::NotAdmitted(stop.dispatch.to_string()));
                }
                if state.stop_grace_ms.is_some_and(|before| before <= stop.grace_ms) {
                    return Ok(Vec::new());
                }
                DispatchEvent::StopRequested(stop)
            }
            DispatchCommand::FollowUp(follow_up) => {
                let dispatch = follow_up.dispatch.to_string();
                let Some(admitted) = &state.admitted else { return Err(DispatchRefusal::NotAdmitted(dispatch)) };
                let turns = admitted.unit.limits.as_ref().and_then(|l| l.turns).unwrap_or(1);
                if turns <= 1 {
                    return Err(DispatchRefusal::OneTurn(dispatch));
                }
                if u64::from(state.follow_ups) + 1 >= turns {
                    return Err(DispatchRefusal::NoTurnLeft { dispatch, turns });
                }
                DispatchEvent::FollowUpAccepted(FollowUpAccepted { n: state.follow_ups + 1, ..follow_up })
            }
            DispatchCommand::RefuseFollowUp(_) if state.follow_up_refused => return Ok(Vec::new()),
            DispatchCommand::RefuseFollowUp(refused) => DispatchEvent::FollowUpRefused(refused),
        };
        Ok(vec![OfDispatch(event)])
    }

    fn evolve(mut state: DispatchState, event: &OfDispatch) -> DispatchState {
        match &event.0 {
            DispatchEvent::Admitted(e) => state.admitted = Some(e.clone()),
            DispatchEvent::Refused(e) => state.refused = Some(e.clone()),
            DispatchEvent::StopRequested(e) => {
                let before = state.stop_grace_ms.unwrap_or(u64::MAX);
                state.stop_grace_ms = Some(before.min(e.grace_ms));
            }
            DispatchEvent::FollowUpAccepted(e) => state.follow_ups = state.follow_ups.max(e.n),
            DispatchEvent::FollowUpRefused(_) => state.follow_up_refused = true,
        }
        state
    }
}
