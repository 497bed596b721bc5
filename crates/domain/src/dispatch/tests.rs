//! Tables of given, when, then.

use super::{Dispatch, DispatchCommand, DispatchRefusal};
use crate::events::OfDispatch;
use crate::tests::{carried_out, check, given, golden};
use custody_contracts::events::{DispatchEvent, LedgerEvent};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

fn launch(seq: u64) -> Value {
    let digest = format!("sha256:{}", format!("{seq:02x}").repeat(32));
    json!({ "stream_seq": seq, "launcher": "web-chat", "event_id": "m-1", "digest": digest })
}

fn event(shape: &str, changes: &[(&str, Value)]) -> OfDispatch {
    match golden(shape, changes) {
        LedgerEvent::Dispatch(event) => OfDispatch(event),
        other => panic!("{other:?}"),
    }
}

/// Admitted by the message at this place of LAUNCH.
fn admitted(seq: u64) -> OfDispatch {
    event("DispatchAdmitted", &[("launch", launch(seq))])
}
fn refused(seq: u64) -> OfDispatch {
    event("DispatchRefused", &[("launch", launch(seq))])
}
fn stop() -> OfDispatch {
    event("DispatchStopRequested", &[])
}

/// The command that leads to an event.
fn to(event: OfDispatch) -> DispatchCommand {
    match event.0 {
        DispatchEvent::Admitted(e) => DispatchCommand::Admit(e),
        DispatchEvent::Refused(e) => DispatchCommand::Refuse(e),
        DispatchEvent::StopRequested(e) => DispatchCommand::RequestStop(e),
    }
}

type Decided = Result<Vec<OfDispatch>, DispatchRefusal>;
fn reused(first: u64) -> Decided {
    Err(DispatchRefusal::IdReused { first })
}
fn not_admitted() -> Decided {
    Err(DispatchRefusal::NotAdmitted("d-7f3a".into()))
}

#[rstest]
#[case::admit(&[], admitted(1), Ok(vec![admitted(1)]))]
#[case::refuse(&[], refused(1), Ok(vec![refused(1)]))]
#[case::admit_the_same_message_again(&[admitted(1)], admitted(1), Ok(vec![]))]
#[case::refuse_the_same_message_again(&[refused(1)], refused(1), Ok(vec![]))]
#[case::the_first_decision_stands_also_when_it_would_now_be_refused(&[admitted(1)], refused(1), Ok(vec![]))]
#[case::the_first_decision_stands_also_when_it_would_now_be_admitted(&[refused(1)], admitted(1), Ok(vec![]))]
#[case::another_message_with_the_same_id(&[admitted(1)], admitted(2), reused(1))]
#[case::another_message_with_the_same_id_after_a_refusal(&[refused(1)], admitted(2), reused(1))]
#[case::another_message_with_the_same_id_refused(&[admitted(1)], refused(2), reused(1))]
#[case::another_message_after_a_stop(&[admitted(1), stop()], admitted(2), reused(1))]
#[case::stop(&[admitted(1)], stop(), Ok(vec![stop()]))]
#[case::stop_twice(&[admitted(1), stop()], stop(), Ok(vec![]))]
#[case::stop_what_nobody_knows(&[], stop(), not_admitted())]
#[case::stop_what_was_refused(&[refused(1)], stop(), not_admitted())]
fn decide(#[case] history: &[OfDispatch], #[case] command: OfDispatch, #[case] expected: Decided) {
    check::<Dispatch>(history, to(command), expected);
}

#[test]
fn the_state_knows_where_it_was_asked_for_first() {
    assert_eq!(given::<Dispatch>(&[]).launch(), None);
    assert_eq!(given::<Dispatch>(&[admitted(4), stop()]).launch().map(|l| l.stream_seq), Some(4));
    assert_eq!(given::<Dispatch>(&[refused(5)]).launch().map(|l| l.stream_seq), Some(5));
}

fn any_event() -> impl Strategy<Value = OfDispatch> {
    prop_oneof![(1u64..4).prop_map(admitted), (1u64..4).prop_map(refused), Just(stop())]
}

proptest! {
    #[test]
    fn a_dispatch_is_decided_once_whatever_is_commanded(commands in prop::collection::vec(any_event(), 0..30)) {
        let events = carried_out::<Dispatch>(commands.into_iter().map(to).collect());
        let decisions = events.iter().filter(|e| !matches!(e.0, DispatchEvent::StopRequested(_))).count();
        prop_assert!(decisions <= 1);
        prop_assert!(events.len() <= 2);
        if let Some(first) = events.first() {
            prop_assert!(!matches!(first.0, DispatchEvent::StopRequested(_)));
        }
    }

    #[test]
    fn evolve_takes_every_order_of_events(events in prop::collection::vec(any_event(), 0..30)) {
        let state = given::<Dispatch>(&events);
        prop_assert_eq!(state.stop_requested, events.contains(&stop()));
        prop_assert_eq!(state.launch().is_some(), events.iter().any(|e| *e != stop()));
    }
}
