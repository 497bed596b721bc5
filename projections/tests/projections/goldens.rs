//! `golden/<case>/{log.ndjson,state.json}`: the state of every projection after a log. A fold that changes shows here as
//! a diff, and then its VERSION is raised in the same commit. `UPDATE_GOLDEN=1 cargo test -p custody-projections` writes
//! them anew.

use crate::fixtures::{exported, fold, from_line, recorded, to_line};
use crate::logs::CASES;
use custody_contracts::catalogue::check;
use custody_ledger::{Projection, Recorded, Seq, Stored};
use custody_projections::row::audit_row;
use custody_projections::{Audit, Dispatches, Folded, Grants, Inbox, Sessions, Usage, digest};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(case)
}

fn projected<P: Folded>(events: &[Recorded], seq: Seq) -> Value {
    let state = fold::<P>(events);
    let rows: Map<String, Value> =
        exported::<P>(&state).into_iter().map(|(k, bytes)| (k, serde_json::from_slice(&bytes).unwrap())).collect();
    assert_eq!(rows.len(), P::count(&state));
    json!({ "version": <P as Projection>::VERSION, "seq": seq.0, "digest": digest::<P>(&state, seq), "rows": rows })
}

fn states(messages: &[Stored]) -> Value {
    let (events, seq) = (recorded(messages), messages.last().unwrap().seq);
    json!({
        Audit::NAME: projected::<Audit>(&events, seq),
        Dispatches::NAME: projected::<Dispatches>(&events, seq),
        Sessions::NAME: projected::<Sessions>(&events, seq),
        Usage::NAME: projected::<Usage>(&events, seq),
        Grants::NAME: projected::<Grants>(&events, seq),
        Inbox::NAME: projected::<Inbox>(&events, seq),
        "tail": events.iter().map(audit_row).collect::<Vec<_>>(),
    })
}

fn lines(messages: &[Stored]) -> String {
    messages.iter().map(|m| to_line(m) + "\n").collect()
}

#[test]
fn every_log_folds_to_its_golden_state() {
    for (case, make) in CASES {
        let (log, state) = (folder(case).join("log.ndjson"), folder(case).join("state.json"));
        let made = make();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(folder(case)).unwrap();
            std::fs::write(&log, lines(&made)).unwrap();
            let mut states = states(&made);
            states.sort_all_objects();
            std::fs::write(&state, serde_json::to_string_pretty(&states).unwrap() + "\n").unwrap();
        }
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(text, lines(&made), "{case}: the log is made otherwise than it is written");
        let read: Vec<Stored> = text.lines().map(from_line).collect();
        assert_eq!(read, made, "{case}");
        let expected: Value = serde_json::from_str(&std::fs::read_to_string(&state).unwrap()).unwrap();
        let found = states(&read);
        for (name, found) in found.as_object().unwrap() {
            assert_eq!(*found, expected[name], "{case}: {name}");
        }
    }
}

/// What was stored is never rewritten: a log of the first version folds to the state that it folded to then.
#[test]
fn a_log_of_ledger_v1_folds_as_ever() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ledger-v1/two-turns.ndjson"))
        .unwrap();
    assert!(text.contains("custody:ledger.v1#") && !text.contains("custody:ledger.v2#"));
    let read: Vec<Stored> = text.lines().map(from_line).collect();
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(folder("two-turns").join("state.json")).unwrap()).unwrap();
    let found = states(&read);
    for (name, found) in found.as_object().unwrap() {
        assert_eq!(found["rows"], expected[name]["rows"], "{name}");
    }
}

#[test]
fn no_golden_is_left_over() {
    let mut folders: Vec<String> =
        std::fs::read_dir(folder("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    folders.sort();
    let mut cases: Vec<&str> = CASES.iter().map(|(case, _)| *case).collect();
    cases.sort_unstable();
    assert_eq!(folders, cases);
}

#[test]
fn every_row_of_the_audit_tail_keeps_its_contract() {
    let mut rows = 0;
    for (case, make) in CASES {
        for event in recorded(&make()) {
            let row = serde_json::to_value(audit_row(&event)).unwrap();
            assert_eq!(check("audit.v1", "Row", &row), Ok(()), "{case}: {row}");
            rows += 1;
        }
    }
    assert!(rows > 60, "{rows}");
}
