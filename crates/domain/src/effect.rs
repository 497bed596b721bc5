//! An effect: a model call is recorded once; a tool call is intended, then has one outcome, or is refused, or waits for a
//! person and is then one of both; a dispatch's budgets warn once and run out once. Nothing here acts.

#[cfg(test)]
mod tests;

use crate::budget::{Standing, standing};
use crate::events::OfEffect;
use crate::tool::{ToolPermit, WaitPermit};
use custody_contracts::events::{
    Budget, BudgetMeasure, BudgetScope, EffectEvent, ModelCalled, ToolFinished, ToolRefused,
};
use custody_ledger::Decider;
use std::collections::BTreeSet;

/// What one effect is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EffectState {
    /// A model call, a refusal or an intent stands there.
    recorded: bool,
    /// A tool call was intended and has no outcome.
    open: bool,
    /// A tool call waits for a person.
    waits: bool,
    warned: BTreeSet<(BudgetScope, BudgetMeasure)>,
    exhausted: BTreeSet<(BudgetScope, BudgetMeasure)>,
}

impl EffectState {
    /// Whether something stands there already.
    pub fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// Whether a tool call waits for a person.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Whether a tool call was intended and nobody knows how it ended.
    pub fn is_open(&self) -> bool {
        self.open
    }
}

/// What may be asked of an effect.
#[derive(Debug, Clone)]
pub enum EffectCommand {
    /// Record a model call.
    Call(Box<ModelCalled>),
    /// Record that a tool is about to be called.
    Intend(ToolPermit),
    /// Record that a tool call waits for a person.
    Await(Box<WaitPermit>),
    /// Record how that ended.
    Finish(ToolFinished),
    /// Record that a tool call was refused, or close one that waited.
    Refuse(ToolRefused),
    /// Record that a tool call was refused that has no number yet: it never closes what waits under one.
    TurnAway(ToolRefused),
    /// Record that a budget is nearly used up.
    Warn(Budget),
    /// Record that a budget is used up.
    Exhaust(Budget),
}

/// Why an effect cannot be recorded. What was recorded before stays as it is, and that is no refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EffectRefusal {
    /// An approved call without one that waits.
    #[error("no tool call waits that could be approved so")]
    NotAwaiting,
    /// An outcome without an intent.
    #[error("no tool call was intended that could end so")]
    NotIntended,
    /// More is left of the budget than such an event says.
    #[error("more is left of the budget than that")]
    BudgetLeft,
    /// The number is taken by another call.
    #[error("another call stands under this number")]
    NumberTaken,
}

/// The rule.
#[derive(Debug)]
pub struct Effect;

impl Decider for Effect {
    type Command = EffectCommand;
    type Event = OfEffect;
    type State = EffectState;
    type Refusal = EffectRefusal;

    fn decide(state: &EffectState, command: EffectCommand) -> Result<Vec<OfEffect>, EffectRefusal> {
        let one = |event| Ok(vec![OfEffect(event)]);
        match command {
            // What waits is refused when nobody approves it, or when it may not be made any more.
            EffectCommand::Refuse(refused) if state.waits => one(EffectEvent::ToolRefused(refused)),
            EffectCommand::Call(_) | EffectCommand::Refuse(_) if state.recorded => Ok(Vec::new()),
            EffectCommand::Call(call) => one(EffectEvent::ModelCalled(*call)),
            EffectCommand::Refuse(refused) => one(EffectEvent::ToolRefused(refused)),
            // What was approved follows what waits, and nothing else does.
            EffectCommand::Intend(permit) if permit.is_approved() != state.waits => Err(match state.recorded {
                true => EffectRefusal::NumberTaken,
                false => EffectRefusal::NotAwaiting,
            }),
            EffectCommand::Intend(permit) if state.waits => one(EffectEvent::ToolIntended(permit.into_event())),
            // An intent is never written twice: whoever finds its number taken takes the next one.
            EffectCommand::Intend(_) | EffectCommand::Await(_) | EffectCommand::TurnAway(_) if state.recorded => {
                Err(EffectRefusal::NumberTaken)
            }
            EffectCommand::TurnAway(refused) => one(EffectEvent::ToolRefused(refused)),
            EffectCommand::Await(permit) => one(EffectEvent::ToolAwaiting(Box::new(permit.into_event()))),
            EffectCommand::Intend(permit) => one(EffectEvent::ToolIntended(permit.into_event())),
            EffectCommand::Finish(finished) if state.open => one(EffectEvent::ToolFinished(finished)),
            EffectCommand::Finish(_) if state.recorded => Ok(Vec::new()),
            EffectCommand::Finish(_) => Err(EffectRefusal::NotIntended),
            EffectCommand::Warn(budget) if standing(budget.used, budget.limit) < Standing::Low => {
                Err(EffectRefusal::BudgetLeft)
            }
            EffectCommand::Exhaust(budget) if standing(budget.used, budget.limit) < Standing::Empty => {
                Err(EffectRefusal::BudgetLeft)
            }
            EffectCommand::Warn(budget) => {
                let key = (budget.scope, budget.measure);
                if state.warned.contains(&key) || state.exhausted.contains(&key) {
                    return Ok(Vec::new());
                }
                one(EffectEvent::BudgetWarned(budget))
            }
            EffectCommand::Exhaust(budget) if state.exhausted.contains(&(budget.scope, budget.measure)) => {
                Ok(Vec::new())
            }
            EffectCommand::Exhaust(budget) => one(EffectEvent::BudgetExhausted(budget)),
        }
    }

    fn evolve(mut state: EffectState, event: &OfEffect) -> EffectState {
        match &event.0 {
            EffectEvent::ModelCalled(_) => state.recorded = true,
            EffectEvent::ToolRefused(_) => {
                state.recorded = true;
                state.waits = false;
            }
            EffectEvent::ToolAwaiting(_) => {
                state.recorded = true;
                state.waits = true;
            }
            EffectEvent::ToolIntended(_) => {
                state.recorded = true;
                state.waits = false;
                state.open = true;
            }
            EffectEvent::ToolFinished(_) => state.open = false,
            EffectEvent::BudgetWarned(b) => {
                state.warned.insert((b.scope, b.measure));
            }
            EffectEvent::BudgetExhausted(b) => {
                state.exhausted.insert((b.scope, b.measure));
            }
        }
        state
    }
}
