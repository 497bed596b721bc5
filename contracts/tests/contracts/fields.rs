//! No field is ignored: each one of each golden is read by its name and its type, and where a serde type decodes it,
//! another value is another event. A field that nothing looks at makes one of these tests fail.

use crate::fixtures::{Document, decoder, pattern, pointers, with, without};
use custody_contracts::catalogue::{ALL, check};
use custody_contracts::upcast::STEPS;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Maps whose keys are not ours: environment, phases, JSON pointers, somebody else's arguments and schemas.
const OPEN_MAPS: &[&str] = &[
    "agent-runner.v2 Runner /env",
    "box.v2 Frame /args",
    "box.v2 Job /runner/env",
    "ledger.v2 RunFinished /phases_ms",
    "ledger.v2 RunStarted /phases_ms",
    "output.v2 Chunk /frames/*/args",
    "runtime.v1 WorkloadSpec /env",
    "schedule.v1 Schedule /when/event/match",
    "tool.v1 Tool /args_schema",
    "tool.v1 Tool /args_schema/properties",
    "tool.v1 Tool /args_schema/properties/to",
    "ws.v1 ServerFrame /events/*/data",
    "ws.v1 ServerFrame /state",
];

/// Values that are not ours: any type is right there.
const OPEN_VALUES: &[&str] = &[
    "agent-runner.v2 Runner /stream/map/*/when/~1event~1delta~1type",
    "agent-runner.v2 Runner /stream/map/*/when/~1is_error",
    "agent-runner.v2 Runner /stream/map/*/when/~1subtype",
    "agent-runner.v2 Runner /stream/map/*/when/~1type",
    "agent-runner.v2 Runner /stream/map/*/values/output_tokens",
    "box.v2 Frame /args/path",
    "box.v2 Job /runner/stream/map/*/when/~1event~1delta~1type",
    "box.v2 Job /runner/stream/map/*/when/~1is_error",
    "box.v2 Job /runner/stream/map/*/when/~1subtype",
    "box.v2 Job /runner/stream/map/*/when/~1type",
    "output.v2 Chunk /frames/*/args/path",
    "schedule.v1 Schedule /when/event/match/size_class",
    "schedule.v1 Schedule /when/event/match/unread",
    "tool.v1 Tool /args_schema/properties",
    "tool.v1 Tool /args_schema/properties/to",
    "tool.v1 Tool /args_schema/properties/to/type",
    "tool.v1 Tool /args_schema/required",
    "tool.v1 Tool /args_schema/required/*",
    "tool.v1 Tool /args_schema/type",
    // Somebody else's meeting id: a text or a number.
    "transcript.v1 MutableBundle /meeting/id",
    "ws.v1 ServerFrame /events/*/data/dispatch",
    "ws.v1 ServerFrame /id",
    "ws.v1 ServerFrame /state/status",
];

/// Fields that can only say one thing as long as the fields beside them say theirs: tags, constants.
const FIXED: &[&str] = &[
    "agent-runner.v2 Runner /stream/format",
    "audit.v1 Row /schema",
    "box.v2 GatewayMessage /job/runner/stream/format",
    "box.v2 GatewayMessage /type",
    "box.v2 Job /runner/stream/format",
    "box.v2 WorkerMessage /protocol",
    "box.v2 WorkerMessage /type",
    "error.v1 Error /schema",
    "ledger.v2 DispatchAdmitted /grant",
    "ledger.v2 DispatchAdmitted /sealed/alg",
    "ledger.v2 GrantIssued /grant/redelegation_depth",
    "ledger.v2 RunFinished /parked",
    "ledger.v2 WorkspaceRegistered /workspace/encryption/scheme",
    "reply.v1 Reply /outcome",
    "token.v1 DispatchClaims /authorization_details/*/type",
    "token.v1 ToolClaims /authorization_details/*/args/*/on",
    "token.v1 ToolClaims /authorization_details/*/type",
    "ws.v1 ClientFrame /t",
    "ws.v1 ServerFrame /t",
];

/// The goldens of the newest versions. An older one's documents are read as the newest (`upcasts.rs`).
fn goldens() -> Vec<Document> {
    let older = |name: &str| STEPS.iter().any(|step| step.from == name);
    crate::fixtures::goldens().into_iter().filter(|golden| !older(golden.contract)).collect()
}

fn places(found: &[&str]) -> BTreeSet<String> {
    found.iter().map(|s| (*s).to_owned()).collect()
}

fn is_property(document: &Value, pointer: &str) -> bool {
    pointer.rsplit_once('/').is_some_and(|(parent, _)| document.pointer(parent).is_some_and(Value::is_object))
}

#[test]
fn every_field_is_read_by_its_name() {
    let mut open = BTreeSet::new();
    for golden in goldens() {
        for pointer in pointers(&golden.value).iter().filter(|p| is_property(&golden.value, p)) {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let mut renamed = without(&golden.value, pointer).unwrap();
            let value = golden.value.pointer(pointer).unwrap().clone();
            let object = renamed.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            object.insert(format!("{name}_"), value);
            if check(golden.contract, &golden.shape, &renamed).is_ok() {
                open.insert(format!("{} {} {}", golden.contract, golden.shape, pattern(parent)));
            }
        }
    }
    assert_eq!(open, places(OPEN_MAPS));
}

#[test]
fn every_field_is_read_by_its_type() {
    let mut open = BTreeSet::new();
    for golden in goldens() {
        for pointer in pointers(&golden.value) {
            let wrong = match golden.value.pointer(&pointer).unwrap() {
                Value::String(_) | Value::Null => json!(-7.5),
                _ => json!("?"),
            };
            if check(golden.contract, &golden.shape, &with(&golden.value, &pointer, wrong)).is_ok() {
                open.insert(format!("{} {} {}", golden.contract, golden.shape, pattern(&pointer)));
            }
        }
    }
    assert_eq!(open, places(OPEN_VALUES));
}

#[test]
fn an_optional_field_that_goes_is_another_event() {
    let mut gone = 0;
    for golden in goldens() {
        let Some(decode) = decoder(golden.contract, &golden.shape) else { continue };
        let (before, _) = decode(&golden.value).unwrap();
        for pointer in pointers(&golden.value) {
            let Some(shorter) = without(&golden.value, &pointer) else { continue };
            let nothing = matches!(golden.value.pointer(&pointer), Some(Value::Null))
                || golden.value.pointer(&pointer).and_then(Value::as_array).is_some_and(Vec::is_empty);
            if nothing || check(golden.contract, &golden.shape, &shorter).is_err() {
                continue;
            }
            let (after, _) = decode(&shorter).unwrap_or_else(|why| panic!("{} without {pointer}: {why}", golden.place));
            assert_ne!(before, after, "{} without {pointer}", golden.place);
            gone += 1;
        }
    }
    assert!(gone > 100, "{gone}");
}

#[test]
fn another_value_is_another_event() {
    let (mut fixed, mut changed) = (BTreeSet::new(), BTreeSet::new());
    for golden in goldens() {
        let Some(decode) = decoder(golden.contract, &golden.shape) else { continue };
        let (before, _) = decode(&golden.value).unwrap();
        for pointer in pointers(&golden.value) {
            let here = golden.value.pointer(&pointer).unwrap();
            if here.is_object() || here.is_array() {
                continue;
            }
            let name = format!("{} {} {}", golden.contract, golden.shape, pattern(&pointer));
            let other = candidates(here)
                .map(|value| with(&golden.value, &pointer, value))
                .find(|document| check(golden.contract, &golden.shape, document).is_ok());
            let Some(other) = other else {
                fixed.insert(name);
                continue;
            };
            let (after, again) = decode(&other).unwrap_or_else(|why| panic!("{} at {pointer}: {why}", golden.place));
            assert_ne!(before, after, "{} at {pointer}: the type ignores it", golden.place);
            // What an absent field means may be written as no field.
            let absent = without(&other, &pointer).and_then(|document| Some(decode(&document).ok()?.0));
            let left_out = again.pointer(&pointer).is_none() && absent.is_some_and(|absent| absent == after);
            assert!(left_out || again.pointer(&pointer) == other.pointer(&pointer), "{} at {pointer}", golden.place);
            changed.insert(name);
        }
    }
    let fixed: BTreeSet<_> = fixed.difference(&changed).cloned().collect();
    assert_eq!(fixed, places(FIXED));
}

/// Every word of an enum or a const of any schema.
static WORDS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let mut words = BTreeSet::new();
    for contract in ALL {
        gather(&serde_json::from_str(contract.schema).unwrap(), &mut words);
    }
    words
});

fn gather(value: &Value, words: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            let listed = map.get("enum").and_then(Value::as_array).into_iter().flatten().chain(map.get("const"));
            words.extend(listed.filter_map(|v| v.as_str().map(str::to_owned)));
            map.values().for_each(|inner| gather(inner, words));
        }
        Value::Array(items) => items.iter().for_each(|inner| gather(inner, words)),
        _ => {}
    }
}

/// Other values of the same type, nearest first.
fn candidates(value: &Value) -> Box<dyn Iterator<Item = Value>> {
    match value {
        Value::Bool(b) => Box::new([json!(!b)].into_iter()),
        Value::Number(n) => match n.as_i64() {
            Some(n) => Box::new([n.saturating_add(1), n - 1].into_iter().map(|n| json!(n))),
            None => Box::new([json!(n.as_f64().unwrap() + 0.5)].into_iter()),
        },
        Value::String(text) => {
            let own = text.clone();
            let chars: Vec<char> = text.chars().take(100_000).collect();
            let edits = (0..chars.len()).rev().take(8).flat_map(move |at| {
                "abAB012"
                    .chars()
                    .filter(|c| *c != chars[at])
                    .map(|c| {
                        let mut edited = chars.clone();
                        edited[at] = c;
                        Value::String(edited.into_iter().collect())
                    })
                    .collect::<Vec<_>>()
            });
            let longer = [Value::String(format!("{own}a"))].into_iter();
            Box::new(edits.chain(longer).chain(WORDS.iter().filter(move |w| **w != own).map(|w| json!(w))))
        }
        Value::Null => Box::new([json!("a"), json!(1), json!(format!("sha256:{}", "a".repeat(64)))].into_iter()),
        Value::Array(_) | Value::Object(_) => Box::new(std::iter::empty()),
    }
}

#[test]
fn every_field_of_every_schema_stands_in_a_golden() {
    let schemas: Vec<(String, Value)> =
        ALL.iter().map(|c| (format!("custody:{}", c.name), serde_json::from_str(c.schema).unwrap())).collect();
    let mut all = BTreeSet::new();
    for (id, schema) in &schemas {
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            declared(definition, &format!("{id}#/$defs/{name}"), &mut all);
        }
    }
    let mut seen = BTreeSet::new();
    for golden in crate::fixtures::goldens() {
        let place = format!("custody:{}#/$defs/{}", golden.contract, golden.shape);
        walk(&schemas, &place, &golden.value, &mut seen);
    }
    let unseen: Vec<_> = all.difference(&seen).collect();
    assert!(unseen.is_empty(), "{unseen:#?}");
    assert!(all.len() > 300, "{}", all.len());
}

/// Places of all properties of a schema.
fn declared(schema: &Value, place: &str, all: &mut BTreeSet<String>) {
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        all.insert(format!("{place}/properties/{name}"));
        declared(inner, &format!("{place}/properties/{name}"), all);
    }
    for (name, inner) in schema.get("patternProperties").and_then(Value::as_object).into_iter().flatten() {
        declared(inner, &format!("{place}/patternProperties/{name}"), all);
    }
    for keyword in ["items", "additionalProperties", "then", "else"] {
        if let Some(inner) = schema.get(keyword).filter(|s| s.is_object()) {
            declared(inner, &format!("{place}/{keyword}"), all);
        }
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for (i, inner) in schema.get(keyword).and_then(Value::as_array).into_iter().flatten().enumerate() {
            declared(inner, &format!("{place}/{keyword}/{i}"), all);
        }
    }
}

/// Notes each property of the schema at `place` that the instance has.
fn walk(schemas: &[(String, Value)], place: &str, instance: &Value, seen: &mut BTreeSet<String>) {
    let (id, pointer) = place.split_once('#').unwrap();
    let document = &schemas.iter().find(|(own, _)| own == id).unwrap().1;
    let schema = resolve(document, pointer);
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = if reference.starts_with('#') { format!("{id}{reference}") } else { reference.to_owned() };
        walk(schemas, &target, instance, seen);
    }
    for (name, inner) in instance.as_object().into_iter().flatten() {
        if schema.get("properties").is_some_and(|p| p.get(name).is_some()) {
            seen.insert(format!("{place}/properties/{name}"));
            walk(schemas, &format!("{place}/properties/{name}"), inner, seen);
        }
        for pattern in schema.get("patternProperties").and_then(Value::as_object).into_iter().flatten() {
            walk(schemas, &format!("{place}/patternProperties/{}", pattern.0), inner, seen);
        }
        if schema.get("additionalProperties").is_some_and(Value::is_object) {
            walk(schemas, &format!("{place}/additionalProperties"), inner, seen);
        }
    }
    for inner in instance.as_array().into_iter().flatten().take(64) {
        if schema.get("items").is_some() {
            walk(schemas, &format!("{place}/items"), inner, seen);
        }
    }
    if let Some(condition) = schema.get("if") {
        let branch = if jsonschema::is_valid(condition, instance) { "then" } else { "else" };
        if schema.get(branch).is_some() {
            walk(schemas, &format!("{place}/{branch}"), instance, seen);
        }
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for i in 0..schema.get(keyword).and_then(Value::as_array).map_or(0, Vec::len) {
            walk(schemas, &format!("{place}/{keyword}/{i}"), instance, seen);
        }
    }
}

/// The schema at a place. A pattern of `patternProperties` may hold slashes, so it is taken whole.
fn resolve<'a>(document: &'a Value, pointer: &str) -> &'a Value {
    let (mut at, mut rest) = (document, pointer.trim_start_matches('/'));
    while !rest.is_empty() {
        let token = match at {
            Value::Object(map) => map.keys().filter(|k| is_head(rest, k)).max_by_key(|k| k.len()).unwrap().as_str(),
            _ => rest.split('/').next().unwrap(),
        };
        at = match at {
            Value::Array(items) => &items[token.parse::<usize>().unwrap()],
            other => &other[token],
        };
        rest = rest[token.len()..].trim_start_matches('/');
    }
    at
}

fn is_head(rest: &str, key: &str) -> bool {
    rest.strip_prefix(key).is_some_and(|after| after.is_empty() || after.starts_with('/'))
}
