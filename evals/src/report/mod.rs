//! A suite as text, markdown, JSON and JUnit XML. Pure: strings come back, nobody is written to.

mod junit;
mod markdown;
mod text;

pub use junit::junit;
pub use markdown::markdown;
pub use text::{one, text};

use crate::verdict::Suite;
use serde_json::{Value, json};

/// The summary: counts, exit code, and every eval and difference whole.
pub fn json(suite: &Suite) -> String {
    let document = json!({
        "schema": "eval-summary.v1",
        "counts": counts(suite),
        "exit_code": suite.exit_code(),
        "suite": serde_json::to_value(suite).unwrap_or_default(),
    });
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

fn counts(suite: &Suite) -> Value {
    use crate::verdict::Verdict;
    let mutants: usize = suite.evals.iter().map(|e| e.mutants.len()).sum();
    let found: usize = suite.evals.iter().map(|e| e.mutants.iter().filter(|m| m.found).count()).sum();
    let checks: usize = suite.evals.iter().map(|e| e.checks.len()).sum();
    json!({
        "evals": suite.evals.len(),
        "pass": suite.count(Verdict::Pass),
        "fail": suite.count(Verdict::Fail),
        "invalid": suite.count(Verdict::Invalid),
        "checks": checks,
        "mutants": mutants,
        "mutants_found": found,
        "drift": suite.drift.len(),
    })
}

/// `9 evals, 8 pass, …`: the closing line of every form.
fn closing_line(suite: &Suite) -> String {
    let c = counts(suite);
    format!(
        "{} evals: {} pass, {} fail, {} invalid; {} checks; {} of {} mutants found; {} differ from the baseline; exit {}",
        c["evals"],
        c["pass"],
        c["fail"],
        c["invalid"],
        c["checks"],
        c["mutants_found"],
        c["mutants"],
        c["drift"],
        suite.exit_code()
    )
}
