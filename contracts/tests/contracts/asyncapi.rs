//! The generated descriptions say what is true: every subject, every event, and schemas that judge as the catalogue does.

use crate::fixtures::{goldens, rejects};
use custody_contracts::asyncapi::{COMMANDS, ChannelFacts, StreamFacts, document, schemas};
use custody_contracts::catalogue::{ALL, shapes};
use custody_contracts::envelope::{Meta, seal, unsigned};
use custody_contracts::events::{Kind, LedgerEvent, TYPES};
use custody_contracts::launch;
use jsonschema::Draft;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn facts() -> Vec<ChannelFacts> {
    let stream = StreamFacts {
        stream: "LEDGER".into(),
        retention: "limits".into(),
        discard: "new".into(),
        duplicate_window_ms: 600_000,
        max_age_ms: None,
        max_message_bytes: Some(66_560),
        max_bytes: Some(8 << 30),
        deny_delete: true,
        deny_purge: true,
    };
    vec![
        ChannelFacts { subjects: vec!["ledger.*.*".into()], stream: Some(stream), verbs: vec![] },
        ChannelFacts { subjects: vec!["query.>".into()], stream: None, verbs: vec!["dispatch.ls".into()] },
    ]
}

#[test]
fn every_subject_has_a_channel() {
    let document = document(&facts());
    let addresses: Vec<&str> =
        document["channels"].as_object().unwrap().values().filter_map(|c| c["address"].as_str()).collect();
    let wanted = [
        "launch.{launcher}.dispatch",
        "reply.{launcher}.{dispatch}",
        "unit.{dispatch}.out",
        "unit.{dispatch}.in",
        "transcript.{meeting}",
        "query.{verb}",
    ];
    let kinds = Kind::ALL.map(|k| format!("ledger.{}.{{id}}", k.as_str()));
    let commands = COMMANDS.map(|(verb, _)| format!("command.{verb}"));
    for address in wanted.iter().map(|a| (*a).to_owned()).chain(kinds).chain(commands) {
        assert!(addresses.contains(&address.as_str()), "{address}");
    }
}

#[test]
fn every_event_is_a_message_of_its_kinds_channel_sent_by_its_writer() {
    let document = document(&facts());
    for (event_type, shape) in TYPES {
        let kind = Kind::parse(event_type.split('.').nth(1).unwrap()).unwrap();
        let channel = &document["channels"][format!("ledger.{}", kind.as_str())];
        assert!(channel["messages"][shape].is_object(), "{shape}");
        let operation = &document["operations"][format!("ledger.{}", kind.as_str())];
        assert_eq!((&operation["action"], &operation["x-role"]), (&json!("send"), &json!(kind.writer().as_str())));
        assert_eq!(document["components"]["messages"][shape]["payload"]["properties"]["type"]["const"], event_type);
    }
}

#[test]
fn what_only_the_stream_knows_comes_from_the_facts() {
    let with = document(&facts());
    assert_eq!(with["channels"]["ledger.run"]["x-jetstream"]["stream"], "LEDGER");
    assert_eq!(with["channels"]["ledger.run"]["x-jetstream"]["duplicate_window_ms"], 600_000);
    assert_eq!(with["channels"]["ledger.run"]["x-jetstream"]["max_message_bytes"], 66_560);
    assert_eq!(with["channels"]["launch"].get("x-jetstream"), None);
    assert_eq!(with["channels"]["query"]["parameters"]["verb"]["enum"], json!(["dispatch.ls"]));
    assert_eq!(document(&[])["channels"]["ledger.run"].get("x-jetstream"), None);
    assert_eq!(document(&[])["channels"]["query"]["parameters"]["verb"].get("enum"), None);
}

#[test]
fn the_document_is_the_same_each_time() {
    assert_eq!(document(&facts()).to_string(), document(&facts()).to_string());
    assert_eq!(document(&facts())["asyncapi"], "3.1.0");
}

/// Every `$ref` of a value.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|inner| references(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_inside_the_document() {
    let document = document(&facts());
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in &found {
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads outside"));
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    assert!(found.len() > 150, "{}", found.len());
}

/// A validator of one message's payload, which refers into the whole document.
fn payload(document: &Value, message: &str) -> jsonschema::Validator {
    let mut schema = document.clone();
    schema["$ref"] = json!(format!("#/components/messages/{message}/payload"));
    jsonschema::options().with_draft(Draft::Draft7).build(&schema).unwrap_or_else(|e| panic!("{message}: {e}"))
}

#[test]
fn payloads_describe_the_bytes_that_are_really_stored() {
    let document = document(&facts());
    for golden in goldens().into_iter().filter(|g| g.contract == "ledger.v2") {
        let event_type = TYPES.iter().find(|(_, s)| *s == golden.shape).unwrap().0;
        let event = LedgerEvent::decode(event_type, &golden.value.to_string()).unwrap();
        let meta = Meta { time: "2026-11-22T21:00:00.000Z".into(), grant: Some("g".into()), ..Meta::default() };
        let map = unsigned("c/0", event.kind().writer().as_str(), "k", &event, &meta).unwrap();
        let mut stored: Value = serde_json::from_slice(&seal(map, "0".repeat(128))).unwrap();
        let validator = payload(&document, &golden.shape);
        assert!(validator.is_valid(&stored), "{}: {:?}", golden.place, validator.iter_errors(&stored).next());
        stored["source"] = json!("custody/projector");
        assert!(!validator.is_valid(&stored), "{}: another writer passes", golden.place);
    }
}

#[test]
fn the_launch_payload_takes_every_good_unit_and_no_bad_one() {
    let document = document(&facts());
    let validator = payload(&document, "Launch");
    let event = |unit: &Value| json!({ "specversion": "1.0", "id": "m", "source": "launcher/x", "type": launch::TYPE, "data": unit, "myextension": 1 });
    for golden in goldens().into_iter().filter(|g| g.contract == "unit.v1") {
        assert!(validator.is_valid(&event(&golden.value)), "{}", golden.place);
    }
    for reject in rejects().into_iter().filter(|r| r.contract == "unit.v1") {
        assert!(!validator.is_valid(&event(&reject.value)), "{}", reject.place);
    }
}

#[test]
fn standalone_schemas_judge_as_the_catalogue_does() {
    let schemas = schemas();
    assert_eq!(schemas.len(), ALL.iter().map(|c| shapes(c.name).unwrap().len()).sum::<usize>());
    let validators: BTreeMap<&String, jsonschema::Validator> = schemas
        .iter()
        .map(|(key, schema)| (key, jsonschema::options().with_draft(Draft::Draft202012).build(schema).unwrap()))
        .collect();
    for golden in goldens() {
        assert!(
            validators[&format!("{}.{}", golden.contract, golden.shape)].is_valid(&golden.value),
            "{}",
            golden.place
        );
    }
    for reject in rejects() {
        assert!(
            !validators[&format!("{}.{}", reject.contract, reject.shape)].is_valid(&reject.value),
            "{}",
            reject.place
        );
    }
}
