//! `custody contract` as programs meet it: output, exit codes, files.

mod support;

use custody_contracts::catalogue;
use rstest::rstest;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use support::{code, command, custody, err, error, home, json, out};

fn contracts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts")
}

#[test]
fn ls_names_every_contract_with_its_digest() {
    let home = home();
    let listed = json(&custody(home.path(), &["contract", "ls", "-o", "json"]));
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, catalogue::ALL.iter().map(|c| c.name).collect::<Vec<_>>());
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .all(|c| c["schema"] == "contract.v1" && c["digest"].as_str().unwrap().len() == 71)
    );
    let table = out(&custody(home.path(), &["contract", "ls"]));
    assert!(table.starts_with("NAME ") && table.lines().count() == names.len() + 1, "{table}");
}

#[test]
fn show_prints_the_readme_and_the_schema() {
    let home = home();
    let unit = catalogue::find("unit.v1").unwrap();
    assert_eq!(out(&custody(home.path(), &["contract", "show", "unit.v1"])), unit.readme);
    let schema = json(&custody(home.path(), &["contract", "show", "unit.v1", "-o", "json"]));
    assert_eq!(schema, serde_json::from_str::<Value>(unit.schema).unwrap());
    let shape = json(&custody(home.path(), &["contract", "show", "ledger.v2", "--shape", "DispatchAdmitted"]));
    assert!(shape["$defs"]["unit.v1.Invocation"].is_object(), "a shape alone refers to nothing outside itself");
}

/// Every golden of every contract passes and every reject fails with the keyword in its name, through the binary.
#[test]
fn validate_agrees_with_goldens_and_rejects_of_unit() {
    let home = home();
    let folder = contracts().join("unit.v1");
    let mut checked = 0;
    for (kind, wanted) in [("golden", 0), ("reject", 1)] {
        for entry in std::fs::read_dir(folder.join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let output = command(home.path())
                .args(["contract", "validate", "unit.v1", "-o", "json"])
                .arg(&path)
                .output()
                .unwrap();
            assert_eq!(code(&output), wanted, "{}", path.display());
            let document = json(&output);
            assert_eq!(
                (document["schema"].as_str(), document["shape"].as_str()),
                (Some("validation.v1"), Some("Invocation"))
            );
            assert_eq!(document["valid"], json!(wanted == 0));
            if wanted == 1 {
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                let keyword = name.rsplit('.').next().unwrap().to_owned();
                let found = document["violations"].as_array().unwrap();
                assert!(found.iter().any(|v| v["keyword"] == keyword.as_str()), "{name}: {found:?}");
            }
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} documents were checked");
}

#[test]
fn validate_prints_pointer_keyword_and_message() {
    let home = home();
    let path = contracts().join("unit.v1/reject/Invocation.path-climbs.not.json");
    let output =
        command(home.path()).args(["contract", "validate", "unit.v1", "--no-headers"]).arg(path).output().unwrap();
    let text = out(&output);
    let mut words = text.split_whitespace();
    assert_eq!((words.next(), words.next()), (Some("/start/entrypoint/path"), Some("not")), "{text}");
    assert_eq!(code(&output), 1);
}

#[rstest]
#[case::not_json(b"{\"a\":".to_vec())]
#[case::not_utf8(vec![0xff, 0xfe, b'"'])]
#[case::nested(["[".repeat(100_000), "]".repeat(100_000)].concat().into_bytes())]
#[case::larger_than_2_mib([b"\"".to_vec(), vec![b'x'; 2 * 1024 * 1024], b"\"".to_vec()].concat())]
fn what_is_no_document_fails_with_keyword_json(#[case] bytes: Vec<u8>) {
    let home = home();
    let mut child = command(home.path())
        .args(["contract", "validate", "unit.v1", "-", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have read enough and closed before all was written.
    let _closed = child.stdin.take().unwrap().write_all(&bytes);
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 1);
    assert_eq!(json(&output)["violations"][0]["keyword"], "json");
}

#[rstest]
#[case::contract(&["contract", "show", "nonsense.v1"], 3, "CONTRACT_UNKNOWN")]
#[case::version(&["contract", "show", "unit.v7"], 3, "CONTRACT_VERSION_UNKNOWN")]
#[case::retired(&["contract", "validate", "event.v1", "x.json"], 3, "CONTRACT_RETIRED")]
#[case::shape(&["contract", "show", "unit.v1", "--shape", "Nonsense"], 3, "SHAPE_UNKNOWN")]
#[case::file(&["contract", "validate", "unit.v1", "none.json"], 3, "FILE_UNREADABLE")]
#[case::form(&["contract", "show", "unit.v1", "-o", "csv"], 2, "FORMAT_UNSUPPORTED")]
fn what_is_not_there_has_a_code_and_a_way_out(#[case] arguments: &[&str], #[case] exit: i32, #[case] name: &str) {
    let home = home();
    let output = custody(home.path(), arguments);
    assert_eq!(code(&output), exit, "{}", err(&output));
    assert!(err(&output).contains(name) && output.stdout.is_empty(), "{}", err(&output));
}

#[test]
fn with_json_an_error_is_one_error_v1() {
    let home = home();
    let output = custody(home.path(), &["contract", "validate", "task.v1", "-", "-o", "json"]);
    assert_eq!(code(&output), 3);
    let document = error(&output);
    assert_eq!(
        (document["code"].as_str(), document["hint"].as_str()),
        (Some("CONTRACT_RETIRED"), Some("custody contract show workspace.v1"))
    );
}

#[test]
fn diff_tells_additions_from_breaks() {
    let home = home();
    let schema: Value = serde_json::from_str(catalogue::find("unit.v1").unwrap().schema).unwrap();
    let write = |name: &str, schema: &Value| std::fs::write(home.path().join(name), schema.to_string()).unwrap();
    let mut wider = schema.clone();
    wider["$id"] = "custody:unit.v2".into();
    wider["$defs"]["Invocation"]["properties"]["note"] = json!({ "type": "string" });
    write("wider.json", &wider);
    let mut narrower = schema.clone();
    narrower["$defs"]["Invocation"]["required"].as_array_mut().unwrap().push("tools".into());
    write("narrower.json", &narrower);

    assert_eq!(code(&custody(home.path(), &["contract", "diff", "unit.v1", "unit.v1"])), 0);
    let added = custody(home.path(), &["contract", "diff", "unit.v1", "wider.json", "-o", "json"]);
    assert_eq!(code(&added), 0, "{}", out(&added));
    let path = json!("/$defs/Invocation/properties/note");
    assert!(json(&added).as_array().unwrap().iter().any(|c| c["path"] == path && c["effect"] == "additive"));
    let broken = custody(home.path(), &["contract", "diff", "unit.v1", "narrower.json"]);
    assert_eq!(code(&broken), 6);
    assert!(out(&broken).contains("tools is required now") && out(&broken).contains("breaking"), "{}", out(&broken));
    assert_eq!(
        code(&custody(home.path(), &["contract", "diff", "wider.json", "unit.v1"])),
        6,
        "a removed property breaks"
    );
    assert_eq!(code(&custody(home.path(), &["contract", "diff", "unit.v1", "none.json"])), 3);
}

#[test]
fn exports_are_complete() {
    let home = home();
    assert_eq!(code(&custody(home.path(), &["contract", "export", "schemas", "made/schemas"])), 0);
    let unit = std::fs::read(home.path().join("made/schemas/unit.v1.Invocation.json")).unwrap();
    let unit: Value = serde_json::from_slice(&unit).unwrap();
    assert_eq!(unit["$id"], "custody:bundle/unit.v1.Invocation");
    let shapes: usize = catalogue::ALL.iter().map(|c| catalogue::shapes(c.name).unwrap().len()).sum();
    assert_eq!(std::fs::read_dir(home.path().join("made/schemas")).unwrap().count(), shapes);
    let api = json(&custody(home.path(), &["contract", "export", "asyncapi"]));
    assert_eq!(api["asyncapi"], "3.1.0");
    for (channel, stream) in [("launch", "LAUNCH"), ("ledger.dispatch", "LEDGER"), ("ledger.run", "LEDGER")] {
        assert_eq!(api["channels"][channel]["x-jetstream"]["stream"], stream, "{channel}");
    }
    assert_eq!(code(&custody(home.path(), &["contract", "export", "asyncapi", "made"])), 0);
    let file: Value = serde_json::from_slice(&std::fs::read(home.path().join("made/asyncapi.json")).unwrap()).unwrap();
    assert_eq!(file, api);
}
