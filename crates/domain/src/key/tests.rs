//! Tables of given, when, then.

use super::{Key, KeyCommand, KeyRefusal};
use crate::events::OfKey;
use crate::tests::{carried_out, check, given, golden};
use custody_contracts::events::{KeyEvent, LedgerEvent};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

fn event(shape: &str) -> OfKey {
    match golden(shape, &[("kid", json!("k-1"))]) {
        LedgerEvent::Key(event) => OfKey(event),
        other => panic!("{other:?}"),
    }
}
fn introduced() -> OfKey {
    event("KeyIntroduced")
}
fn retired() -> OfKey {
    event("KeyRetired")
}

/// The command that leads to an event.
fn to(event: OfKey) -> KeyCommand {
    match event.0 {
        KeyEvent::Introduced(e) => KeyCommand::Introduce(e),
        KeyEvent::Retired(e) => KeyCommand::Retire(e),
    }
}

#[rstest]
#[case::introduce(&[], introduced(), Ok(vec![introduced()]))]
#[case::introduce_again(&[introduced()], introduced(), Ok(vec![]))]
#[case::introduce_what_was_retired(&[introduced(), retired()], introduced(), Err(KeyRefusal::Retired("k-1".into())))]
#[case::retire(&[introduced()], retired(), Ok(vec![retired()]))]
#[case::retire_again(&[introduced(), retired()], retired(), Ok(vec![]))]
#[case::retire_what_nobody_knows(&[], retired(), Err(KeyRefusal::Unknown("k-1".into())))]
fn decide(#[case] history: &[OfKey], #[case] command: OfKey, #[case] expected: Result<Vec<OfKey>, KeyRefusal>) {
    check::<Key>(history, to(command), expected);
}

proptest! {
    #[test]
    fn a_key_lives_once(commands in prop::collection::vec(prop_oneof![Just(introduced()), Just(retired())], 0..20)) {
        let events = carried_out::<Key>(commands.into_iter().map(to).collect());
        prop_assert!([introduced(), retired()].starts_with(&events), "{events:?}");
    }

    #[test]
    fn evolve_takes_every_order(events in prop::collection::vec(prop_oneof![Just(introduced()), Just(retired())], 0..20)) {
        let state = given::<Key>(&events);
        prop_assert_eq!(state.retired, events.contains(&retired()));
        prop_assert_eq!(state.introduced.is_some(), events.contains(&introduced()));
    }
}
