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
        KeyEvent::TokenKey(e) => KeyCommand::Turn(e),
        KeyEvent::Subject(e) => KeyCommand::Person(e),
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

fn turned(state: &str) -> OfKey {
    match golden("TokenKeyChanged", &[("kid", json!("k-1")), ("state", json!(state))]) {
        LedgerEvent::Key(event) => OfKey(event),
        other => panic!("{other:?}"),
    }
}

fn no(is: &'static str, wanted: &'static str) -> Result<Vec<OfKey>, KeyRefusal> {
    Err(KeyRefusal::State { kid: "k-1".into(), is, wanted })
}

#[rstest]
#[case::it_begins_as_next(&[], "next", Ok(vec![turned("next")]))]
#[case::it_begins_as_nothing_else(&[], "active", no("unknown", "active"))]
#[case::it_signs(&["next"], "active", Ok(vec![turned("active")]))]
#[case::it_signs_no_more(&["next", "active"], "retiring", Ok(vec![turned("retiring")]))]
#[case::it_is_over(&["next", "active", "retiring"], "retired", Ok(vec![turned("retired")]))]
#[case::it_is_over_at_once(&["next", "active"], "retired", Ok(vec![turned("retired")]))]
#[case::it_never_signed(&["next"], "retired", Ok(vec![turned("retired")]))]
#[case::it_never_signed_and_waits(&["next"], "retiring", no("next", "retiring"))]
#[case::it_is_that_already(&["next", "active"], "active", Ok(vec![]))]
#[case::it_never_comes_back(&["next", "active", "retired"], "active", no("retired", "active"))]
#[case::it_does_not_go_back(&["next", "active", "retiring"], "active", no("retiring", "active"))]
fn a_key_for_tokens_goes_forward(
    #[case] history: &[&str],
    #[case] to: &str,
    #[case] expected: Result<Vec<OfKey>, KeyRefusal>,
) {
    let history: Vec<OfKey> = history.iter().map(|state| turned(state)).collect();
    check::<Key>(&history, self::to(turned(to)), expected);
}

#[test]
fn a_key_for_tokens_is_no_roles_key_and_no_other_key() {
    check::<Key>(&[introduced()], to(turned("next")), no("a role's key", "next"));
    check::<Key>(&[turned("next")], to(introduced()), Err(KeyRefusal::Another("k-1".into())));
    let KeyCommand::Turn(mut other) = to(turned("active")) else { panic!() };
    other.public_key = "00".repeat(32);
    check::<Key>(&[turned("next")], KeyCommand::Turn(other), Err(KeyRefusal::Another("k-1".into())));
}

fn person(state: &str) -> OfKey {
    match golden("SubjectKeyChanged", &[("state", json!(state))]) {
        LedgerEvent::Key(event) => OfKey(event),
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::one_without_an_event(&[], "erasing", Ok(vec![person("erasing")]))]
#[case::not_before_it_was_to_be(&[], "erased", Err(("active", "erased")))]
#[case::it_is_destroyed(&["erasing"], "erased", Ok(vec![person("erased")]))]
#[case::asked_for_again(&["erasing"], "erasing", Ok(vec![]))]
#[case::it_is_not_called_off(&["erasing"], "active", Err(("erasing", "active")))]
#[case::asked_for_when_it_is_done(&["erasing", "erased"], "erasing", Ok(vec![]))]
#[case::done_twice(&["erasing", "erased"], "erased", Ok(vec![]))]
#[case::taken_in_again(&["erasing", "erased"], "active", Ok(vec![person("active")]))]
#[case::who_was_not_erased_is_in(&[], "active", Ok(vec![]))]
#[case::erased_a_second_time(&["erasing", "erased", "active"], "erasing", Ok(vec![person("erasing")]))]
fn a_persons_key_is_destroyed_in_two_steps(
    #[case] history: &[&str],
    #[case] to: &str,
    #[case] expected: Result<Vec<OfKey>, (&'static str, &'static str)>,
) {
    let history: Vec<OfKey> = history.iter().map(|state| person(state)).collect();
    let KeyCommand::Person(command) = self::to(person(to)) else { panic!() };
    let kid = custody_contracts::sealed::SubjectKeyChanged::entity_id(&command.subject);
    let expected = expected.map_err(|(is, wanted)| KeyRefusal::State { kid, is, wanted });
    check::<Key>(&history, KeyCommand::Person(command), expected);
}

#[test]
fn a_persons_key_is_no_other_key() {
    let KeyCommand::Person(mut other) = to(person("erasing")) else { panic!() };
    let kid = custody_contracts::sealed::SubjectKeyChanged::entity_id(&other.subject);
    check::<Key>(&[introduced()], KeyCommand::Person(other.clone()), Err(KeyRefusal::Another(kid)));
    other.subject = custody_contracts::ids::Subject::parse("u_omar").unwrap();
    let kid = custody_contracts::sealed::SubjectKeyChanged::entity_id(&other.subject);
    check::<Key>(&[person("erasing")], KeyCommand::Person(other), Err(KeyRefusal::Another(kid)));
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
