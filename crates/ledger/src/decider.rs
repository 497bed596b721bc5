//! The two shapes of pure code over events: one that decides, one that folds. Neither may act.

use crate::recorded::Recorded;

/// A rule over one entity.
pub trait Decider {
    /// Imperative; may be refused.
    type Command;
    /// Past tense; a fact.
    type Event: Clone;
    /// What one command must see whole.
    type State: Default;
    /// Why a rule said no; data, not an error.
    type Refusal;

    /// Turns state and command into events.
    ///
    /// # Errors
    /// The refusal, when a rule says no.
    fn decide(state: &Self::State, command: Self::Command) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// Total: never fails, never acts.
    fn evolve(state: Self::State, event: &Self::Event) -> Self::State;
}

/// A fold over the whole ledger: pure and replayable, returning findings instead of stopping.
pub trait Projection {
    /// Its name, as `custody projection ls` shows it.
    const NAME: &'static str;
    /// Raised whenever the fold or the state's form changes: an older snapshot is then thrown away.
    const VERSION: u32;
    /// The state.
    type State: Default;

    /// Applies one recorded event. Must be total.
    fn apply(state: &mut Self::State, event: &Recorded);
}
