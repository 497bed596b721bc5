//! ledger.v2's schema and the code say the same about each event: type, shape, kind, writer.

use crate::fixtures::goldens;
use custody_contracts::catalogue::{find, shapes};
use custody_contracts::events::{DecodeError, Kind, LedgerEvent, Role, StopReason, TYPES};
use rstest::rstest;
use serde_json::Value;
use std::collections::BTreeSet;

#[test]
fn types_shapes_kinds_and_writers_are_the_schemas() {
    let schema: Value = serde_json::from_str(find("ledger.v2").unwrap().schema).unwrap();
    let listed: Vec<&str> = shapes("ledger.v2").unwrap().iter().map(String::as_str).collect();
    assert_eq!(listed, TYPES.map(|(_, shape)| shape));
    for golden in goldens().into_iter().filter(|g| g.contract == "ledger.v2") {
        let event_type = TYPES.iter().find(|(_, s)| *s == golden.shape).unwrap().0;
        let event = LedgerEvent::decode(event_type, &golden.value.to_string()).unwrap();
        let definition = &schema["$defs"][&golden.shape];
        assert_eq!(event.names(), (definition["x-type"].as_str().unwrap(), golden.shape.as_str()));
        assert_eq!(definition["x-kind"], event.kind().as_str(), "{}", golden.shape);
        assert_eq!(definition["x-writer"], event.kind().writer().as_str(), "{}", golden.shape);
        assert!(event_type.starts_with(&format!("custody.{}.", event.kind().as_str())), "{event_type}");
        let place = if golden.shape == "SubjectKeyChanged" { "/subject" } else { "/unit/identity/subject" };
        let person = golden.value.pointer(place).and_then(Value::as_str);
        assert_eq!(event.subject().map(|s| s.as_str()), person);
    }
}

#[rstest]
#[case::unknown("custody.dispatch.paused.v1", "{}", "not known")]
#[case::another_version("custody.dispatch.admitted.v2", "{}", "not known")]
#[case::other_data("custody.key.retired.v1", r#"{"kid":"k"}"#, "not a valid KeyRetired")]
#[case::unknown_field("custody.key.retired.v1", r#"{"kid":"k","why":"w","x":1}"#, "not a valid KeyRetired")]
#[case::not_json("custody.key.retired.v1", "{", "not a valid KeyRetired")]
#[case::endless_type(&"x".repeat(5_000), "{}", "not known")]
fn what_is_no_event_is_named(#[case] event_type: &str, #[case] data: &str, #[case] expected: &str) {
    let error = LedgerEvent::decode(event_type, data).unwrap_err();
    assert!(error.to_string().contains(expected) && error.to_string().len() < 200, "{error}");
    assert_eq!(matches!(error, DecodeError::UnknownType(_)), expected == "not known");
}

#[test]
fn words_are_read_as_they_are_written_and_no_two_are_alike() {
    for kind in Kind::ALL {
        assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    for role in Role::ALL {
        assert_eq!(Role::parse(role.as_str()), Some(role));
        assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
    }
    assert_eq!((Kind::parse("session"), Role::parse("root")), (None, None));
    let kinds: BTreeSet<_> = Kind::ALL.iter().map(|k| k.as_str()).collect();
    let roles: BTreeSet<_> = Role::ALL.iter().map(|r| r.as_str()).collect();
    assert_eq!((kinds.len(), roles.len()), (Kind::ALL.len(), Role::ALL.len()));
}

#[test]
fn stop_reasons_are_those_of_runtime_v1() {
    let schema: Value = serde_json::from_str(find("runtime.v1").unwrap().schema).unwrap();
    let listed = schema["$defs"]["StopReason"]["enum"].as_array().unwrap();
    assert_eq!(listed.len(), 9);
    for word in listed {
        let reason: StopReason = serde_json::from_value(word.clone()).unwrap();
        assert_eq!(reason.as_str(), word.as_str().unwrap());
    }
}
