//! Tables of given, when, then.

use super::{Launcher, LauncherCommand, LauncherRefusal};
use crate::events::OfLauncher;
use crate::tests::{carried_out, check, given, golden};
use custody_contracts::events::{LauncherEvent, LedgerEvent, SignatureRule};
use nkeys::{KeyPair, KeyPairType};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

fn key(seed: u8) -> String {
    KeyPair::new_from_raw(KeyPairType::User, [seed; 32]).unwrap().public_key()
}

fn event(shape: &str, changes: &[(&str, Value)]) -> OfLauncher {
    match golden(shape, changes) {
        LedgerEvent::Launcher(event) => OfLauncher(event),
        other => panic!("{other:?}"),
    }
}

fn registered(seed: u8) -> OfLauncher {
    event("LauncherRegistered", &[("public_key", json!(key(seed)))])
}
fn for_jane_alone(seed: u8) -> OfLauncher {
    event("LauncherRegistered", &[("public_key", json!(key(seed))), ("subjects", json!(["u_jane"]))])
}
fn rotated(seed: u8) -> OfLauncher {
    event("LauncherRotated", &[("public_key", json!(key(seed)))])
}
fn disabled() -> OfLauncher {
    event("LauncherDisabled", &[("why", json!("lost its key"))])
}

/// The command that leads to an event.
fn to(event: OfLauncher) -> LauncherCommand {
    match event.0 {
        LauncherEvent::Registered(e) => LauncherCommand::Register(e),
        LauncherEvent::Rotated(e) => LauncherCommand::Rotate(e),
        LauncherEvent::Disabled(e) => LauncherCommand::Disable(e),
    }
}

type Decided = Result<Vec<OfLauncher>, LauncherRefusal>;
fn refusal(make: fn(String) -> LauncherRefusal) -> Decided {
    Err(make("web-chat".into()))
}

#[rstest]
#[case::register(&[], registered(1), Ok(vec![registered(1)]))]
#[case::register_the_same_again(&[registered(1)], registered(1), Ok(vec![]))]
#[case::register_with_other_rules(&[registered(1)], for_jane_alone(1), Ok(vec![for_jane_alone(1)]))]
#[case::register_with_another_key(&[registered(1)], registered(2), refusal(LauncherRefusal::KeyDiffers))]
#[case::register_with_the_key_of_before(&[registered(1), rotated(2)], registered(1), refusal(LauncherRefusal::KeyDiffers))]
#[case::register_after_it_was_disabled(&[registered(1), disabled()], registered(1), Ok(vec![registered(1)]))]
#[case::register_with_another_key_after_it_was_disabled(&[registered(1), disabled()], registered(2), Ok(vec![registered(2)]))]
#[case::rotate(&[registered(1)], rotated(2), Ok(vec![rotated(2)]))]
#[case::rotate_to_the_same(&[registered(1)], rotated(1), Ok(vec![]))]
#[case::rotate_what_nobody_knows(&[], rotated(2), refusal(LauncherRefusal::Unknown))]
#[case::rotate_what_is_disabled(&[registered(1), disabled()], rotated(2), refusal(LauncherRefusal::Disabled))]
#[case::disable(&[registered(1)], disabled(), Ok(vec![disabled()]))]
#[case::disable_twice(&[registered(1), disabled()], disabled(), Ok(vec![]))]
#[case::disable_what_nobody_knows(&[], disabled(), refusal(LauncherRefusal::Unknown))]
#[case::disable_after_it_came_back(&[registered(1), disabled(), registered(1)], disabled(), Ok(vec![disabled()]))]
fn decide(#[case] history: &[OfLauncher], #[case] command: OfLauncher, #[case] expected: Decided) {
    check::<Launcher>(history, to(command), expected);
}

#[rstest]
#[case::empty("")]
#[case::a_word("key")]
#[case::one_letter_other(&format!("{}A", &key(1)[..55]))]
#[case::a_letter_too_many(&format!("{}A", key(1)))]
#[case::a_seed("SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4")]
#[case::an_account(&KeyPair::new_from_raw(KeyPairType::Account, [1; 32]).unwrap().public_key())]
#[case::into_the_configuration(&format!("U\" }} ] users = [{}", "A".repeat(40)))]
#[case::very_long(&"U".repeat(10_000))]
fn a_key_that_is_none_is_refused_and_cut(#[case] text: &str) {
    for (history, mut command) in [(vec![], to(registered(1))), (vec![registered(1)], to(rotated(2)))] {
        match &mut command {
            LauncherCommand::Register(e) => e.public_key = text.to_owned(),
            LauncherCommand::Rotate(e) => e.public_key = text.to_owned(),
            LauncherCommand::Disable(e) => panic!("{e:?}"),
        }
        check::<Launcher>(&history, command, Err(LauncherRefusal::BadKey(text.chars().take(80).collect())));
    }
}

#[test]
fn the_state_has_the_current_key_and_the_rules_of_the_registration() {
    let state = given::<Launcher>(&[for_jane_alone(1), rotated(2)]);
    let is = state.registered().unwrap();
    assert_eq!((is.public_key.as_str(), is.subjects.as_slice()), (key(2).as_str(), &["u_jane".to_owned()][..]));
    assert_eq!((is.signature, state.disabled()), (SignatureRule::Required, None));
    assert_eq!(given::<Launcher>(&[registered(1), disabled()]).disabled(), Some("lost its key"));
    assert_eq!(given::<Launcher>(&[registered(1), disabled(), registered(2)]).disabled(), None);
    assert!(given::<Launcher>(&[]).registered().is_none());
}

fn any_event() -> impl Strategy<Value = OfLauncher> {
    prop_oneof![(1u8..4).prop_map(registered), (1u8..4).prop_map(rotated), Just(disabled())]
}

proptest! {
    #[test]
    fn the_key_is_always_the_one_of_the_last_event_that_gave_one(commands in prop::collection::vec(any_event(), 0..30)) {
        let events = carried_out::<Launcher>(commands.into_iter().map(to).collect());
        let last = events.iter().rev().find_map(|e| match &e.0 {
            LauncherEvent::Registered(e) => Some(e.public_key.clone()),
            LauncherEvent::Rotated(e) => Some(e.public_key.clone()),
            LauncherEvent::Disabled(_) => None,
        });
        let state = given::<Launcher>(&events);
        prop_assert_eq!(state.registered().map(|r| r.public_key.clone()), last);
        prop_assert_eq!(state.disabled().is_some(), events.last() == Some(&disabled()));
    }

    #[test]
    fn evolve_takes_every_order_of_events(events in prop::collection::vec(any_event(), 0..30)) {
        let known = events.iter().any(|e| matches!(e.0, LauncherEvent::Registered(_)));
        prop_assert_eq!(given::<Launcher>(&events).registered().is_some(), known);
    }
}
