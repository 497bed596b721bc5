//! `handle`, case by case: given what the log does, when a command comes, then this is in the log and this is said.

use crate::fixtures::{Do, NoKey, Rule, Trouble, Troubled, entity, introduced, meta, now, retired};
use custody_contracts::canonical::derived_id;
use custody_contracts::events::LedgerEvent;
use custody_ledger::handle::{TRIES_MAX, fold};
use custody_ledger::recorded::encode;
use custody_ledger::{AppendError, Command, HandleError, LogError, MemoryLog, Outcome, Recorded, Seq, Stored, handle};
use rstest::rstest;

type Said = Result<Outcome<usize>, HandleError>;

fn command(id: &str, to: &str, body: Do) -> Command<Do> {
    Command { id: id.into(), entity: entity(to), meta: meta(), body }
}

fn carry_out(log: &Troubled, id: &str, body: Do) -> Said {
    now(handle::<Rule>(log, &NoKey, command(id, "k", body)))
}

#[track_caller]
fn check(troubles: &[Trouble], commands: &[(&str, Do)], expected: &Outcome<usize>, messages: usize) {
    let log = Troubled::new(troubles);
    let mut said = None;
    for (id, body) in commands {
        said = Some(carry_out(&log, id, body.clone()).unwrap());
    }
    assert_eq!(said.as_ref(), Some(expected));
    assert_eq!(log.inner.messages().len(), messages);
}

fn conflict() -> AppendError {
    AppendError::Conflict { entity: "ledger.key.k".into(), expected: 0, actual: None }
}

#[rstest]
#[case::a_new_entity(&[], &[("c1", Do::OnlyWhenNew)], Outcome::Appended(Seq(1)), 1)]
#[case::the_next_event(&[], &[("c1", Do::Introduce("a")), ("c2", Do::Introduce("b"))], Outcome::Appended(Seq(2)), 2)]
#[case::the_same_command_again(&[], &[("c1", Do::Introduce("a")), ("c1", Do::Introduce("a"))], Outcome::AlreadyThere(Seq(1)), 1)]
#[case::the_same_command_after_others(
    &[], &[("c1", Do::OnlyWhenNew), ("c2", Do::Introduce("b")), ("c1", Do::OnlyWhenNew)], Outcome::AlreadyThere(Seq(1)), 2)]
#[case::nothing_to_do(&[], &[("c1", Do::Introduce("a")), ("c2", Do::IntroduceOnce("b"))], Outcome::Nothing, 1)]
#[case::refused(&[], &[("c1", Do::Introduce("a")), ("c2", Do::OnlyWhenNew)], Outcome::Refused(1), 1)]
#[case::two_events_are_one_message(&[], &[("c1", Do::Replace("b"))], Outcome::Appended(Seq(1)), 1)]
#[case::two_events_count_as_two(&[], &[("c1", Do::Replace("b")), ("c2", Do::OnlyWhenNew)], Outcome::Refused(2), 1)]
#[case::somebody_was_faster(&[Trouble::Race], &[("c1", Do::Introduce("a"))], Outcome::Appended(Seq(2)), 2)]
#[case::somebody_was_faster_and_nothing_is_left(&[Trouble::Race], &[("c1", Do::IntroduceOnce("a"))], Outcome::Nothing, 1)]
#[case::somebody_was_faster_and_now_it_is_refused(&[Trouble::Race], &[("c1", Do::OnlyWhenNew)], Outcome::Refused(1), 1)]
#[case::a_lost_answer_that_looks_like_a_conflict(
    &[Trouble::StoredThen(conflict())], &[("c1", Do::OnlyWhenNew)], Outcome::AlreadyThere(Seq(1)), 1)]
fn a_command_has_one_outcome(
    #[case] troubles: &[Trouble],
    #[case] commands: &[(&str, Do)],
    #[case] expected: Outcome<usize>,
    #[case] messages: usize,
) {
    check(troubles, commands, &expected, messages);
}

#[test]
fn a_command_is_decided_again_seven_times_and_not_eight() {
    let log = Troubled::new(&vec![Trouble::Race; 7]);
    assert_eq!(carry_out(&log, "c1", Do::Introduce("a")).unwrap(), Outcome::Appended(Seq(8)));
    let log = Troubled::new(&vec![Trouble::Race; TRIES_MAX as usize]);
    let error = carry_out(&log, "c1", Do::Introduce("a")).unwrap_err();
    assert!(matches!(&error, HandleError::Contended { entity } if entity == "ledger.key.k"), "{error}");
    assert_eq!(error.to_string(), "ledger.key.k moved 8 times while deciding");
    assert!(log.inner.messages().iter().all(|m| m.message_id.as_deref().is_some_and(|id| id.starts_with("other-"))));
}

#[test]
fn an_answer_that_never_came_is_an_error_and_asking_again_is_safe() {
    let lost = Trouble::StoredThen(AppendError::Unavailable("no answer in 5 s".into()));
    let log = Troubled::new(&[lost]);
    let error = carry_out(&log, "c1", Do::OnlyWhenNew).unwrap_err();
    assert!(matches!(error, HandleError::Append(AppendError::Unavailable(_))), "{error}");
    assert_eq!(carry_out(&log, "c1", Do::OnlyWhenNew).unwrap(), Outcome::AlreadyThere(Seq(1)));
    assert_eq!(log.inner.messages().len(), 1);
}

#[rstest]
#[case::full(AppendError::Full("LEDGER".into()))]
#[case::too_large(AppendError::TooLarge { bytes: 70_000, max: 65_536 })]
#[case::refused(AppendError::Refused("no permission".into()))]
#[case::unavailable(AppendError::Unavailable("down".into()))]
fn an_append_that_fails_is_not_tried_again(#[case] error: AppendError) {
    let log = Troubled::new(&[Trouble::Fails(error.clone())]);
    match carry_out(&log, "c1", Do::Introduce("a")) {
        Err(HandleError::Append(found)) => assert_eq!(found, error),
        other => panic!("{other:?}"),
    }
    assert!(log.troubles.lock().unwrap().is_empty() && log.inner.messages().is_empty());
}

#[test]
fn a_history_that_cannot_be_loaded_is_named() {
    let mut log = Troubled::new(&[]);
    log.load = Some(LogError::Unavailable("down".into()));
    let error = carry_out(&log, "c1", Do::Introduce("a")).unwrap_err();
    assert!(matches!(error, HandleError::Load { .. }));
    assert_eq!(error.to_string(), "loading ledger.key.k: the log is not reachable: down");
}

fn stored(seq: u64, bytes: Vec<u8>) -> Stored {
    Stored { seq: Seq(seq), log_subject: "ledger.key.k".into(), message_id: Some(format!("m-{seq}")), bytes }
}

fn message(event: LedgerEvent) -> Vec<u8> {
    encode(&NoKey, "c0", &[event], &meta()).unwrap()
}

fn unknown_type() -> Vec<u8> {
    let text = String::from_utf8(message(LedgerEvent::Key(retired("k")))).unwrap();
    text.replace("custody.key.retired.v1", "custody.key.forgotten.v1").into_bytes()
}

fn another_kind() -> Vec<u8> {
    let told = custody_contracts::events::EffectEvent::ModelCalled(
        serde_json::from_str(include_str!("../../../../contracts/ledger.v2/golden/ModelCalled.minimal.json")).unwrap(),
    );
    message(LedgerEvent::Effect(told))
}

#[rstest]
#[case::garbage(b"garbage".to_vec(), "not a ledger envelope")]
#[case::unknown_type(unknown_type(), "custody.key.forgotten.v1")]
#[case::data_of_another_shape(String::from_utf8(message(LedgerEvent::Key(retired("k")))).unwrap().replace("\"why\"", "\"y\"").into_bytes(), "KeyRetired")]
#[case::an_event_of_another_kind(another_kind(), "custody.effect.model_called.v1")]
fn a_history_that_cannot_be_understood_stops_its_entity_and_no_other(#[case] bytes: Vec<u8>, #[case] says: &str) {
    let mut log = Troubled::new(&[]);
    let good = message(LedgerEvent::Key(introduced("k")));
    log.inner = MemoryLog::from_messages(vec![stored(1, good), stored(2, bytes)]);
    let error = carry_out(&log, "c1", Do::Introduce("a")).unwrap_err();
    assert!(matches!(&error, HandleError::Corrupt { entity, .. } if entity == "ledger.key.k"), "{error}");
    assert!(error.to_string().contains(says) && error.to_string().contains("sequence 2"), "{error}");
    assert_eq!(log.inner.messages().len(), 2);
    let other = now(handle::<Rule>(&log, &NoKey, command("c1", "other", Do::OnlyWhenNew))).unwrap();
    assert_eq!(other, Outcome::Appended(Seq(3)));
}

#[test]
fn the_message_is_the_entitys_signed_and_known_by_its_command() {
    let log = Troubled::new(&[]);
    carry_out(&log, "c1", Do::Replace("b")).unwrap();
    carry_out(&log, "c2", Do::Introduce("c")).unwrap();
    let messages = log.inner.messages();
    assert_eq!(messages[0].log_subject, "ledger.key.k");
    assert_eq!(messages[0].message_id, Some(derived_id("m-", &[b"ledger.key.k", b"c1"])));
    assert!(messages[0].bytes.starts_with(b"[{") && messages[1].bytes.starts_with(b"{"));
    let recorded = Recorded::read(&messages[0]).unwrap();
    let ids: Vec<&str> = recorded.iter().map(|r| r.envelope.id.as_str()).collect();
    assert_eq!(ids, ["c1/0", "c1/1"]);
    assert!(recorded.iter().all(|r| r.envelope.keyid == "k-test" && r.envelope.source == "custody/authority"));
}

#[test]
fn one_command_id_on_two_entities_is_two_messages() {
    let log = Troubled::new(&[]);
    for (to, seq) in [("a", 1), ("b", 2)] {
        let said = now(handle::<Rule>(&log, &NoKey, command("c1", to, Do::OnlyWhenNew))).unwrap();
        assert_eq!(said, Outcome::Appended(Seq(seq)));
    }
    let messages = log.inner.messages();
    assert_ne!(messages[0].message_id, messages[1].message_id);
}

#[test]
fn folding_sees_every_event_in_order() {
    let log = Troubled::new(&[]);
    carry_out(&log, "c1", Do::Introduce("a")).unwrap();
    carry_out(&log, "c2", Do::Replace("b")).unwrap();
    let state = fold::<Rule>(&entity("k"), &log.inner.messages()).unwrap();
    let events: Vec<_> = state.into_iter().map(|e| e.0).collect();
    assert_eq!(events, [introduced("a"), retired("old"), introduced("b")]);
}
