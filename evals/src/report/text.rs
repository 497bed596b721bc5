//! For a terminal.

use super::closing_line;
use crate::check::{Check, Finding};
use crate::verdict::{EvalReport, Suite, Verdict};
use custody_projections::row::plain;
use std::fmt::Write as _;

/// A whole suite.
pub fn text(suite: &Suite) -> String {
    let mut out: String = suite.evals.iter().map(one).collect();
    for drift in &suite.drift {
        // Writing into a string cannot fail.
        let _ok = writeln!(out, "drift    {}: {}", drift.id, drift.class.as_str());
        for detail in &drift.details {
            let _ok = writeln!(out, "         {}", plain(detail, 600));
        }
    }
    out + &closing_line(suite) + "\n"
}

/// One eval: a line when it passes, and everything that is wrong when it does not.
pub fn one(report: &EvalReport) -> String {
    let mut out = String::new();
    let looked: u64 = report.checks.iter().map(|c| c.looked_at).sum();
    let found = report.mutants.iter().filter(|m| m.found).count();
    let _ok = writeln!(
        out,
        "{:8} {}  ({} checks over {looked} facts, {found} of {} mutants found)",
        report.verdict.as_str(),
        report.id,
        report.checks.len(),
        report.mutants.len()
    );
    if report.verdict == Verdict::Pass {
        return out;
    }
    if let Some(problem) = &report.problem {
        let _ok = writeln!(out, "         {}", plain(problem, 600));
    }
    for check in report.failed() {
        check.findings.iter().for_each(|f| finding(&mut out, check, f));
    }
    for line in &report.context {
        let _ok = writeln!(out, "         | {}", plain(line, 300));
    }
    out
}

fn finding(out: &mut String, check: &Check, finding: &Finding) {
    let place = finding.seq.map_or_else(String::new, |seq| format!(" at sequence {seq}"));
    let _ok = writeln!(out, "         {}{place}: {}", check.id, plain(&finding.what, 600));
}
