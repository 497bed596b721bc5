//! The worker's own types read what the contracts publish, so that the two copies cannot drift.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

use custody_worker::{
    frames,
    lines::Line,
    mapping::map_line,
    protocol::{Frame, GatewayMessage, Job, Runner, WorkerMessage},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Every `SHAPE.case.json` of a contract's folder, by shape.
fn documents(contract: &str, folder: &str) -> BTreeMap<String, Vec<(PathBuf, Value)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts").join(contract).join(folder);
    let mut documents: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let shape = path.file_name().unwrap().to_str().unwrap().split_once('.').unwrap().0.to_owned();
        let document = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        documents.entry(shape).or_default().push((path, document));
    }
    documents
}

fn read<T: DeserializeOwned>(path: &Path, document: &Value) -> T {
    serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_and_write<T: DeserializeOwned + Serialize>(path: &Path, document: &Value) -> T {
    let message = read::<T>(path, document);
    assert_eq!(serde_json::to_value(&message).unwrap(), *document, "{}", path.display());
    message
}

/// What the contract shows as right must not be cut.
fn within_bounds(path: &Path, frame: &Frame) {
    assert_eq!(frames::bounded(frame.body.clone()), frame.body, "{}", path.display());
}

#[test]
fn reads_every_golden_of_the_contract() {
    let documents = documents("box.v2", "golden");
    for shape in ["WorkerMessage", "GatewayMessage", "Job"] {
        assert!(documents.contains_key(shape), "box.v2 has goldens of {shape}");
    }
    for (shape, documents) in &documents {
        for (path, document) in documents {
            match shape.as_str() {
                "WorkerMessage" => {
                    if let WorkerMessage::Frame { frame } = read_and_write::<WorkerMessage>(path, document) {
                        within_bounds(path, &frame);
                    }
                }
                "GatewayMessage" => drop(read::<GatewayMessage>(path, document)),
                "Job" => drop(read::<Job>(path, document)),
                "Frame" => within_bounds(path, &read_and_write::<Frame>(path, document)),
                other => panic!("{}: a shape {other} that the worker does not know", path.display()),
            }
        }
    }
}

#[test]
fn reads_every_runner_of_the_contract() {
    let documents = documents("agent-runner.v2", "golden");
    assert!(!documents["Runner"].is_empty());
    for (path, document) in &documents["Runner"] {
        read::<Runner>(path, document);
    }
}

/// What the worker refuses by its types. Lengths, patterns and ranges are the gateway's to check before it sends.
#[test]
fn refuses_what_the_contract_refuses_by_shape() {
    let by_shape = ["required", "additionalProperties", "enum", "type"];
    let documents = documents("box.v2", "reject");
    let mut refused = 0;
    for (shape, documents) in &documents {
        for (path, document) in documents {
            let name = path.file_stem().unwrap().to_str().unwrap();
            if !by_shape.contains(&name.rsplit_once('.').unwrap().1) || name.contains("mode-unknown") {
                continue;
            }
            let document = document.clone();
            let accepted = match shape.as_str() {
                "GatewayMessage" => serde_json::from_value::<GatewayMessage>(document).is_ok(),
                "Job" => serde_json::from_value::<Job>(document).is_ok(),
                _ => continue,
            };
            assert!(!accepted, "{} was accepted", path.display());
            refused += 1;
        }
    }
    assert!(refused > 0);
}

/// The repository's own runners: what their agents print is what their maps know.
#[rstest::rstest]
#[case::agent("custody-agent")]
#[case::misbehave("misbehave")]
fn knows_every_line_of_our_own_runners(#[case] name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("runner.json");
    let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(document["image"], "@image", "the build fills it in");
    let runner = read::<Runner>(&path, &document);
    assert_eq!(runner.name, name);
    let lines = [
        (r#"{"type":"session","id":"s"}"#, "session"),
        (r#"{"type":"text","text":"t"}"#, "text"),
        (r#"{"type":"tool_call","id":"c","name":"n","args":{"a":1}}"#, "tool_call"),
        (r#"{"type":"tool_result","id":"c","ok":false,"text":"t"}"#, "tool_result"),
        (r#"{"type":"usage","input_tokens":1,"output_tokens":2}"#, "usage"),
        (r#"{"type":"error","code":"c","message":"m"}"#, "error"),
        (r#"{"type":"result","text":"t"}"#, "result"),
    ];
    for (line, kind) in lines {
        let given = Line { bytes: line.into(), cut: 0, whole: true };
        let frame = serde_json::to_value(&map_line(&runner.stream.map, &given)[0]).unwrap();
        assert_eq!(frame["kind"], kind);
        let fields: Value = serde_json::from_str(line).unwrap();
        for (field, value) in fields.as_object().unwrap().iter().filter(|(field, _)| *field != "type") {
            let field = if kind == "session" { "agent_session" } else { field };
            assert_eq!(frame[field], *value, "{line}");
        }
    }
}
