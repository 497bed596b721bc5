//! Verification of a whole log: the good one passes, every changed one fails, and the first bad sequence is named.

use crate::fixtures::{
    Writer, authority, beginning, checkpoint, gateway, golden, good, introduce, meta, renumbered, runtime, stranger,
    verify, verify_pinned,
};
use custody_contracts::canonical::hex;
use custody_contracts::envelope::MESSAGE_BYTES_MAX;
use custody_ledger::recorded::encode;
use custody_ledger::{Seq, Sign, Stored};
use custody_trust::RoleKey;
use custody_trust::verify::KeptHead;
use rstest::rstest;
use std::collections::BTreeMap;

#[test]
fn a_good_log_passes_and_everything_in_it_is_counted() {
    let log = good();
    let report = verify(&log.messages, &[]).unwrap();
    assert_eq!((report.messages, report.signatures, report.checkpoints, report.covered), (12, 13, 2, 11));
    assert_eq!(report.head, hex(&log.head().root));
    assert_eq!(report.root_key.as_deref(), Some(authority().kid()));
    let expected = [(authority(), 9), (gateway(), 1), (runtime(), 3)].map(|(k, n)| (k.kid().to_owned(), n));
    assert_eq!(report.keys, BTreeMap::from(expected));
}

#[test]
fn a_good_log_passes_with_every_head_that_was_ever_kept() {
    let log = good();
    let kept: Vec<KeptHead> = (0..=log.messages.len()).map(|size| log.head_over(size)).collect();
    let root = authority();
    assert_eq!(verify_pinned(&log.messages, &kept, Some(root.kid())).unwrap().messages, 12);
}

#[test]
fn an_empty_log_has_nothing_wrong() {
    let report = verify(&[], &[]).unwrap();
    assert_eq!((report.messages, report.root_key), (0, None));
    assert_eq!(report.head, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/// Every third byte of every message, changed in two ways: one bit, and the case of a letter.
#[test]
fn each_changed_byte_is_found_in_its_own_message() {
    let log = good();
    let mut tried = 0;
    for (at, message) in log.messages.iter().enumerate() {
        for place in (0..message.bytes.len()).step_by(3) {
            for mask in [0x01, 0x20] {
                let mut messages = log.messages.clone();
                messages[at].bytes[place] ^= mask;
                let finding = verify(&messages, &[]).expect_err("a changed byte passed");
                let expected = message.seq.0;
                assert_eq!(finding.seq, expected, "byte {place} ^ {mask}: {finding:?}");
                assert!(matches!(finding.code, "NOT_AUTHENTIC" | "CHECKPOINT_MISMATCH"), "{finding:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 5_000, "{tried}");
}

type Change = fn(&mut Vec<Stored>);

const DELETE_5: Change = |m| {
    m.remove(4);
};
const DELETE_5_RENUMBERED: Change = |m| {
    m.remove(4);
    *m = renumbered(std::mem::take(m));
};
const DELETE_FIRST: Change = |m| {
    m.remove(0);
    *m = renumbered(std::mem::take(m));
};
const SWAP: Change = |m| m.swap(7, 8);
const SWAP_RENUMBERED: Change = |m| {
    m.swap(7, 8);
    *m = renumbered(std::mem::take(m));
};
const REPEAT: Change = |m| m.insert(8, m[7].clone());
const REPEAT_RENUMBERED: Change = |m| {
    m.insert(8, m[7].clone());
    *m = renumbered(std::mem::take(m));
};
const TO_ANOTHER_KIND: Change = |m| m[7].log_subject = "ledger.effect.d-1".into();
const TO_ANOTHER_RUN: Change = |m| m[7].log_subject = "ledger.run.d-another".into();
const INSERT_BY_A_STRANGER: Change = |m| {
    let bytes = encode(&stranger(), "x", &[golden("RunStarted")], &meta()).unwrap();
    m.insert(8, Stored { bytes, ..m[7].clone() });
    *m = renumbered(std::mem::take(m));
};
const INSERT_NOTHING: Change = |m| {
    m.insert(8, Stored { bytes: b"[]".to_vec(), ..m[7].clone() });
    *m = renumbered(std::mem::take(m));
};
const A_SPACE: Change = |m| m[7].bytes.insert(1, b' ');
const ANOTHER_ORDER_OF_FIELDS: Change = |m| {
    let text = String::from_utf8(m[7].bytes.clone()).unwrap();
    let inner = text.strip_prefix('{').unwrap().strip_suffix("\"type\":\"custody.run.started.v1\"}").unwrap();
    m[7].bytes = format!("{{\"type\":\"custody.run.started.v1\",{}}}", inner.trim_end_matches(',')).into_bytes();
};
const A_FIELD_TWICE: Change = |m| {
    let text = String::from_utf8(m[7].bytes.clone()).unwrap();
    m[7].bytes = text.replace("\"phases_ms\":{", "\"phases_ms\":{\"x\":1,\"x\":1,").into_bytes();
};
const TWO_AS_ONE: Change = |m| {
    let two = [b"[".as_slice(), &m[7].bytes, b",", &m[9].bytes, b"]"].concat();
    m[7].bytes = two;
};

#[rstest]
#[case::deleted(DELETE_5, 5, "GAP")]
#[case::deleted_and_numbered_anew(DELETE_5_RENUMBERED, 6, "CHECKPOINT_MISMATCH")]
#[case::the_first_deleted(DELETE_FIRST, 1, "NOT_AUTHENTIC")]
#[case::reordered(SWAP, 8, "GAP")]
#[case::reordered_and_numbered_anew(SWAP_RENUMBERED, 12, "CHECKPOINT_MISMATCH")]
#[case::repeated(REPEAT, 8, "GAP")]
#[case::repeated_and_numbered_anew(REPEAT_RENUMBERED, 13, "CHECKPOINT_MISMATCH")]
#[case::moved_to_another_kind(TO_ANOTHER_KIND, 8, "NOT_AUTHENTIC")]
#[case::moved_to_another_run(TO_ANOTHER_RUN, 8, "MISPLACED")]
#[case::inserted_by_a_stranger(INSERT_BY_A_STRANGER, 9, "NOT_AUTHENTIC")]
#[case::inserted_without_an_event(INSERT_NOTHING, 9, "NOT_AUTHENTIC")]
#[case::a_space_more(A_SPACE, 8, "NOT_AUTHENTIC")]
#[case::fields_in_another_order(ANOTHER_ORDER_OF_FIELDS, 8, "NOT_AUTHENTIC")]
#[case::a_field_twice(A_FIELD_TWICE, 8, "NOT_AUTHENTIC")]
#[case::two_messages_as_one(TWO_AS_ONE, 12, "CHECKPOINT_MISMATCH")]
fn each_way_to_change_a_log_is_found(#[case] change: Change, #[case] seq: u64, #[case] code: &str) {
    let mut messages = good().messages;
    change(&mut messages);
    let finding = verify(&messages, &[]).expect_err("a changed log passed");
    assert_eq!((finding.seq, finding.code), (seq, code), "{}", finding.message);
}

#[rstest]
#[case::after_the_last_checkpoint(11, 12)]
#[case::to_the_first_checkpoint(7, 8)]
#[case::to_nothing(0, 1)]
fn a_log_that_was_cut_is_found_by_a_head_kept_outside(#[case] left: usize, #[case] first_missing: u64) {
    let log = good();
    let messages = &log.messages[..left];
    assert!(verify(messages, &[]).is_ok(), "nothing inside a log says where it ends");
    let finding = verify(messages, &[log.head()]).unwrap_err();
    assert_eq!((finding.seq, finding.code), (first_missing, "TRUNCATED"));
}

#[test]
fn what_a_thief_of_a_roles_key_signs_anew_is_found_at_the_next_checkpoint() {
    let mut log = good();
    let mut later = golden("RunClaimed");
    if let custody_contracts::events::LedgerEvent::Run(custody_contracts::events::RunEvent::Claimed(claim)) = &mut later
    {
        claim.runtime = "another".into();
    }
    log.messages[5].bytes = encode(&runtime(), "c6", &[later], &meta()).unwrap();
    let finding = verify(&log.messages, &[]).unwrap_err();
    assert_eq!((finding.seq, finding.code), (7, "CHECKPOINT_MISMATCH"));
    let without_checkpoint = &log.messages[..6];
    assert!(
        verify(without_checkpoint, &[good().head_over(5)]).is_ok(),
        "before a checkpoint a role can rewrite its own"
    );
    let finding = verify(without_checkpoint, &[good().head_over(6)]).unwrap_err();
    assert_eq!((finding.seq, finding.code), (6, "HEAD_MISMATCH"));
}

/// Somebody who has every key writes another history with good checkpoints.
fn another_history() -> Writer {
    let mut writer = beginning();
    writer
        .say(&authority(), "d-7f3a", &[golden("DispatchRefused")])
        .say(&authority(), "d-7f3a", &[golden("DispatchAdmitted")])
        .checkpoint(&authority());
    writer
}

#[test]
fn another_history_under_the_same_keys_is_found_by_a_head_kept_outside() {
    let (kept, other) = (good().head_over(6), another_history());
    assert!(verify(&other.messages, &[]).is_ok(), "whoever holds all keys can write a log that agrees with itself");
    let finding = verify(&other.messages, std::slice::from_ref(&kept)).unwrap_err();
    assert_eq!((finding.seq, finding.code), (6, "HEAD_MISMATCH"));
    let own = other.head_over(6);
    for heads in [[kept.clone(), own.clone()], [own, kept]] {
        let finding = verify(&other.messages, &heads).expect_err("two witnesses that differ");
        assert_eq!((finding.seq, finding.code), (6, "HEAD_MISMATCH"));
    }
}

#[test]
fn a_log_of_another_authority_is_found_by_its_pinned_first_key() {
    let other = RoleKey::from_seed(custody_contracts::events::Role::Authority, &[7; 32]);
    let mut log = Writer::default();
    log.say(&other, other.kid(), &[introduce(&other)]);
    assert!(verify(&log.messages, &[]).is_ok());
    let finding = verify_pinned(&log.messages, &[], Some(authority().kid())).unwrap_err();
    assert_eq!((finding.seq, finding.code), (1, "WRONG_LOG"));
    assert!(finding.message.contains(other.kid()) && finding.message.contains(authority().kid()));
}

#[test]
fn a_checkpoint_must_be_over_this_log_and_signed_by_its_writer() {
    let head = beginning().head();
    let other_root = KeptHead { root: [7; 32], ..head.clone() };
    let mut too_large = beginning();
    too_large.say(&authority(), "log", &[golden("LauncherRegistered")]);
    let ahead = KeptHead { size: 9, ..head.clone() };
    let mut events = vec![
        (authority(), checkpoint(&authority(), &other_root), "CHECKPOINT_MISMATCH"),
        (authority(), checkpoint(&authority(), &ahead), "CHECKPOINT_MISMATCH"),
        (authority(), checkpoint(&authority(), &KeptHead { size: 0, ..head.clone() }), "CHECKPOINT_MISMATCH"),
        (authority(), checkpoint(&runtime(), &head), "CHECKPOINT_MISMATCH"),
        (authority(), golden("CheckpointSigned"), "CHECKPOINT_MISMATCH"),
        (runtime(), checkpoint(&runtime(), &head), "NOT_AUTHENTIC"),
    ];
    // The event says one head and its note another.
    let mut differs = checkpoint(&authority(), &head);
    if let custody_contracts::events::LedgerEvent::Checkpoint(custody_contracts::events::CheckpointEvent::Signed(c)) =
        &mut differs
    {
        c.size = 3;
    }
    events.push((authority(), differs, "CHECKPOINT_MISMATCH"));
    for (key, event, code) in events {
        let mut log = beginning();
        log.say(&key, "log", &[event]);
        let finding = verify(&log.messages, &[]).unwrap_err();
        assert_eq!((finding.seq, finding.code), (5, code), "{}", finding.message);
    }
    let mut log = beginning();
    log.say(&authority(), "log", &[checkpoint(&authority(), &head)]);
    assert_eq!(verify(&log.messages, &[]).unwrap().covered, 4, "the honest one beside them");
}

#[test]
fn a_log_that_does_not_begin_at_one_has_a_gap() {
    let mut messages = good().messages;
    messages.iter_mut().for_each(|m| m.seq = Seq(m.seq.0 + 1));
    let finding = verify(&messages, &[]).unwrap_err();
    assert_eq!((finding.seq, finding.code), (1, "GAP"));
    assert!(messages.iter().all(|m| m.bytes.len() < MESSAGE_BYTES_MAX));
}

/// Signatures looked at together, every way to change a log: the finding is the one of message after message.
#[test]
fn messages_taken_together_are_found_bad_where_they_are_bad_alone() {
    use custody_trust::verify::{Finding, Pending, Verifier};
    let together = |messages: &[Stored], size: usize| -> Result<custody_trust::verify::Report, Finding> {
        let mut verifier = Verifier::new(&[], None);
        for some in messages.chunks(size) {
            verifier.push_all(some, |pending| pending.iter().all(Pending::good))?;
        }
        verifier.finish()
    };
    let changes = [
        DELETE_5,
        DELETE_5_RENUMBERED,
        DELETE_FIRST,
        SWAP,
        SWAP_RENUMBERED,
        REPEAT,
        REPEAT_RENUMBERED,
        TO_ANOTHER_KIND,
        TO_ANOTHER_RUN,
        INSERT_BY_A_STRANGER,
        INSERT_NOTHING,
        A_SPACE,
        ANOTHER_ORDER_OF_FIELDS,
        A_FIELD_TWICE,
        TWO_AS_ONE,
    ];
    for size in [1, 3, 5, 100] {
        assert_eq!(together(&good().messages, size), verify(&good().messages, &[]));
        for change in changes {
            let mut messages = good().messages;
            change(&mut messages);
            let expected = verify(&messages, &[]);
            assert!(expected.is_err());
            assert_eq!(together(&messages, size), expected, "groups of {size}");
        }
        for (at, message) in good().messages.iter().enumerate() {
            let mut messages = good().messages;
            let place = message.bytes.windows(12).position(|w| w == b"\"signature\":").unwrap() + 14;
            messages[at].bytes[place] = if message.bytes[place] == b'0' { b'1' } else { b'0' };
            let expected = verify(&messages, &[]);
            assert_eq!(expected.as_ref().unwrap_err().seq, message.seq.0);
            assert_eq!(together(&messages, size), expected, "a signature at {}", message.seq);
        }
    }
}
