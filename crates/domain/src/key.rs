//! A signing key: introduced once, retired once. A key for tokens is one of its own: it goes from next to active to
//! retiring to retired, skips what it must, and never comes back. The key of a person is one of its own too: it is there
//! without an event, is to be destroyed, is destroyed, and may be followed by another one.

#[cfg(test)]
mod tests;

use crate::events::OfKey;
use custody_contracts::events::{KeyEvent, KeyIntroduced, KeyRetired};
use custody_contracts::sealed::{SubjectKeyChanged, SubjectKeyState};
use custody_contracts::token::{TokenKeyChanged, TokenKeyState};
use custody_ledger::Decider;

/// What one key is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyState {
    introduced: Option<KeyIntroduced>,
    retired: bool,
    /// What it last was, when it is a key for tokens.
    token: Option<TokenKeyChanged>,
    /// What it last was, when it is a person's.
    person: Option<SubjectKeyChanged>,
}

impl KeyState {
    /// What it last was, when it is a key for tokens.
    pub fn token(&self) -> Option<&TokenKeyChanged> {
        self.token.as_ref()
    }

    /// What it last was, when it is a person's.
    pub fn person(&self) -> Option<&SubjectKeyChanged> {
        self.person.as_ref()
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
    /// Bring a person's key into a state.
    Person(SubjectKeyChanged),
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
    /// A key for tokens goes forward only, and begins as next. A person's is destroyed after it was to be, and another one
    /// follows a destroyed one only.
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
            KeyCommand::Person(to) => person(state, to),
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
            KeyEvent::Subject(e) => state.person = Some(e.clone()),
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

fn person(state: &KeyState, to: SubjectKeyChanged) -> Result<Vec<OfKey>, KeyRefusal> {
    use SubjectKeyState::{Active, Erased, Erasing};
    let kid = SubjectKeyChanged::entity_id(&to.subject);
    let was = state.person.as_ref();
    if state.introduced.is_some() || state.token.is_some() || was.is_some_and(|was| was.subject != to.subject) {
        return Err(KeyRefusal::Another(kid));
    }
    match (was.map_or(Active, |was| was.state), to.state) {
        // Whoever asks again for what is under way or done asks for nothing more.
        (Erasing | Erased, Erasing) | (Erased, Erased) | (Active, Active) => Ok(Vec::new()),
        (Active, Erasing) | (Erasing, Erased) | (Erased, Active) => Ok(vec![OfKey(KeyEvent::Subject(to))]),
        (is, wanted) => Err(KeyRefusal::State { kid, is: is.as_str(), wanted: wanted.as_str() }),
    }
}
