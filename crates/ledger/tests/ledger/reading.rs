//! Stored messages as they are read: every event of the contract, several at once, and what cannot be read.

use crate::fixtures::{NoKey, introduced, meta, retired};
use custody_contracts::events::{LedgerEvent, TYPES};
use custody_ledger::recorded::encode;
use custody_ledger::{Recorded, RecordedError, Seq, Stored};
use rstest::rstest;
use serde_json::Value;
use std::path::Path;

fn stored(log_subject: &str, bytes: Vec<u8>) -> Stored {
    Stored { seq: Seq(4), log_subject: log_subject.into(), message_id: None, bytes }
}

#[test]
fn every_golden_event_is_stored_and_read_as_itself() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/ledger.v2/golden");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let shape = path.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
        let event_type = TYPES.iter().find(|(_, s)| *s == shape).unwrap().0;
        let event = LedgerEvent::decode(event_type, &std::fs::read_to_string(&path).unwrap()).unwrap();
        let bytes = encode(&NoKey, "c1", std::slice::from_ref(&event), &meta()).unwrap();
        let subject = format!("ledger.{}.x", event.kind().as_str());
        let recorded = Recorded::read(&stored(&subject, bytes)).unwrap();
        assert_eq!(recorded.len(), 1);
        assert_eq!((recorded[0].seq, recorded[0].entity.log_subject()), (Seq(4), subject));
        assert_eq!(recorded[0].event.as_ref(), Some(&event), "{}", path.display());
        read += 1;
    }
    assert_eq!(read, 80);
}

#[test]
fn several_events_are_one_array_in_order_each_signed_for_itself() {
    let events = [LedgerEvent::Key(introduced("a")), LedgerEvent::Key(retired("a"))];
    let bytes = encode(&NoKey, "c1", &events, &meta()).unwrap();
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(value.as_array().unwrap().len(), 2);
    assert_ne!(value[0]["signature"], value[1]["signature"]);
    let recorded = Recorded::read(&stored("ledger.key.a", bytes.clone())).unwrap();
    assert_eq!(recorded.iter().map(|r| r.event.clone().unwrap()).collect::<Vec<_>>(), events);
    assert!(recorded.iter().all(|r| r.seq == Seq(4)));
    assert_eq!(bytes, encode(&NoKey, "c1", &events, &meta()).unwrap(), "the same decision is the same bytes");
}

#[test]
fn a_type_that_is_not_known_is_read_without_an_event() {
    let bytes = encode(&NoKey, "c1", &[LedgerEvent::Key(retired("a"))], &meta()).unwrap();
    let newer = String::from_utf8(bytes).unwrap().replace("custody.key.retired.v1", "custody.key.retired.v2");
    let recorded = Recorded::read(&stored("ledger.key.a", newer.into_bytes())).unwrap();
    assert_eq!(recorded[0].event, None);
    assert_eq!(recorded[0].envelope.kind, "custody.key.retired.v2");
}

fn good() -> String {
    String::from_utf8(encode(&NoKey, "c1", &[LedgerEvent::Key(retired("a"))], &meta()).unwrap()).unwrap()
}

#[rstest]
#[case::another_stream("launch.web.dispatch", good(), "not a ledger entity")]
#[case::unknown_kind("ledger.session.s", good(), "not a ledger entity")]
#[case::endless_subject(&"x".repeat(9_000), good(), "not a ledger entity")]
#[case::empty("ledger.key.a", String::new(), "not a ledger envelope")]
#[case::not_json("ledger.key.a", "{".into(), "not a ledger envelope")]
#[case::cut_off("ledger.key.a", good()[..40].into(), "not a ledger envelope")]
#[case::unknown_attribute("ledger.key.a", good().replacen('{', "{\"x\":1,", 1), "not a ledger envelope")]
#[case::data_of_another_shape("ledger.key.a", good().replace("\"why\"", "\"reason\""), "KeyRetired")]
#[case::unknown_field_in_data("ledger.key.a", good().replace("\"why\"", "\"x\":1,\"why\""), "KeyRetired")]
fn what_cannot_be_read_is_an_error_with_its_sequence(#[case] subject: &str, #[case] bytes: String, #[case] says: &str) {
    let error = Recorded::read(&stored(subject, bytes.into_bytes())).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("sequence 4: ") && text.contains(says) && text.len() < 400, "{text}");
    assert_eq!(matches!(error, RecordedError::BadSubject { .. }), says == "not a ledger entity");
}
