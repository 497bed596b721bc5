//! One scenario with all of its mutants. A mutant that is not found makes the eval invalid, because then its pass would
//! mean nothing.

use crate::closing::is_trivial;
use crate::evaluate::{facts, once, twice};
use crate::scenario::{Mutant, Scenario, Source};
use crate::verdict::{EvalReport, MutantReport, Verdict};
use std::path::Path;

/// Lines before and after the first finding.
const CONTEXT: usize = 3;

/// Runs the scenario of a folder.
pub fn run_one(folder: &Path, id: &str) -> EvalReport {
    if !crate::identity::is_scenario(id) {
        return EvalReport::invalid(id, format!("{id:?} is not <stage>-<claim> in [a-z0-9-]"));
    }
    match Scenario::load(folder, id) {
        Ok(scenario) => judge(&scenario),
        Err(error) => EvalReport::invalid(id, error.to_string()),
    }
}

/// Judges a scenario that was read.
pub(crate) fn judge(scenario: &Scenario) -> EvalReport {
    let Scenario { eval, expect, slice, goldens, .. } = scenario;
    let evaluation = match twice(slice, eval, expect, goldens) {
        Ok(evaluation) => evaluation,
        Err(why) => return EvalReport::invalid(&scenario.id, why),
    };
    let facts = facts(slice, &scenario.log_digest, &evaluation);
    let mutants: Vec<MutantReport> = scenario.mutants.iter().map(|m| mutant(scenario, m)).collect();
    let failed = evaluation.checks.iter().any(|c| !c.passed());
    let missed = mutants.iter().find_map(|m| m.problem.as_ref().map(|p| format!("mutant {}: {p}", m.name)));
    let verdict = match (failed, &missed) {
        (true, _) => Verdict::Fail,
        (false, Some(_)) => Verdict::Invalid,
        (false, None) => Verdict::Pass,
    };
    let first = evaluation.checks.iter().flat_map(|c| &c.findings).find_map(|f| f.seq);
    EvalReport {
        id: scenario.id.clone(),
        verdict,
        claim: eval.claim.clone(),
        promises: eval.promises.clone(),
        modes: eval.modes.clone(),
        source: Some(eval.source),
        problem: missed,
        context: first.map(|seq| slice.context(seq, CONTEXT)).unwrap_or_default(),
        divergences: evaluation.decisions.map(|d| d.divergences).unwrap_or_default(),
        checks: evaluation.checks,
        mutants,
        facts: Some(facts),
    }
}

fn mutant(scenario: &Scenario, mutant: &Mutant) -> MutantReport {
    let Scenario { eval, expect, goldens, .. } = scenario;
    let by = mutant.note.must_fail_by.as_str();
    let mut report = MutantReport {
        name: mutant.name.clone(),
        must_fail_by: by.to_owned(),
        found: false,
        failed_by: Vec::new(),
        problem: None,
    };
    let evaluation = match once(&mutant.slice, eval, expect, goldens, usize::MAX) {
        Ok(evaluation) => evaluation,
        Err(why) => {
            report.problem = Some(why);
            return report;
        }
    };
    let failed = || evaluation.checks.iter().filter(|c| !c.passed()).map(|c| c.id.as_str());
    report.failed_by = failed().filter(|id| !is_trivial(id)).map(str::to_owned).collect();
    report.found = report.failed_by.iter().any(|id| id == by);
    if !report.found {
        let failed_by = report.failed_by.join(", ");
        report.problem = Some(if failed_by.is_empty() {
            format!("it passes; {by} should have failed")
        } else {
            format!("it fails by {failed_by} and not by {by}")
        });
    } else if eval.source == Source::Written && failed().any(|id| id == "log.verify") {
        // A thief without a key is found by the signatures. A mutant has to show the case where the keys are right.
        report.problem = Some("its signatures are broken; sign it with the test keys".into());
    }
    report
}
