//! A signing key: introduced once, retired once. A key for tokens is one of its own: it goes from next to active to
//! retiring to retired, skips what it must, and never comes back.

#[cfg(test)]
mod tests;

use crate::events::OfKey;
use custody_contracts::events::{KeyEvent, KeyIntroduced, KeyRetired};
use custody_contracts::token::{TokenKeyChanged, TokenKeyState};
use custody_ledger::Decider;

/// What one key is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyState {
    introduced: Option<KeyIntroduced>,
    retired: bool,
    /// What it last was, when it is a key for tokens.
    token: Option<TokenKeyChanged>,
}

impl KeyState {
    /// What it last was, when it is a key for tokens.
    pub fn token(&self) -> Option<&TokenKeyChanged> {
        self.token.as_ref()
    }
}

/// What can be commanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyCommand {
    /// Introduce it.
    Introduce(KeyIntroduced),
    /// Retire it.
    Retire(KeyRetired),
    /// Bring a key for tokens into a state.
    Turn(TokenKeyChanged),
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
    /// A key for tokens goes forward only, and begins as next.
    #[error("key {kid} is {is} and cannot become {wanted}")]
    State {
        /// The key.
        kid: String,
        /// What it is: a state, `unknown`, or a `role's key`.
        is: &'static str,
        /// What was wanted.
        wanted: &'static str,
    },
    /// Another public half under the same id.
    #[error("key {0} is another key")]
    Another(String),
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
            KeyCommand::Turn(to) => turn(state, to),
            KeyCommand::Introduce(key) if state.token.is_some() => Err(KeyRefusal::Another(key.kid)),
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
            KeyEvent::TokenKey(e) => state.token = Some(e.clone()),
        }
        state
    }
}

fn turn(state: &KeyState, to: TokenKeyChanged) -> Result<Vec<OfKey>, KeyRefusal> {
    let no = |is| Err(KeyRefusal::State { kid: to.kid.clone(), is, wanted: to.state.as_str() });
    match &state.token {
        _ if state.introduced.is_some() => no("a role's key"),
        None if to.state != TokenKeyState::Next => no("unknown"),
        Some(was) if was.public_key != to.public_key => Err(KeyRefusal::Another(to.kid)),
        Some(was) if was.state == to.state => Ok(Vec::new()),
        Some(was) if was.state > to.state => no(was.state.as_str()),
        // What never signed has nothing to wait for.
        Some(was) if was.state == TokenKeyState::Next && to.state == TokenKeyState::Retiring => no("next"),
        None | Some(_) => Ok(vec![OfKey(KeyEvent::TokenKey(to))]),
    }
}
