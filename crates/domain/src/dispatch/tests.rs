//! Tables of given, when, then.

use super::{Dispatch, DispatchCommand, DispatchRefusal};
use crate::events::OfDispatch;
use crate::tests::{carried_out, check, given, golden};
use custody_contracts::events::{DispatchEvent, LedgerEvent};
use custody_contracts::unit::Limits;
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
    stop_in(5_000)
}
fn stop_in(grace_ms: u64) -> OfDispatch {
    event("DispatchStopRequested", &[("grace_ms", json!(grace_ms))])
}
/// Admitted with so many turns.
fn turns(turns: u64) -> OfDispatch {
    let OfDispatch(DispatchEvent::Admitted(mut admitted)) = admitted(1) else { panic!("not an admission") };
    admitted.unit.limits = Some(Limits { turns: Some(turns), ..Limits::default() });
    OfDispatch(DispatchEvent::Admitted(admitted))
}
fn said(n: u32) -> OfDispatch {
    event("FollowUpAccepted", &[("n", json!(n))])
}
fn unheard() -> OfDispatch {
    event("FollowUpRefused", &[])
}

/// The command that leads to an event.
fn to(event: OfDispatch) -> DispatchCommand {
    match event.0 {
        DispatchEvent::Admitted(e) => DispatchCommand::Admit(e),
        DispatchEvent::Refused(e) => DispatchCommand::Refuse(e),
        DispatchEvent::StopRequested(e) => DispatchCommand::RequestStop(e),
        DispatchEvent::FollowUpAccepted(e) => DispatchCommand::FollowUp(e),
        DispatchEvent::FollowUpRefused(e) => DispatchCommand::RefuseFollowUp(e),
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
#[case::stop_later(&[admitted(1), stop()], stop_in(9_000), Ok(vec![]))]
#[case::stop_sooner(&[admitted(1), stop()], stop_in(0), Ok(vec![stop_in(0)]))]
#[case::stop_after_the_soonest(&[admitted(1), stop_in(0), stop()], stop_in(1), Ok(vec![]))]
#[case::say_more(&[turns(3)], said(1), Ok(vec![said(1)]))]
#[case::say_more_again_and_the_number_is_the_rules(&[turns(3), said(1)], said(1), Ok(vec![said(2)]))]
#[case::say_more_than_there_are_turns(&[turns(2), said(1)], said(2), Err(DispatchRefusal::NoTurnLeft { dispatch: "d-7f3a".into(), turns: 2 }))]
#[case::say_more_where_one_turn_was_asked_for(&[turns(1)], said(1), Err(DispatchRefusal::OneTurn("d-7f3a".into())))]
#[case::say_more_where_nothing_was_asked_for(&[admitted(1)], said(1), Err(DispatchRefusal::OneTurn("d-7f3a".into())))]
#[case::say_more_to_what_nobody_knows(&[], said(1), not_admitted())]
#[case::say_more_to_what_was_refused(&[refused(1)], said(1), not_admitted())]
#[case::refuse_what_was_said(&[], unheard(), Ok(vec![unheard()]))]
#[case::refuse_it_again(&[unheard()], unheard(), Ok(vec![]))]
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
    prop_oneof![
        (1u64..4).prop_map(admitted),
        (1u64..5).prop_map(turns),
        (1u64..4).prop_map(refused),
        (0u64..4).prop_map(|seconds| stop_in(seconds * 1_000)),
        Just(said(1)),
    ]
}

proptest! {
    #[test]
    fn a_dispatch_is_decided_once_whatever_is_commanded(commands in prop::collection::vec(any_event(), 0..30)) {
        let events = carried_out::<Dispatch>(commands.into_iter().map(to).collect());
        let is_decision = |e: &OfDispatch| matches!(e.0, DispatchEvent::Admitted(_) | DispatchEvent::Refused(_));
        prop_assert!(events.iter().filter(|e| is_decision(e)).count() <= 1);
        prop_assert!(events.first().is_none_or(is_decision));
        // Every further stop is sooner, and follow-ups are numbered without a gap, below the turns there are.
        let graces: Vec<u64> = events.iter().filter_map(|e| match &e.0 {
            DispatchEvent::StopRequested(e) => Some(e.grace_ms),
            _ => None,
        }).collect();
        prop_assert!(graces.windows(2).all(|w| w[1] < w[0]), "{graces:?}");
        let numbers: Vec<u32> = events.iter().filter_map(|e| match &e.0 {
            DispatchEvent::FollowUpAccepted(e) => Some(e.n),
            _ => None,
        }).collect();
        prop_assert_eq!(&numbers, &(1..=u32::try_from(numbers.len()).unwrap()).collect::<Vec<_>>());
        prop_assert!(numbers.len() < 4);
    }

    #[test]
    fn evolve_takes_every_order_of_events(events in prop::collection::vec(any_event(), 0..30)) {
        let state = given::<Dispatch>(&events);
        let any = |wanted: fn(&DispatchEvent) -> bool| events.iter().any(|e| wanted(&e.0));
        prop_assert_eq!(state.stop_grace_ms.is_some(), any(|e| matches!(e, DispatchEvent::StopRequested(_))));
        prop_assert_eq!(
            state.launch().is_some(),
            any(|e| matches!(e, DispatchEvent::Admitted(_) | DispatchEvent::Refused(_)))
        );
    }
}
