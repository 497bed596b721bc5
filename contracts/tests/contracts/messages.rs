//! Messages as they cross the wire: the envelope of a ledger event, a launch, a CloudEvent from a stranger.

use crate::fixtures::goldens;
use custody_contracts::canonical::hex;
use custody_contracts::cloudevent::{IncomingError, read};
use custody_contracts::envelope::{Envelope, EnvelopeError, Meta, seal, signed_bytes, split_signature, unsigned};
use custody_contracts::events::{LedgerEvent, TYPES};
use custody_contracts::launch;
use rstest::rstest;
use serde_json::{Value, json};

fn meta() -> Meta {
    let text = |t: &str| Some(t.to_owned());
    Meta {
        time: "2026-11-22T21:00:00.000Z".into(),
        subject: text("u_jane"),
        causation: text("launch/7"),
        correlation: text("d-1"),
        launcher: text("web-chat"),
        grant: text("g-1"),
        traceparent: text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    }
}

fn events() -> Vec<(LedgerEvent, Value)> {
    let ledger = goldens().into_iter().filter(|g| g.contract == "ledger.v2");
    ledger
        .map(|g| {
            let event_type = TYPES.iter().find(|(_, s)| *s == g.shape).unwrap().0;
            (LedgerEvent::decode(event_type, &g.value.to_string()).unwrap(), g.value)
        })
        .collect()
}

#[test]
fn every_event_comes_out_of_its_envelope_as_it_went_in() {
    for (event, data) in events() {
        let map = unsigned("c-1/0", "authority", "k-1", &event, &meta()).unwrap();
        let bytes = seal(map.clone(), hex(&[7; 64]));
        let read = Envelope::read(&bytes).unwrap();
        assert_eq!(read.len(), 1);
        let envelope = &read[0];
        assert_eq!(envelope.event().unwrap(), event);
        assert_eq!(envelope.kind, event.names().0);
        assert_eq!(envelope.dataschema, format!("custody:ledger.v2#/$defs/{}", event.names().1));
        assert_eq!(
            (envelope.id.as_str(), envelope.source.as_str(), envelope.keyid.as_str(), envelope.time.as_str()),
            ("c-1/0", "custody/authority", "k-1", meta().time.as_str())
        );
        let said = Meta {
            time: envelope.time.clone(),
            subject: envelope.subject.clone(),
            causation: envelope.causation.clone(),
            correlation: envelope.correlation.clone(),
            launcher: envelope.launcher.clone(),
            grant: envelope.grant.clone(),
            traceparent: envelope.traceparent.clone(),
        };
        assert_eq!(said, meta());
        let (covered, signature) = split_signature(serde_json::from_slice(&bytes).unwrap()).unwrap();
        assert_eq!((covered, signature), (signed_bytes(&map), "07".repeat(64)));
        // The data is the golden, but for a token that is never stored.
        let stored: Value = serde_json::from_str(envelope.data.get()).unwrap();
        if data.pointer("/unit").is_none() {
            assert_eq!(stored, data);
        }
    }
}

#[test]
fn the_same_event_is_the_same_bytes() {
    let (event, _) = events().remove(0);
    let bytes = || seal(unsigned("c-1/0", "authority", "k-1", &event, &meta()).unwrap(), "00".repeat(64));
    assert_eq!(bytes(), bytes());
    assert_eq!(bytes().first(), Some(&b'{'));
    assert!(!bytes().contains(&b'\n'));
}

fn envelope() -> Value {
    let (event, _) = events().remove(0);
    let map = unsigned("c-1/0", "authority", "k-1", &event, &meta()).unwrap();
    serde_json::from_slice(&seal(map, "00".repeat(64))).unwrap()
}

#[rstest]
#[case::empty(b"".to_vec())]
#[case::not_json(b"{".to_vec())]
#[case::a_text(b"\"x\"".to_vec())]
#[case::a_list_of_texts(b"[\"x\"]".to_vec())]
#[case::an_array_without_events(b"[]".to_vec())]
#[case::an_array_of_one(format!("[{}]", envelope()).into_bytes())]
#[case::two_documents([envelope().to_string(), envelope().to_string()].concat().into_bytes())]
#[case::unknown_attribute({ let mut e = envelope(); e["x"] = json!(1); e.to_string().into_bytes() })]
#[case::no_signature({ let mut e = envelope(); e.as_object_mut().unwrap().remove("signature"); e.to_string().into_bytes() })]
#[case::no_key({ let mut e = envelope(); e.as_object_mut().unwrap().remove("keyid"); e.to_string().into_bytes() })]
fn what_is_no_envelope_is_malformed(#[case] bytes: Vec<u8>) {
    assert!(matches!(Envelope::read(&bytes), Err(EnvelopeError::Malformed(_))));
}

#[rstest]
#[case::not_an_object(json!([]))]
#[case::no_signature(json!({ "id": "x" }))]
#[case::a_number_as_signature(json!({ "signature": 1 }))]
fn what_carries_no_signature_cannot_be_split(#[case] value: Value) {
    assert!(split_signature(value).is_err());
}

#[test]
fn several_events_of_one_decision_are_read_in_order() {
    let list = json!([envelope(), envelope()]).to_string();
    assert_eq!(Envelope::read(list.as_bytes()).unwrap().len(), 2);
}

fn launch_event() -> Value {
    let unit = goldens().into_iter().find(|g| g.place == "unit.v1/Invocation.minimal.json").unwrap().value;
    let unit = serde_json::from_value(unit).unwrap();
    Value::Object(launch::unsigned("m-1", "web-chat", "2026-11-22T21:00:00Z", &unit).unwrap())
}

#[test]
fn a_launch_is_a_cloudevent_and_its_signature_covers_all_but_itself() {
    let mut event = launch_event();
    let incoming = read(event.to_string().as_bytes()).unwrap();
    assert_eq!((incoming.id.as_str(), incoming.kind.as_str()), ("m-1", launch::TYPE));
    assert_eq!((incoming.source.as_str(), incoming.time_ms), ("launcher/web-chat", Some(1_795_381_200_000)));
    assert_eq!((incoming.keyid, incoming.signature, incoming.traceparent), (None, None, None));
    let before = launch::signed_bytes(event.as_object().unwrap());
    event["signature"] = json!("00");
    assert_eq!(launch::signed_bytes(event.as_object().unwrap()), before);
    event["keyid"] = json!("U");
    assert_ne!(launch::signed_bytes(event.as_object().unwrap()), before);
    let incoming = read(event.to_string().as_bytes()).unwrap();
    assert_eq!((incoming.keyid.as_deref(), incoming.signature.as_deref()), (Some("U"), Some("00")));
}

fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut event = launch_event();
    change(&mut event);
    event.to_string().into_bytes()
}

#[rstest]
#[case::empty(b"".to_vec(), "not JSON")]
#[case::not_json(b"{\"id\":".to_vec(), "not JSON")]
#[case::not_utf8(vec![b'"', 0xff, b'"'], "not JSON")]
#[case::a_batch(format!("[{}]", launch_event()).into_bytes(), "not a CloudEvent")]
#[case::a_text(b"\"x\"".to_vec(), "not a CloudEvent")]
#[case::no_id(changed(|e| { e.as_object_mut().unwrap().remove("id"); }), "not a CloudEvent")]
#[case::older_specversion(changed(|e| e["specversion"] = json!("0.3")), "not a CloudEvent")]
#[case::no_specversion(changed(|e| { e.as_object_mut().unwrap().remove("specversion"); }), "not a CloudEvent")]
#[case::other_specversion(changed(|e| e["specversion"] = json!("2.0")), "not a CloudEvent")]
#[case::time_of_no_calendar(changed(|e| e["time"] = json!("yesterday")), "not a CloudEvent")]
#[case::an_upper_case_attribute(changed(|e| e["Rollup"] = json!("all")), "not a CloudEvent")]
#[case::an_attribute_with_a_dash(changed(|e| e["nats-rollup"] = json!("all")), "not a CloudEvent")]
#[case::two_kinds_of_data(changed(|e| e["data_base64"] = json!("e30=")), "not a CloudEvent")]
#[case::empty_id(changed(|e| e["id"] = json!("")), "1 to 256")]
#[case::long_id(changed(|e| e["id"] = json!("i".repeat(257))), "1 to 256")]
#[case::no_data(changed(|e| { e.as_object_mut().unwrap().remove("data"); }), "no JSON data")]
#[case::text_data(changed(|e| { e["datacontenttype"] = json!("text/plain"); e["data"] = json!("hello"); }), "no JSON data")]
#[case::binary_data(changed(|e| { e.as_object_mut().unwrap().remove("data"); e["datacontenttype"] = json!("image/png"); e["data_base64"] = json!("iVBO"); }), "no JSON data")]
#[case::binary_data_that_says_it_is_json(changed(|e| { e.as_object_mut().unwrap().remove("data"); e["data_base64"] = json!("iVBO"); }), "no JSON data")]
fn what_is_no_launch_event_says_why(#[case] bytes: Vec<u8>, #[case] expected: &str) {
    let error: IncomingError = read(&bytes).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn the_longest_id_is_taken() {
    let bytes = changed(|e| e["id"] = json!("é".repeat(256)));
    assert_eq!(read(&bytes).unwrap().id.chars().count(), 256);
}
