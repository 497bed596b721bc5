//! For a CI server: one test suite for each eval, one test case for each check and each mutant.

use crate::check::Check;
use crate::verdict::{EvalReport, MutantReport, Suite};
use std::fmt::Write as _;

/// JUnit XML. An invalid eval is an error, a failed check a failure.
pub fn junit(suite: &Suite) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    suite.evals.iter().for_each(|e| eval(&mut out, e));
    if !suite.drift.is_empty() {
        let n = suite.drift.len();
        let _ok = writeln!(out, "<testsuite name=\"baseline\" tests=\"{n}\" failures=\"{n}\" errors=\"0\">");
        for drift in &suite.drift {
            case(&mut out, "baseline", &drift.id, Some(("failure", drift.class.as_str(), &drift.details.join("\n"))));
        }
        out.push_str("</testsuite>\n");
    }
    out + "</testsuites>\n"
}

fn eval(out: &mut String, report: &EvalReport) {
    let failures = report.failed().count();
    let missed = report.mutants.iter().filter(|m| m.problem.is_some()).count();
    let unread = usize::from(report.checks.is_empty());
    let tests = report.checks.len() + report.mutants.len() + unread;
    let errors = missed + unread;
    let name = escaped(&report.id);
    let _ok =
        writeln!(out, "<testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">");
    if unread > 0 {
        let why = report.problem.clone().unwrap_or_default();
        case(out, &report.id, "eval", Some(("error", "invalid", &why)));
    }
    report.checks.iter().for_each(|c| check(out, &report.id, c));
    report.mutants.iter().for_each(|m| mutant(out, &report.id, m));
    out.push_str("</testsuite>\n");
}

fn check(out: &mut String, eval: &str, check: &Check) {
    let lines: Vec<String> = check
        .findings
        .iter()
        .map(|f| f.seq.map_or_else(|| f.what.clone(), |seq| format!("sequence {seq}: {}", f.what)))
        .collect();
    let text = lines.join("\n");
    let message = lines.first().map_or("", String::as_str);
    case(out, eval, &check.id, (!check.passed()).then_some(("failure", message, &text)));
}

fn mutant(out: &mut String, eval: &str, mutant: &MutantReport) {
    let name = ["mutant ", &mutant.name].concat();
    let problem = mutant.problem.as_ref().map(|p| ("error", p.as_str(), p));
    case(out, eval, &name, problem);
}

fn case(out: &mut String, class: &str, name: &str, problem: Option<(&str, &str, &String)>) {
    let (class, name) = (escaped(class), escaped(name));
    match problem {
        None => {
            let _ok = writeln!(out, "<testcase classname=\"{class}\" name=\"{name}\"/>");
        }
        Some((element, message, text)) => {
            let (message, text) = (escaped(message), escaped(text));
            let _ok = writeln!(
                out,
                "<testcase classname=\"{class}\" name=\"{name}\"><{element} message=\"{message}\">{text}</{element}></testcase>"
            );
        }
    }
}

/// Text for XML 1.0: markup escaped, characters that XML cannot hold replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
