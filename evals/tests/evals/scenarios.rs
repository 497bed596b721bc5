//! Every scenario on disk: it passes, its mutants are found, and a written one is what its script writes.

use crate::evals_root;
use crate::written::{SCRIPTS, Script};
use custody_evals::{BlessOptions, RunOptions, Verdict, bless, run};
use rstest::rstest;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Files that a script makes, by their path in the scenario.
fn made_by(script: &Script) -> BTreeMap<String, String> {
    let mut files = BTreeMap::from([("log.jsonl".to_owned(), (script.write)("").text())]);
    for lie in script.lies {
        let note = format!("why = {:?}\nmust_fail_by = {:?}\n", lie.why, lie.must_fail_by);
        files.insert(format!("mutated/{}.toml", lie.name), note);
        files.insert(format!("mutated/{}.jsonl", lie.name), (script.write)(lie.name).text());
    }
    files
}

fn mutated(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder.join("mutated")).into_iter().flatten().flatten();
    entries.map(|e| format!("mutated/{}", e.file_name().to_string_lossy())).collect()
}

/// `UPDATE_SCENARIOS=1` writes the logs, the mutants and the goldens anew; otherwise they must be the same bytes.
#[test]
fn written_scenarios_are_what_their_scripts_write() {
    let update = std::env::var("UPDATE_SCENARIOS").is_ok_and(|v| v == "1");
    for script in SCRIPTS {
        let folder = evals_root().join("scenarios").join(script.id);
        let files = made_by(script);
        for (file, text) in &files {
            let path = folder.join(file);
            if update {
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                std::fs::write(&path, text).expect("written");
            }
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(found == *text, "{} {file} is not what its script writes; UPDATE_SCENARIOS=1 writes it", script.id);
        }
        let wanted: BTreeSet<String> = files.keys().filter(|f| f.starts_with("mutated/")).cloned().collect();
        assert_eq!(mutated(&folder), wanted, "{}: mutants that no script writes", script.id);
        let lies: BTreeSet<&str> = script.lies.iter().map(|l| l.name).collect();
        assert_eq!(lies.len(), script.lies.len(), "{}: two lies have one name", script.id);
        let honest = &files["log.jsonl"];
        for lie in script.lies {
            assert!(
                &files[&format!("mutated/{}.jsonl", lie.name)] != honest,
                "{}: {} changes nothing",
                script.id,
                lie.name
            );
        }
    }
    if update {
        bless(&evals_root(), &BlessOptions::default()).expect("what the scripts write is good");
    }
}

#[test]
fn every_scenario_passes_and_every_mutant_is_found_by_its_check() {
    let suite = run(&evals_root(), &RunOptions { only: Vec::new(), baseline: true }).expect("a suite");
    let told = custody_evals::report::text(&suite);
    assert!(suite.evals.len() >= SCRIPTS.len(), "{told}");
    for report in &suite.evals {
        assert_eq!(report.verdict, Verdict::Pass, "{told}");
        assert!(!report.mutants.is_empty(), "{told}");
        for mutant in &report.mutants {
            assert!(mutant.found && mutant.failed_by.contains(&mutant.must_fail_by), "{}: {mutant:?}", report.id);
        }
    }
    assert_eq!(suite.exit_code(), 0, "{told}");
}

/// Every check about what a log means is the one that finds some mutant: none is there for show.
#[test]
fn every_check_that_has_a_meaning_is_needed() {
    let suite = run(&evals_root(), &RunOptions::default()).expect("a suite");
    let found: BTreeSet<String> = suite.evals.iter().flat_map(|e| &e.mutants).map(|m| m.must_fail_by.clone()).collect();
    for id in [
        "run.admitted",
        "run.claim",
        "run.one_container",
        "run.has_container",
        "run.terminal",
        "effect.claimed",
        "launch.decided",
        "grant.covered",
        "decision",
    ] {
        assert!(found.contains(id), "no mutant is found by {id}");
    }
}

#[rstest]
#[case("1-stranger-refused", 12)]
#[case("1-crash-one-terminal", 7)]
#[case("1-second-turn-resumes", 3)]
#[case("1-workspace-nothing-lost", 3)]
fn every_launch_is_decided_again(#[case] id: &str, #[case] decisions: usize) {
    let suite = run(&evals_root(), &RunOptions { only: vec![id.into()], baseline: false }).expect("a suite");
    let facts = suite.evals[0].facts.as_ref().expect("facts");
    assert_eq!(facts.decisions.len(), decisions, "{:?}", facts.decisions);
}
