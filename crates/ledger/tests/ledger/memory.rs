//! What every log owes its callers, shown on the one in memory: expectation, identity, order, no gaps.

use crate::fixtures::{entity, now};
use custody_contracts::envelope::MESSAGE_BYTES_MAX;
use custody_contracts::events::Kind;
use custody_ledger::{Append, AppendError, Entity, Expected, Log, MemoryLog, Seq, Stored};
use futures::{FutureExt, StreamExt};
use proptest::prelude::*;
use rstest::rstest;

fn put(log: &MemoryLog, to: &str, id: &str, expected: Expected) -> Result<Seq, AppendError> {
    now(log.append(Append { entity: entity(to), expected, message_id: id.into(), bytes: id.as_bytes().to_vec() }))
}

fn two() -> MemoryLog {
    let log = MemoryLog::new();
    assert_eq!(put(&log, "a", "a1", Expected::NEW), Ok(Seq(1)));
    assert_eq!(put(&log, "b", "b1", Expected::NEW), Ok(Seq(2)));
    log
}

#[rstest]
#[case::a_new_entity("c", Expected::NEW, Ok(3))]
#[case::after_the_last("a", Expected::at(Seq(1)), Ok(3))]
#[case::an_entity_that_exists_as_new("a", Expected::NEW, Err((0, 1)))]
#[case::a_new_entity_as_existing("c", Expected::at(Seq(1)), Err((1, 0)))]
#[case::after_another_entitys_last("a", Expected::at(Seq(2)), Err((2, 1)))]
#[case::after_what_is_not_there("b", Expected::at(Seq(9)), Err((9, 2)))]
fn an_append_keeps_its_expectation(
    #[case] to: &str,
    #[case] expected: Expected,
    #[case] outcome: Result<u64, (u64, u64)>,
) {
    let log = two();
    let outcome = outcome.map(Seq).map_err(|(expected, actual)| AppendError::Conflict {
        entity: format!("ledger.key.{to}"),
        expected,
        actual: Some(actual),
    });
    assert_eq!(put(&log, to, "x", expected), outcome);
    assert_eq!(log.messages().len(), if outcome.is_ok() { 3 } else { 2 });
}

#[test]
fn the_same_id_again_is_the_same_sequence_whatever_is_expected() {
    let log = two();
    put(&log, "a", "a2", Expected::at(Seq(1))).unwrap();
    for expected in [Expected::NEW, Expected::at(Seq(1)), Expected::at(Seq(3)), Expected::at(Seq(7))] {
        assert_eq!(put(&log, "a", "a1", expected), Ok(Seq(1)));
    }
    assert_eq!(put(&log, "b", "a1", Expected::at(Seq(2))), Ok(Seq(4)), "an id is its entity's");
    assert_eq!(log.messages().len(), 4);
}

#[test]
fn of_fifty_first_appends_one_wins() {
    let log = MemoryLog::new();
    let won = (0..50).filter(|i| put(&log, "a", &format!("m{i}"), Expected::NEW).is_ok()).count();
    assert_eq!((won, log.messages().len()), (1, 1));
}

#[test]
fn the_largest_message_is_taken_and_one_byte_more_is_not() {
    let log = MemoryLog::new();
    let append = |id: &str, bytes: usize| {
        now(log.append(Append {
            entity: entity(id),
            expected: Expected::NEW,
            message_id: id.into(),
            bytes: vec![b'x'; bytes],
        }))
    };
    assert_eq!(append("a", MESSAGE_BYTES_MAX), Ok(Seq(1)));
    let max = MESSAGE_BYTES_MAX;
    assert_eq!(append("b", max + 1), Err(AppendError::TooLarge { bytes: max + 1, max }));
}

#[test]
fn load_gives_one_entity_oldest_first() {
    let log = MemoryLog::new();
    put(&log, "d-1", "x", Expected::NEW).unwrap();
    put(&log, "d-10", "y", Expected::NEW).unwrap();
    put(&log, "d-1", "z", Expected::at(Seq(1))).unwrap();
    let seqs = |id: &str| now(log.load(&entity(id))).unwrap().iter().map(|m| m.seq.0).collect::<Vec<_>>();
    assert_eq!((seqs("d-1"), seqs("d-10"), seqs("d-2")), (vec![1, 3], vec![2], vec![]));
    assert_eq!(Expected::after(&now(log.load(&entity("d-1"))).unwrap()), Expected::at(Seq(3)));
    assert_eq!(Expected::after(&[]), Expected::NEW);
}

#[rstest]
#[case::all(0, &[1, 2, 3])]
#[case::from_the_first(1, &[1, 2, 3])]
#[case::from_the_middle(2, &[2, 3])]
#[case::from_beyond(9, &[])]
fn read_is_in_order_and_ends(#[case] from: u64, #[case] expected: &[u64]) {
    let log = two();
    put(&log, "c", "c1", Expected::NEW).unwrap();
    let stream = now(log.read(Seq(from))).unwrap();
    put(&log, "d", "after the call", Expected::NEW).unwrap();
    let seqs: Vec<u64> = now(stream.map(|m| m.unwrap().seq.0).collect());
    assert_eq!(seqs, expected);
}

#[test]
fn tail_goes_on_without_gap_or_double() {
    let log = two();
    let mut tail = now(log.tail(Seq(2))).unwrap();
    let mut late = now(log.tail(Seq(4))).unwrap();
    let mut seqs = Vec::new();
    for id in ["c", "d", "e"] {
        while let Some(Some(message)) = tail.next().now_or_never() {
            seqs.push(message.unwrap().seq.0);
        }
        put(&log, id, id, Expected::NEW).unwrap();
    }
    while let Some(Some(message)) = tail.next().now_or_never() {
        seqs.push(message.unwrap().seq.0);
    }
    assert_eq!(seqs, [2, 3, 4, 5]);
    assert_eq!(late.next().now_or_never().unwrap().unwrap().unwrap().seq, Seq(4));
    assert_eq!(now(log.last_seq()), Ok(Seq(5)));
}

#[test]
fn clones_are_one_log_and_given_messages_keep_their_sequences() {
    let log = MemoryLog::new();
    assert_eq!(now(log.last_seq()), Ok(Seq(0)));
    put(&log.clone(), "a", "a1", Expected::NEW).unwrap();
    assert_eq!(log.messages().len(), 1);
    let stored = Stored { seq: Seq(7), log_subject: "ledger.key.a".into(), message_id: None, bytes: vec![] };
    let log = MemoryLog::from_messages(vec![stored]);
    assert_eq!(put(&log, "a", "a2", Expected::at(Seq(7))), Ok(Seq(8)));
}

proptest! {
    #[test]
    fn sequences_have_no_gap_whatever_is_appended(
        steps in prop::collection::vec((0u8..4, 0u8..12, 0u64..20), 0..60)
    ) {
        let log = MemoryLog::new();
        for (to, id, expected) in steps {
            let before = log.messages();
            let expected = if expected == 0 { Expected::NEW } else { Expected::at(Seq(expected)) };
            let entity_before: Vec<_> = before.iter().filter(|m| m.log_subject == format!("ledger.key.e{to}")).cloned().collect();
            let known = entity_before.iter().any(|m| m.message_id.as_deref() == Some(&format!("m{id}")));
            let fits = Expected::after(&entity_before) == expected;
            let said = put(&log, &format!("e{to}"), &format!("m{id}"), expected);
            prop_assert_eq!(said.is_ok(), known || fits);
            prop_assert_eq!(log.messages().len(), before.len() + usize::from(!known && fits));
            prop_assert!(log.messages().starts_with(&before), "history changed");
        }
        let seqs: Vec<u64> = log.messages().iter().map(|m| m.seq.0).collect();
        prop_assert_eq!(seqs, (1..=log.messages().len() as u64).collect::<Vec<_>>());
    }
}

const LONGEST: &str = "aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbccccccccccccccccccccdddddddddddddddddddd";

#[rstest]
#[case::ordinary("ledger.run.d-1", Some((Kind::Run, "d-1")))]
#[case::model_call("ledger.effect.d-1-m2", Some((Kind::Effect, "d-1-m2")))]
#[case::longest(&format!("ledger.key.{LONGEST}"), Some((Kind::Key, LONGEST)))]
#[case::too_long(&format!("ledger.key.{LONGEST}a"), None)]
#[case::unknown_kind("ledger.session.s-1", None)]
#[case::another_stream("launch.run.d-1", None)]
#[case::too_few("ledger.run", None)]
#[case::too_many("ledger.run.d-1.x", None)]
#[case::no_id("ledger.run.", None)]
#[case::a_wildcard("ledger.run.*", None)]
#[case::upper("ledger.run.D1", None)]
#[case::empty("", None)]
fn an_entity_is_its_log_subject(#[case] subject: &str, #[case] expected: Option<(Kind, &str)>) {
    let entity = Entity::parse(subject);
    assert_eq!(entity.as_ref().map(|e| (e.kind, e.id.as_str())), expected);
    if let Some(entity) = entity {
        assert_eq!(entity.log_subject(), subject);
        assert_eq!(Entity::new(entity.kind, &entity.id), Some(entity));
    }
}
