//! An effect: recorded once.

#[cfg(test)]
mod tests;

use crate::events::OfEffect;
use custody_contracts::events::{EffectEvent, ModelCalled};
use custody_ledger::Decider;

/// What one effect is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EffectState {
    recorded: bool,
}

/// Nothing is refused: an effect that was recorded before stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EffectRefusal {}

/// The rule.
#[derive(Debug)]
pub struct Effect;

impl Decider for Effect {
    type Command = ModelCalled;
    type Event = OfEffect;
    type State = EffectState;
    type Refusal = EffectRefusal;

    fn decide(state: &EffectState, command: ModelCalled) -> Result<Vec<OfEffect>, EffectRefusal> {
        if state.recorded {
            return Ok(Vec::new());
        }
        Ok(vec![OfEffect(EffectEvent::ModelCalled(command))])
    }

    fn evolve(_: EffectState, _: &OfEffect) -> EffectState {
        EffectState { recorded: true }
    }
}
