//! For a pull request: only what is not green, and what changed.

use super::closing_line;
use crate::verdict::{EvalReport, Suite, Verdict};
use custody_projections::row::plain;
use std::fmt::Write as _;

/// A table of what failed or changed, then the first diverging line of each with its context.
pub fn markdown(suite: &Suite) -> String {
    let mut out = String::from("### Evals\n\n");
    let bad: Vec<&EvalReport> = suite.evals.iter().filter(|e| e.verdict != Verdict::Pass).collect();
    if !bad.is_empty() {
        out.push_str("| eval | verdict | why |\n| --- | --- | --- |\n");
        for report in &bad {
            let _ok = writeln!(out, "| {} | {} | {} |", cell(&report.id), report.verdict.as_str(), cell(&why(report)));
        }
        out.push('\n');
    }
    if !suite.drift.is_empty() {
        out.push_str("| eval | against the baseline | what |\n| --- | --- | --- |\n");
        for drift in &suite.drift {
            let blocks = if drift.blocks() { " **blocks; two reviewers**" } else { "" };
            let what = cell(&drift.details.join("; "));
            let _ok = writeln!(out, "| {} | {}{blocks} | {what} |", cell(&drift.id), drift.class.as_str());
        }
        out.push('\n');
    }
    for report in bad.iter().filter(|r| !r.context.is_empty()) {
        let _ok = writeln!(out, "{}:\n", cell(&report.id));
        for line in &report.context {
            let _ok = writeln!(out, "    {}", plain(line, 300));
        }
        out.push('\n');
    }
    out + &closing_line(suite) + "\n"
}

fn why(report: &EvalReport) -> String {
    let first = report.failed().next().and_then(|c| c.findings.first().map(|f| (c, f)));
    match (first, &report.problem) {
        (Some((check, finding)), _) => {
            let place = finding.seq.map_or_else(String::new, |seq| format!(" at sequence {seq}"));
            format!("{}{place}: {}", check.id, finding.what)
        }
        (None, Some(problem)) => problem.clone(),
        (None, None) => String::new(),
    }
}

/// Text that stays inside its cell and is never markup.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in plain(text, 400).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '!' | '@' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
