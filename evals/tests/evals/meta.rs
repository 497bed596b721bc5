//! The harness itself: what is not good is invalid, what is wrong fails by its name, and nothing is green by accident.

use crate::evals_root;
use custody_contracts::canonical::canonical;
use custody_evals::baseline::Baseline;
use custody_evals::{BlessError, BlessOptions, EvalReport, RunOptions, Suite, SuiteError, Verdict, bless, report, run};
use rstest::rstest;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const ID: &str = "1-second-turn-resumes";

/// A copy of one scenario, and of the baseline's entry for it, in a folder of its own.
struct Copy {
    root: TempDir,
    id: &'static str,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

impl Copy {
    fn of(id: &'static str) -> Copy {
        let root = TempDir::new().expect("a folder");
        copy(&evals_root().join("scenarios").join(id), &root.path().join("scenarios").join(id));
        let mut baseline = Baseline::load(&evals_root().join("baseline.json")).expect("a baseline");
        baseline.evals.retain(|key, _| key == id);
        fs::write(root.path().join("baseline.json"), baseline.write().expect("JSON")).expect("written");
        Copy { root, id }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.path().join("scenarios").join(self.id).join(name)
    }

    fn edit(&self, name: &str, change: impl FnOnce(String) -> String) {
        let path = self.file(name);
        let text = fs::read_to_string(&path).expect("a file");
        let changed = change(text.clone());
        assert!(changed != text, "{name}: the edit changes nothing");
        fs::write(path, changed).expect("written");
    }

    fn run(&self) -> Suite {
        run(self.root.path(), &RunOptions { only: Vec::new(), baseline: false }).expect("a suite")
    }

    fn against_baseline(&self) -> Suite {
        run(self.root.path(), &RunOptions { only: Vec::new(), baseline: true }).expect("a suite")
    }

    fn baseline(&self, change: impl FnOnce(&mut Baseline)) {
        let path = self.root.path().join("baseline.json");
        let mut baseline = Baseline::load(&path).expect("a baseline");
        change(&mut baseline);
        fs::write(path, baseline.write().expect("JSON")).expect("written");
    }
}

fn failed(report: &EvalReport) -> Vec<&str> {
    report.failed().map(|c| c.id.as_str()).collect()
}

fn invalid(suite: &Suite, why: &str) {
    let report = &suite.evals[0];
    assert_eq!(report.verdict, Verdict::Invalid, "{}", report::text(suite));
    let problem = report.problem.as_deref().unwrap_or_default();
    assert!(problem.contains(why), "{problem:?} does not say {why:?}");
    assert_eq!(suite.exit_code(), 2);
}

#[test]
fn an_untouched_copy_passes() {
    let suite = Copy::of(ID).against_baseline();
    assert_eq!(suite.exit_code(), 0, "{}", report::text(&suite));
}

#[test]
fn a_scenario_without_mutants_is_invalid() {
    let copy = Copy::of(ID);
    fs::remove_dir_all(copy.file("mutated")).expect("removed");
    invalid(&copy.run(), "no mutated log");
}

#[rstest]
#[case::eval("eval.toml", "[keys]", "colour = \"red\"\n\n[keys]", "colour")]
#[case::keys("eval.toml", "[[keys.test]]", "pinned = true\n\n[[keys.test]]", "pinned")]
#[case::expect("expect.toml", "[[audit]]", "[[wish]]\nid = \"x\"\n\n[[audit]]", "wish")]
#[case::assertion("expect.toml", "anomalies = 0", "anomalies = 0\nanomolies = 0", "anomolies")]
#[case::pattern("expect.toml", "event = { type", "event = { kind = \"x\", type", "kind")]
#[case::predicate("expect.toml", "{ prefix = \"sha256:\" }", "{ regex = \"sha256:\" }", "regex")]
#[case::mutant("mutated/starts-afresh.toml", "why", "who = \"me\"\nwhy", "who")]
fn an_unknown_field_is_refused(#[case] file: &str, #[case] from: &str, #[case] to: &str, #[case] named: &str) {
    let copy = Copy::of(ID);
    copy.edit(file, |text| text.replacen(from, to, 1));
    invalid(&copy.run(), named);
}

#[rstest]
#[case::schema("eval.toml", "eval.v1", "eval.v2", "eval.v2")]
#[case::no_modes("eval.toml", "modes = [\"fold\", \"decision\"]", "modes = []", "modes")]
#[case::promise("eval.toml", "\"P3\"", "\"Q3\"", "Q3")]
#[case::short_canary("eval.toml", "sk-canary-3b1f7c", "sk", "canary")]
#[case::real_looking_key("eval.toml", "test key, worthless", "production", "worthless")]
#[case::another_root("eval.toml", "root = \"k-authority-7", "root = \"k-authority-8", "keys.root")]
#[case::captured_with_keys("eval.toml", "source = \"written\"", "source = \"captured\"", "keys.test")]
#[case::no_such_type("expect.toml", "custody.run.claimed.v1", "custody.run.claimd.v1", "custody.run.claimd.v1")]
#[case::no_pointer("expect.toml", "\"/data/session\"", "\"data/session\"", "JSON pointer")]
#[case::no_such_projection("expect.toml", "projection = \"sessions\"", "projection = \"session\"", "no projection")]
#[case::two_ids("expect.toml", "id = \"two-turns\"", "id = \"another-container\"", "stands twice")]
#[case::any_count("expect.toml", "count = { min = 2, max = 2 }", "count = { min = 0 }", "any count passes")]
#[case::untied_cause(
    "expect.toml",
    "equal = [[\"/data/session\", \"/data/session/id\"], [\"/data/resume_digest\", \"/data/session/digest\"]]",
    "equal = []",
    "tied"
)]
#[case::two_states("expect.toml", "length = 2", "length = 2\nabsent = false", "exactly one")]
#[case::builtin_id("expect.toml", "id = \"two-turns\"", "id = \"run.terminal\"", "[a-z0-9-]")]
fn what_could_not_mean_anything_is_refused(
    #[case] file: &str,
    #[case] from: &str,
    #[case] to: &str,
    #[case] said: &str,
) {
    let copy = Copy::of(ID);
    copy.edit(file, |text| text.replacen(from, to, 1));
    invalid(&copy.run(), said);
}

#[rstest]
#[case::eval("eval.toml", 65_536)]
#[case::expect("expect.toml", 262_144)]
#[case::note("mutated/starts-afresh.toml", 4_096)]
fn a_file_has_a_largest_size(#[case] file: &str, #[case] most: usize) {
    let copy = Copy::of(ID);
    // At the maximum it is read, one byte beyond it is not.
    copy.edit(file, |text| format!("{text}#{}", " ".repeat(most - text.len() - 1)));
    assert_eq!(copy.run().exit_code(), 0);
    copy.edit(file, |text| text + " ");
    invalid(&copy.run(), "bytes are more than");
}

#[test]
fn a_line_has_a_largest_size() {
    let copy = Copy::of(ID);
    copy.edit("log.jsonl", |text| format!("{text}{{\"seq\":99,\"subject\":\"{}\"}}\n", "x".repeat(262_144)));
    invalid(&copy.run(), "are more than");
}

#[test]
fn an_expectation_without_assertions_is_invalid() {
    let copy = Copy::of(ID);
    copy.edit("expect.toml", |_| "# nothing\n".into());
    invalid(&copy.run(), "no assertion");
}

#[rstest]
#[case::passes("starts-afresh", "it passes")]
fn a_mutant_that_passes_makes_the_eval_invalid(#[case] name: &str, #[case] said: &str) {
    let copy = Copy::of(ID);
    fs::copy(copy.file("log.jsonl"), copy.file(&format!("mutated/{name}.jsonl"))).expect("copied");
    invalid(&copy.run(), said);
}

#[rstest]
#[case::another_check("second-turn-resumes", "run.one_container", "and not by run.one_container")]
#[case::a_digest("second-turn-resumes", "digest.audit", "no check about what the log means")]
#[case::the_signatures("second-turn-resumes", "log.verify", "no check about what the log means")]
#[case::nothing("second-turn-resumes", "no-such-check", "no check about what the log means")]
fn a_mutant_has_to_be_found_for_the_reason_that_it_names(#[case] from: &str, #[case] to: &str, #[case] said: &str) {
    let copy = Copy::of(ID);
    copy.edit("mutated/starts-afresh.toml", |text| text.replace(&format!("\"{from}\""), &format!("\"{to}\"")));
    invalid(&copy.run(), said);
}

#[test]
fn a_written_mutant_has_good_signatures() {
    let copy = Copy::of(ID);
    copy.edit("mutated/starts-afresh.jsonl", |text| text.replacen("operator:cli", "operator:xli", 1));
    invalid(&copy.run(), "signatures are broken");
}

#[test]
fn a_mutant_without_a_note_and_a_note_without_a_mutant_are_invalid() {
    let copy = Copy::of(ID);
    fs::remove_file(copy.file("mutated/starts-afresh.toml")).expect("removed");
    invalid(&copy.run(), "mutated/starts-afresh.toml");
    let copy = Copy::of(ID);
    fs::remove_file(copy.file("mutated/starts-afresh.jsonl")).expect("removed");
    invalid(&copy.run(), "has no log beside it");
}

#[rstest]
#[case("audit")]
#[case("dispatches")]
#[case("sessions")]
fn a_tampered_golden_fails(#[case] projection: &str) {
    let copy = Copy::of(ID);
    let file = format!("golden/digest.{projection}.txt");
    copy.edit(&file, |_| format!("sha256:{}\n", "0".repeat(64)));
    let suite = copy.run();
    assert_eq!(failed(&suite.evals[0]), [format!("digest.{projection}")]);
    assert_eq!(suite.exit_code(), 1);
    fs::remove_file(copy.file(&file)).expect("removed");
    assert_eq!(failed(&copy.run().evals[0]), [format!("digest.{projection}")]);
}

#[test]
fn goldens_of_another_fold_version_fail() {
    let copy = Copy::of(ID);
    copy.edit("eval.toml", |text| text.replace("sessions = 1", "sessions = 7"));
    assert_eq!(failed(&copy.run().evals[0]), ["fold.version"]);
}

/// Changes the ledger line of a sequence.
fn change(text: &str, seq: u64, change: impl Fn(&mut Value)) -> String {
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).expect("a line");
        if value["seq"] == json!(seq) && value.get("stream").is_none() {
            change(&mut value);
        }
        canonical(&value) + "\n"
    };
    text.lines().map(line).collect()
}

#[rstest]
#[case::one_word(|t: String| change(&t, 5, |v| v["event"]["data"]["unit"]["runner"] = json!("other-agent")), &["log.verify", "decision"])]
#[case::one_digit(|t: String| change(&t, 9, |v| v["event"]["data"]["usage"]["wall_ms"] = json!(1)), &["log.verify"])]
#[case::a_field_more(|t: String| change(&t, 9, |v| v["event"]["data"]["extra"] = json!(1)), &["log.verify", "log.schema"])]
#[case::a_gap(|t: String| change(&t, 21, |v| v["seq"] = json!(22)), &["log.sequence", "log.verify"])]
#[case::not_canonical(|t: String| t.replacen("{\"event\":", "{ \"event\":", 1), &["log.canonical"])]
#[case::a_launch_changed(|t: String| t.replacen("heron", "eagle", 1), &["decision"])]
#[case::a_canary(|t: String| t.replacen("heron", "sk-canary-3b1f7c", 1), &["log.no_secret"])]
fn a_touched_log_fails(#[case] touch: fn(String) -> String, #[case] by: &[&str]) {
    let copy = Copy::of(ID);
    copy.edit("log.jsonl", touch);
    let suite = copy.run();
    let found = failed(&suite.evals[0]);
    assert!(by.iter().all(|id| found.contains(id)), "{found:?} does not hold all of {by:?}");
    assert_eq!(suite.exit_code(), 1);
}

#[test]
fn a_divergence_names_the_sequence_and_the_fields() {
    let copy = Copy::of(ID);
    copy.edit("log.jsonl", |t| change(&t, 5, |v| v["event"]["data"]["session"] = json!("s-another")));
    let suite = copy.run();
    let divergence = &suite.evals[0].divergences[0];
    assert_eq!(divergence.seq, 5);
    assert_eq!(divergence.fields[0].pointer, "/data/session");
    assert_eq!(divergence.fields[0].recorded.as_deref(), Some("\"s-another\""));
    let context = &suite.evals[0].context;
    assert_eq!(context.len(), 7, "{context:?}");
    assert!(context[3].starts_with("> 5 ledger.dispatch.") && context[2].starts_with("  LAUNCH 41 "), "{context:?}");
    assert!(report::markdown(&suite).contains("fail"));
    assert!(report::text(&suite).contains("at sequence 5"));
}

#[rstest]
#[case::event("[[event]]\nid = \"a\"\nevent = { type = \"custody.run.started.v1\" }\ncount = { min = 4 }")]
#[case::too_many("[[event]]\nid = \"a\"\nevent = { type = \"custody.run.started.v1\" }\ncount = { min = 1, max = 2 }")]
#[case::in_each(
    "[[event]]\nid = \"a\"\nevent = { type = \"custody.effect.*\" }\ncount = { min = 2 }\nfor_each = { event = { type = \"custody.run.claimed.v1\" }, same = \"/data/dispatch\" }"
)]
#[case::in_no_group(
    "[[event]]\nid = \"a\"\nevent = { type = \"custody.run.started.v1\" }\nfor_each = { event = { type = \"custody.dispatch.refused.v1\" }, same = \"/data/dispatch\" }"
)]
#[case::distinct(
    "[[event]]\nid = \"a\"\nevent = { type = \"custody.run.claimed.v1\" }\ndistinct = [\"/data/session\"]"
)]
#[case::distinct_nothing(
    "[[event]]\nid = \"a\"\nevent = { type = \"custody.run.claimed.v1\" }\ndistinct = [\"/data/nothing\"]"
)]
#[case::never(
    "[[never]]\nid = \"a\"\nevent = { type = \"custody.run.finished.v1\", where = { \"/data/reason\" = \"completed\" } }"
)]
#[case::order(
    "[[order]]\nid = \"a\"\nsteps = [{ type = \"custody.run.started.v1\" }, { type = \"custody.run.claimed.v1\" }]\nsame = \"/data/dispatch\""
)]
#[case::order_without(
    "[[order]]\nid = \"a\"\nsteps = [{ type = \"custody.dispatch.refused.v1\" }, { type = \"custody.run.claimed.v1\" }]\nsame = \"/data/dispatch\""
)]
#[case::order_of_few(
    "[[order]]\nid = \"a\"\nsteps = [{ type = \"custody.run.claimed.v1\" }, { type = \"custody.run.started.v1\" }]\nsame = \"/data/dispatch\"\ngroups = 4"
)]
#[case::causes(
    "[[causes]]\nid = \"a\"\neach = { type = \"custody.run.claimed.v1\" }\nneeds = { type = \"custody.run.started.v1\" }\nequal = [[\"/data/dispatch\", \"/data/dispatch\"]]"
)]
#[case::causes_differ(
    "[[causes]]\nid = \"a\"\neach = { type = \"custody.run.started.v1\" }\nneeds = { type = \"custody.run.claimed.v1\" }\nequal = [[\"/data/dispatch\", \"/data/dispatch\"]]\ndiffer = [[\"/data/attempt\", \"/data/attempt\"]]"
)]
#[case::causes_of_nothing(
    "[[causes]]\nid = \"a\"\neach = { type = \"custody.dispatch.refused.v1\" }\nneeds = { type = \"custody.run.claimed.v1\" }\nequal = [[\"/data/dispatch\", \"/data/dispatch\"]]"
)]
#[case::refused("[[refused]]\nid = \"a\"\nlaunch = 41\nreason = \"LAUNCHER_UNKNOWN\"")]
#[case::state(
    "[[state]]\nid = \"a\"\nprojection = \"sessions\"\nkey = \"s-gms4jrplkndv55bvscjs\"\nfield = \"/turn_count\"\nequals = 3"
)]
#[case::state_of_no_row(
    "[[state]]\nid = \"a\"\nprojection = \"sessions\"\nkey = \"s-none\"\nfield = \"/turn_count\"\nequals = 3"
)]
#[case::state_absent(
    "[[state]]\nid = \"a\"\nprojection = \"sessions\"\nkey = \"s-gms4jrplkndv55bvscjs\"\nfield = \"/digest\"\nabsent = true"
)]
#[case::state_same(
    "[[state]]\nid = \"a\"\nprojection = \"sessions\"\nkey = \"s-gms4jrplkndv55bvscjs\"\nfield = \"/digest\"\nsame_as = \"/turns/0/left\""
)]
#[case::state_differs(
    "[[state]]\nid = \"a\"\nprojection = \"sessions\"\nkey = \"s-gms4jrplkndv55bvscjs\"\nfield = \"/digest\"\ndiffers_from = \"/turns/1/left\""
)]
#[case::state_length(
    "[[state]]\nid = \"a\"\nprojection = \"sessions\"\nkey = \"s-gms4jrplkndv55bvscjs\"\nfield = \"/turns\"\nlength = 3"
)]
#[case::digest("[[digest]]\nid = \"a\"\nprojection = \"audit\"\nequals = \"sha256:00\"")]
#[case::no_secret("[[no_secret]]\nid = \"a\"\ncanaries = [\"operator:cli\"]")]
#[case::anomalies("[[audit]]\nid = \"a\"\nanomalies = 1")]
#[case::checkpoints("[[audit]]\nid = \"a\"\nanomalies = 0\ncheckpoints_min = 3")]
fn every_kind_of_assertion_can_fail(#[case] assertion: &str) {
    let copy = Copy::of(ID);
    copy.edit("expect.toml", |text| format!("{text}\n{assertion}\n"));
    let suite = copy.run();
    assert_eq!(failed(&suite.evals[0]), ["a"], "{}", report::text(&suite));
    assert_eq!(suite.exit_code(), 1);
}

#[rstest]
#[case::turned_round("refused:LAUNCHER_UNKNOWN", "admitted", 1, "refusal→allowed")]
#[case::turned_back("admitted", "refused:LAUNCHER_UNKNOWN", 3, "allowed→refused")]
#[case::another_reason("refused:A", "refused:B", 3, "changed")]
fn a_decision_that_turned_round_is_drift(#[case] was: &str, #[case] is: &str, #[case] code: u8, #[case] class: &str) {
    let copy = Copy::of(if is == "admitted" { ID } else { "1-stranger-refused" });
    copy.baseline(|baseline| {
        let entry = baseline.evals.values_mut().next().expect("an eval");
        let admits = is == "admitted";
        let decision = entry.facts.decisions.values_mut().find(|d| (*d == "admitted") == admits).expect("a decision");
        *decision = was.to_owned();
    });
    let suite = copy.against_baseline();
    assert_eq!(suite.exit_code(), code, "{}", report::text(&suite));
    assert_eq!(suite.drift[0].class.as_str(), class);
    assert!(report::markdown(&suite).contains(class));
}

#[test]
fn other_drift_is_told_by_its_class() {
    let class = |change: fn(&mut Baseline)| {
        let copy = Copy::of(ID);
        copy.baseline(change);
        let suite = copy.against_baseline();
        assert_eq!(suite.exit_code(), 3, "{}", report::text(&suite));
        suite.drift[0].class.as_str()
    };
    fn facts(baseline: &mut Baseline) -> &mut custody_evals::baseline::Entry {
        baseline.evals.values_mut().next().expect("an eval")
    }
    assert_eq!(class(|b| b.evals.clear()), "new");
    assert_eq!(
        class(|b| {
            let e = facts(b).clone();
            b.evals.insert("1-gone".into(), e);
        }),
        "removed"
    );
    assert_eq!(
        class(|b| {
            facts(b).facts.types.remove("custody.effect.model_called.v1");
        }),
        "additive"
    );
    assert_eq!(
        class(|b| {
            facts(b).facts.types.insert("custody.effect.model_called.v1".into(), 9);
        }),
        "missing/reordered"
    );
    assert_eq!(class(|b| facts(b).facts.order = "sha256:00".into()), "missing/reordered");
    assert_eq!(
        class(|b| {
            facts(b).facts.digests.insert("audit".into(), "sha256:00".into());
        }),
        "changed"
    );
    assert_eq!(class(|b| facts(b).mutants.push("was-here".into())), "changed");
    assert_eq!(class(|b| facts(b).verdict = Verdict::Fail), "changed");
}

#[test]
fn a_broken_baseline_is_an_error_and_not_an_empty_one() {
    let copy = Copy::of(ID);
    fs::write(copy.root.path().join("baseline.json"), "{\"schema\":\"eval-baseline.v1\"}").expect("written");
    let result = run(copy.root.path(), &RunOptions { only: Vec::new(), baseline: true });
    assert!(matches!(result, Err(SuiteError::Baseline(_))), "{result:?}");
}

#[test]
fn nothing_that_ran_is_not_green() {
    let empty = TempDir::new().expect("a folder");
    fs::create_dir_all(empty.path().join("scenarios")).expect("a folder");
    let suite = run(empty.path(), &RunOptions::default()).expect("a suite");
    assert_eq!(suite.exit_code(), 2);
    let copy = Copy::of(ID);
    let only = vec!["1-second".to_owned(), "9-typing-error".to_owned()];
    let result = run(copy.root.path(), &RunOptions { only, baseline: false });
    assert!(matches!(result, Err(SuiteError::NoSuchEval(word)) if word == "9-typing-error"));
    let missing = run(&copy.root.path().join("nowhere"), &RunOptions::default());
    assert!(matches!(missing, Err(SuiteError::Folder { .. })));
}

#[test]
fn evals_are_chosen_by_id_beginning_or_tag() {
    let count = |word: &str| {
        let options = RunOptions { only: vec![word.into()], baseline: false };
        run(&evals_root(), &options).expect("a suite").evals.len()
    };
    assert_eq!(count(ID), 1);
    assert_eq!(count("isolation"), 2);
    assert!(count("1-") >= 5);
    let listed = custody_evals::list(&evals_root()).expect("a list");
    assert!(listed.iter().all(|one| one.problem.is_none() && one.mutants > 0 && !one.claim.is_empty()), "{listed:?}");
}

#[test]
fn a_broken_scenario_is_listed_with_its_problem() {
    let copy = Copy::of(ID);
    fs::remove_file(copy.file("eval.toml")).expect("removed");
    let listed = custody_evals::list(copy.root.path()).expect("a list");
    assert!(listed[0].problem.as_deref().is_some_and(|p| p.starts_with("eval.toml")));
}

#[test]
fn the_worst_of_a_suite_decides_its_exit_code() {
    let copy = Copy::of(ID);
    let other = copy.root.path().join("scenarios/1-not-good");
    fs::create_dir_all(&other).expect("a folder");
    let suite = copy.run();
    assert_eq!((suite.count(Verdict::Pass), suite.count(Verdict::Invalid), suite.exit_code()), (1, 1, 2));
    copy.edit("golden/digest.audit.txt", |_| "sha256:00\n".into());
    assert_eq!(copy.run().exit_code(), 1);
}

#[test]
fn blessing_rewrites_goldens_and_baseline_and_tells_it() {
    let copy = Copy::of(ID);
    copy.edit("golden/digest.audit.txt", |_| "sha256:00\n".into());
    copy.edit("eval.toml", |text| text.replace("audit = 2", "audit = 7"));
    copy.baseline(|baseline| baseline.evals.clear());
    let told = bless(copy.root.path(), &BlessOptions::default()).expect("blessed");
    let paths: Vec<&str> = told.iter().map(|b| b.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "scenarios/1-second-turn-resumes/golden/digest.audit.txt",
            "scenarios/1-second-turn-resumes/eval.toml",
            "baseline.json"
        ]
    );
    assert_eq!(copy.against_baseline().exit_code(), 0);
    assert!(
        bless(copy.root.path(), &BlessOptions::default()).expect("blessed").is_empty(),
        "a second time changes nothing"
    );
}

#[test]
fn nothing_is_blessed_that_is_not_good() {
    let copy = Copy::of(ID);
    let before = fs::read(copy.root.path().join("baseline.json")).expect("a file");
    let ci = BlessOptions { ci: true, ..BlessOptions::default() };
    assert!(matches!(bless(copy.root.path(), &ci), Err(BlessError::Ci)));
    copy.edit("log.jsonl", |t| change(&t, 9, |v| v["event"]["data"]["usage"]["wall_ms"] = json!(1)));
    let result = bless(copy.root.path(), &BlessOptions::default());
    assert!(matches!(&result, Err(BlessError::NotGood { why, .. }) if why.contains("log.verify")), "{result:?}");
    assert_eq!(fs::read(copy.root.path().join("baseline.json")).expect("a file"), before);
}

#[test]
fn a_refusal_that_became_an_admission_is_blessed_only_by_name() {
    let copy = Copy::of(ID);
    copy.baseline(|baseline| {
        let entry = baseline.evals.values_mut().next().expect("an eval");
        entry.facts.decisions.values_mut().for_each(|d| *d = "refused:LAUNCHER_UNKNOWN".into());
    });
    let result = bless(copy.root.path(), &BlessOptions::default());
    assert!(matches!(result, Err(BlessError::RefusalToAllowed { .. })), "{result:?}");
    let named = BlessOptions { refusals_to_allowed: true, ..BlessOptions::default() };
    bless(copy.root.path(), &named).expect("blessed");
    assert_eq!(copy.against_baseline().exit_code(), 0);
}

#[test]
fn every_form_of_the_report_tells_what_failed() {
    let copy = Copy::of(ID);
    copy.edit("log.jsonl", |t| change(&t, 9, |v| v["event"]["data"]["detail"] = json!("<b>&\u{1b}[2J|`")));
    let suite = copy.run();
    let junit = report::junit(&suite);
    assert!(junit.contains("<failure message=") && !junit.contains("<b>") && !junit.contains('\u{1b}'));
    assert_eq!(junit.matches("<testcase ").count(), suite.evals[0].checks.len() + suite.evals[0].mutants.len());
    let summary: Value = serde_json::from_str(&report::json(&suite)).expect("JSON");
    assert_eq!(summary["counts"]["fail"], json!(1));
    assert_eq!(summary["exit_code"], json!(1));
    for text in [report::markdown(&suite), report::text(&suite)] {
        assert!(text.contains("log.verify") || text.contains("log\\.verify"), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert!(text.trim_end().ends_with("exit 1"), "{text}");
    }
}
