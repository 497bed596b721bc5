//! The chain of checkpoints: each covers more of the log than the one before.

#[cfg(test)]
mod tests;

use crate::events::OfCheckpoint;
use custody_contracts::events::{CheckpointEvent, CheckpointSigned};
use custody_ledger::Decider;

/// What the chain is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointState {
    size: u64,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a checkpoint over {asked} messages does not grow the one over {is}")]
pub struct DoesNotGrow {
    /// What was offered.
    pub asked: u64,
    /// What there is.
    pub is: u64,
}

/// The rule.
#[derive(Debug)]
pub struct CheckpointChain;

impl Decider for CheckpointChain {
    type Command = CheckpointSigned;
    type Event = OfCheckpoint;
    type State = CheckpointState;
    type Refusal = DoesNotGrow;

    fn decide(state: &CheckpointState, command: CheckpointSigned) -> Result<Vec<OfCheckpoint>, DoesNotGrow> {
        if command.size <= state.size {
            return Err(DoesNotGrow { asked: command.size, is: state.size });
        }
        Ok(vec![OfCheckpoint(CheckpointEvent::Signed(command))])
    }

    fn evolve(_: CheckpointState, event: &OfCheckpoint) -> CheckpointState {
        let CheckpointEvent::Signed(signed) = &event.0;
        CheckpointState { size: signed.size }
    }
}
