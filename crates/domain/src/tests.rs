//! Given a history, when a command comes, then these events follow or this refusal: the only code of the tests that
//! touches a decider. And the goldens of the contracts as given things.

use custody_contracts::events::{LedgerEvent, TYPES};
use custody_ledger::Decider;
use serde_json::Value;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// The state after a history.
pub(crate) fn given<D: Decider>(history: &[D::Event]) -> D::State {
    history.iter().fold(D::State::default(), D::evolve)
}

/// Given a history, when a command comes, then this is decided.
#[track_caller]
pub(crate) fn check<D>(history: &[D::Event], command: D::Command, expected: Result<Vec<D::Event>, D::Refusal>)
where
    D: Decider,
    D::Event: Debug + PartialEq,
    D::Refusal: Debug + PartialEq,
{
    assert_eq!(D::decide(&given::<D>(history), command), expected);
}

/// The events of a history of commands: what each decided, and nothing where it was refused.
pub(crate) fn carried_out<D: Decider>(commands: Vec<D::Command>) -> Vec<D::Event> {
    let mut events = Vec::new();
    for command in commands {
        let state = given::<D>(&events);
        events.extend(D::decide(&state, command).unwrap_or_default());
    }
    events
}

fn contracts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts")
}

/// The minimal golden of a shape of ledger.v2, with another value at some places.
pub(crate) fn golden(shape: &str, changes: &[(&str, Value)]) -> LedgerEvent {
    let path = contracts().join(format!("ledger.v2/golden/{shape}.minimal.json"));
    let mut data: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for (field, value) in changes {
        data[*field] = value.clone();
    }
    let event_type = TYPES.iter().find(|(_, s)| *s == shape).unwrap().0;
    LedgerEvent::decode(event_type, &data.to_string()).unwrap()
}

/// Every document of a contract's folder, by file name.
pub(crate) fn documents(folder: &str) -> Vec<(String, Value)> {
    let mut found: Vec<(String, Value)> = std::fs::read_dir(contracts().join(folder))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), value)
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}
