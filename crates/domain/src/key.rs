//! A signing key: introduced once, retired once.

#[cfg(test)]
mod tests;

use crate::events::OfKey;
use custody_contracts::events::{KeyEvent, KeyIntroduced, KeyRetired};
use custody_ledger::Decider;

/// What one key is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyState {
    introduced: Option<KeyIntroduced>,
    retired: bool,
}

/// What can be commanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyCommand {
    /// Introduce it.
    Introduce(KeyIntroduced),
    /// Retire it.
    Retire(KeyRetired),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// It was retired; a retired key never comes back.
    #[error("key {0} was retired")]
    Retired(String),
    /// Nobody introduced it.
    #[error("key {0} was never introduced")]
    Unknown(String),
}

/// The rule.
#[derive(Debug)]
pub struct Key;

impl Decider for Key {
    type Command = KeyCommand;
    type Event = OfKey;
    type State = KeyState;
    type Refusal = KeyRefusal;

    fn decide(state: &KeyState, command: KeyCommand) -> Result<Vec<OfKey>, KeyRefusal> {
        match command {
            KeyCommand::Introduce(key) if state.retired => Err(KeyRefusal::Retired(key.kid)),
            KeyCommand::Introduce(_) if state.introduced.is_some() => Ok(Vec::new()),
            KeyCommand::Introduce(key) => Ok(vec![OfKey(KeyEvent::Introduced(key))]),
            KeyCommand::Retire(key) if state.introduced.is_none() => Err(KeyRefusal::Unknown(key.kid)),
            KeyCommand::Retire(_) if state.retired => Ok(Vec::new()),
            KeyCommand::Retire(key) => Ok(vec![OfKey(KeyEvent::Retired(key))]),
        }
    }

    fn evolve(mut state: KeyState, event: &OfKey) -> KeyState {
        match &event.0 {
            KeyEvent::Introduced(e) => state.introduced = Some(e.clone()),
            KeyEvent::Retired(_) => state.retired = true,
        }
        state
    }
}
