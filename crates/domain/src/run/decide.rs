//! What may happen to a run, and its state from its events.

use super::{Run, RunCommand, RunRefusal, RunState};
use crate::events::OfRun;
use custody_contracts::events::RunEvent;
use custody_ledger::Decider;

impl RunState {
    /// The attempt it is in; 0 when unclaimed.
    pub fn attempt(&self) -> u32 {
        match self {
            RunState::Unclaimed => 0,
            RunState::Claimed(c) | RunState::Started(c, _) => c.attempt,
            RunState::Finished(f) => f.attempt,
        }
    }
}

impl Decider for Run {
    type Command = RunCommand;
    type Event = OfRun;
    type State = RunState;
    type Refusal = RunRefusal;

    fn decide(state: &RunState, command: RunCommand) -> Result<Vec<OfRun>, RunRefusal> {
        let same = |asked: u32| {
            let current = state.attempt();
            if asked == current { Ok(()) } else { Err(RunRefusal::WrongAttempt { asked, current }) }
        };
        let event = match command {
            RunCommand::Claim(claim) => match state {
                RunState::Unclaimed => RunEvent::Claimed(claim),
                RunState::Claimed(is) | RunState::Started(is, _) if is.runtime == claim.runtime => {
                    return Ok(Vec::new());
                }
                RunState::Claimed(is) | RunState::Started(is, _) => {
                    return Err(RunRefusal::ClaimedByOther(is.runtime.clone()));
                }
                RunState::Finished(_) => return Err(RunRefusal::AlreadyFinished),
            },
            RunCommand::Start(start) => match state {
                RunState::Unclaimed => return Err(RunRefusal::NotClaimed),
                RunState::Claimed(_) => {
                    same(start.attempt)?;
                    RunEvent::Started(start)
                }
                RunState::Started(..) => return Ok(Vec::new()),
                RunState::Finished(_) => return Err(RunRefusal::AlreadyFinished),
            },
            RunCommand::Finish(finish) => match state {
                RunState::Unclaimed => return Err(RunRefusal::NotClaimed),
                RunState::Claimed(_) | RunState::Started(..) => {
                    same(finish.attempt)?;
                    RunEvent::Finished(finish)
                }
                RunState::Finished(_) => return Err(RunRefusal::AlreadyFinished),
            },
        };
        Ok(vec![OfRun(event)])
    }

    fn evolve(state: RunState, event: &OfRun) -> RunState {
        match (&event.0, state) {
            (_, RunState::Finished(f)) => RunState::Finished(f),
            (RunEvent::Claimed(c), RunState::Unclaimed) => RunState::Claimed(c.clone()),
            (RunEvent::Claimed(_), same) => same,
            (RunEvent::Started(s), RunState::Claimed(c)) => RunState::Started(c, s.clone()),
            (RunEvent::Started(_), same) => same,
            (RunEvent::Finished(f), _) => RunState::Finished(f.clone()),
        }
    }
}
