//! What cannot be is noted with its sequence, and nothing stops; every list has its maximum.

use crate::fixtures::{Log, event, fold, recorded};
use crate::logs::{CASES, admitted, called, claimed, finished, launcher, started};
use custody_contracts::events::LedgerEvent;
use custody_ledger::Recorded;
use custody_projections::audit::{ANOMALIES_KEPT_MAX, CHAIN_KEPT_MAX, anomalies, launchers};
use custody_projections::sessions::{TURNS_KEPT_MAX, rows};
use custody_projections::{Audit, Dispatches, Sessions};
use rstest::rstest;
use serde_json::json;

fn start() -> serde_json::Value {
    json!({ "entrypoint": { "inline": "Go." } })
}
fn a() -> LedgerEvent {
    admitted("d-1", "s-1", &start())
}
fn c() -> LedgerEvent {
    claimed("d-1", None)
}
fn s() -> LedgerEvent {
    started("d-1", "c1")
}
fn f() -> LedgerEvent {
    finished("d-1", "completed", &json!({}))
}
fn m() -> LedgerEvent {
    called("d-1", 1, "succeeded")
}
fn refused() -> LedgerEvent {
    event("DispatchRefused", &json!({ "dispatch": "d-1" }))
}
fn stop() -> LedgerEvent {
    event("DispatchStopRequested", &json!({ "dispatch": "d-1" }))
}

#[rstest]
#[case::a_whole_run(&[a(), c(), s(), m(), f()], &[])]
#[case::a_run_that_never_started(&[a(), c(), f()], &[])]
#[case::a_stop(&[a(), stop(), c(), stop(), s(), f()], &[])]
#[case::a_refusal(&[refused()], &[])]
#[case::decided_twice(&[a(), a()], &[(3, "a dispatch was decided twice")])]
#[case::decided_both_ways(&[a(), refused()], &[(3, "a dispatch was decided twice")])]
#[case::claimed_without_admission(&[c()], &[(2, "a run was claimed for a dispatch that was never admitted")])]
#[case::claimed_after_a_refusal(&[refused(), c()], &[(3, "a run was claimed for a dispatch that was never admitted")])]
#[case::claimed_twice(&[a(), c(), c()], &[(4, "a run was claimed or started twice")])]
#[case::started_unclaimed(&[a(), s()], &[(3, "a run started that was never claimed")])]
#[case::started_twice(&[a(), c(), s(), s()], &[(5, "a run was claimed or started twice")])]
#[case::finished_unclaimed(&[a(), f()], &[(3, "a run finished that was never claimed")])]
#[case::finished_twice(&[a(), c(), f(), f()], &[(5, "a second terminal event")])]
#[case::finished_twice_unclaimed(&[a(), f(), f()], &[
    (3, "a run finished that was never claimed"),
    (4, "a run finished that was never claimed; a second terminal event"),
])]
#[case::started_after_the_end(&[a(), c(), f(), s()], &[(5, "a run went on after its terminal event")])]
#[case::a_model_called_unclaimed(&[a(), m()], &[(3, "a model was called for a dispatch that no runtime claimed")])]
fn what_cannot_follow_is_noted(#[case] events: &[LedgerEvent], #[case] expected: &[(u64, &str)]) {
    let mut log = Log::default();
    log.say("web-chat", &[launcher()]);
    for event in events {
        log.say("d-1", std::slice::from_ref(event));
    }
    let state = fold::<Audit>(&recorded(&log.messages));
    assert_eq!(anomalies(&state).collect::<Vec<_>>(), expected);
    let total = state.get("total/anomaly").map_or(0, |r| r.count);
    assert_eq!(total as usize, expected.iter().map(|(_, what)| what.split("; ").count()).sum::<usize>());
}

#[test]
fn what_is_not_known_is_noted_and_what_cannot_be_read_changes_nothing() {
    let messages = CASES.iter().find(|(case, _)| *case == "anomalies").unwrap().1();
    let state = fold::<Audit>(&recorded(&messages));
    let unknown =
        messages.iter().find(|m| String::from_utf8_lossy(&m.bytes).contains("dispatch.paused")).unwrap().seq.0;
    assert!(anomalies(&state).any(|(seq, what)| seq == unknown && what.contains("custody.dispatch.paused.v1")));
    let unreadable: Vec<_> = messages.iter().filter(|m| Recorded::read(m).is_err()).cloned().collect();
    assert_eq!(unreadable.len(), 2, "one that is no event, one on no ledger subject");
    let readable: Vec<_> = messages.iter().filter(|m| Recorded::read(m).is_ok()).cloned().collect();
    assert_eq!(format!("{:?}", fold::<Audit>(&recorded(&readable))), format!("{state:?}"));
    assert!(state.get("chain/d-3").is_some(), "the fold went on after them");
}

#[test]
fn launchers_are_counted_and_listed_by_id() {
    let messages = CASES.iter().find(|(case, _)| *case == "launchers-and-keys").unwrap().1();
    let state = fold::<Audit>(&recorded(&messages));
    let listed: Vec<_> = launchers(&state).map(|l| (l.launcher.as_str(), l.must_sign, l.admitted, l.refused)).collect();
    assert_eq!(listed, [("mail", false, 0, 0), ("web-chat", true, 1, 1)]);
    assert!(launchers(&state).all(|l| l.disabled.is_none()));
}

#[test]
fn anomalies_are_kept_to_a_maximum_and_counted_beyond() {
    let mut log = Log::default();
    log.say("web-chat", &[launcher()]);
    let one = recorded(&log.messages).remove(0);
    let many = ANOMALIES_KEPT_MAX + 3;
    let odd = (1..=many).map(|seq| Recorded { seq: custody_ledger::Seq(seq), event: None, ..one.clone() });
    let state = fold::<Audit>(&odd.collect::<Vec<_>>());
    assert_eq!(anomalies(&state).count() as u64, ANOMALIES_KEPT_MAX);
    assert_eq!(state.get("anomaly/dropped").unwrap().count, 3);
    assert_eq!(state.get("total/anomaly").unwrap().count, many);
}

#[test]
fn a_chain_is_kept_to_a_maximum_and_counted_beyond() {
    let mut log = Log::default();
    log.say("web-chat", &[launcher()]).say("d-1", &[a()]).say("d-1", &[c()]).say("d-1-m1", &[m()]);
    let mut events = recorded(&log.messages);
    let call = events.pop().unwrap();
    events
        .extend((4..=CHAIN_KEPT_MAX as u64 + 50).map(|seq| Recorded { seq: custody_ledger::Seq(seq), ..call.clone() }));
    let state = fold::<Audit>(&events);
    let chain = state.get("chain/d-1").unwrap();
    assert_eq!(
        (chain.count as usize, chain.seqs.len(), chain.seen.as_str()),
        (CHAIN_KEPT_MAX + 49, CHAIN_KEPT_MAX, "ac")
    );
}

#[test]
fn turns_are_kept_to_a_maximum_and_counted_beyond() {
    let mut log = Log::default();
    for n in 0..TURNS_KEPT_MAX + 5 {
        let dispatch = format!("d-{n}");
        log.say(&dispatch, &[admitted(&dispatch, "s-1", &start())]);
    }
    log.say("d-0", &[finished("d-0", "failed", &json!({}))]);
    let state = fold::<Sessions>(&recorded(&log.messages));
    let session = rows(&state).next().unwrap();
    assert_eq!((session.turn_count as usize, session.turns.len()), (TURNS_KEPT_MAX + 5, TURNS_KEPT_MAX));
    assert_eq!(session.turns[0].dispatch, "d-5", "the oldest go first");
    assert_eq!(rows(&state).count(), 1);
}

#[test]
fn what_comes_after_the_end_changes_neither_dispatch_nor_session() {
    let left =
        |byte: &str| json!({ "session": { "id": "s-1", "digest": format!("sha256:{}", byte.repeat(32)), "bytes": 9 } });
    let mut log = Log::default();
    log.say("d-1", &[a()])
        .say("d-1", &[c()])
        .say("d-1", &[s()])
        .say("d-1", &[finished("d-1", "completed", &left("f1"))]);
    let before = recorded(&log.messages);
    log.say("d-1", &[claimed("d-1", Some("ee"))])
        .say("d-1", &[started("d-1", "c9")])
        .say("d-1", &[finished("d-1", "failed", &left("f9"))]);
    let after = recorded(&log.messages);
    let dispatch = |events: &[Recorded]| {
        let mut row = fold::<Dispatches>(events).get("d-1").unwrap().clone();
        (row.last_seq, row.terminal_events) = (0, 0);
        row
    };
    assert_eq!(dispatch(&after), dispatch(&before));
    let session = |events: &[Recorded]| {
        let mut row = fold::<Sessions>(events).get("s-1").unwrap().clone();
        row.last_seq = 0;
        row
    };
    assert_eq!(session(&after), session(&before));
    assert_eq!(session(&after).digest, Some(format!("sha256:{}", "f1".repeat(32))));
}
