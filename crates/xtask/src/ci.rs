//! `cargo xtask ci`: the checks that need no server, in the order in which they find most for the least time. The tests
//! are `ops/test`'s, which starts what they need. Must never stop at the first failure.

use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What became of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    /// Why it did not run.
    Skipped(&'static str),
}

const FMT: &[&str] = &["fmt", "--all", "--", "--check"];
const CLIPPY: &[&str] = &["clippy", "--locked", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
/// Without `advisories`: their database is on the network. deny.toml says when they are checked.
const DENY: &[&str] = &["deny", "--locked", "check", "bans", "licenses", "sources"];

/// Runs all checks, prints a summary, and says whether none failed.
///
/// # Errors
/// When cargo cannot be started, or tidy cannot read the tree.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let checks: [(&str, &dyn Fn() -> Result<Verdict>); 4] = [
        ("fmt", &|| cargo(root, FMT)),
        ("clippy", &|| cargo(root, CLIPPY)),
        ("tidy", &|| Ok(verdict(crate::tidy::run(root)?))),
        ("deny", &|| deny(root)),
    ];
    let mut rows = Vec::new();
    for (name, check) in checks {
        crate::out(&format!("==> {name}\n"))?;
        let began = Instant::now();
        rows.push((name, check()?, began.elapsed().as_secs_f32()));
    }
    crate::out(&summary(&rows))?;
    Ok(rows.iter().all(|(_, verdict, _)| *verdict != Verdict::Failed))
}

fn verdict(passed: bool) -> Verdict {
    if passed { Verdict::Passed } else { Verdict::Failed }
}

fn command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root);
    command
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<Verdict> {
    judged(&mut command(root, arguments)).with_context(|| format!("running cargo {}", arguments.join(" ")))
}

fn judged(command: &mut Command) -> Result<Verdict> {
    Ok(verdict(command.status()?.success()))
}

fn deny(root: &Path) -> Result<Verdict> {
    let there = command(root, &["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match there.context("running cargo deny --version")?.success() {
        true => cargo(root, DENY),
        false => Ok(Verdict::Skipped("cargo-deny is not installed: cargo install cargo-deny --locked")),
    }
}

fn summary(rows: &[(&str, Verdict, f32)]) -> String {
    let line = |(name, verdict, seconds): &(&str, Verdict, f32)| match verdict {
        Verdict::Passed => format!("ok   {name} ({seconds:.1} s)\n"),
        Verdict::Failed => format!("FAIL {name} ({seconds:.1} s)\n"),
        Verdict::Skipped(why) => format!("skip {name}: {why}\n"),
    };
    let failed = rows.iter().filter(|(_, verdict, _)| *verdict == Verdict::Failed).count();
    let skipped = rows.iter().filter(|(_, verdict, _)| matches!(verdict, Verdict::Skipped(_))).count();
    let last = format!("ci: {} passed, {failed} failed, {skipped} skipped\n", rows.len() - failed - skipped);
    rows.iter().map(line).chain([last]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_names_what_failed_and_what_did_not_run() {
        let rows = [("a", Verdict::Passed, 1.0), ("b", Verdict::Failed, 0.25), ("c", Verdict::Skipped("why"), 0.0)];
        let expected = "ok   a (1.0 s)\nFAIL b (0.2 s)\nskip c: why\nci: 1 passed, 1 failed, 1 skipped\n";
        assert_eq!(summary(&rows), expected);
    }

    #[test]
    fn the_exit_code_is_the_verdict() {
        assert_eq!(judged(&mut Command::new("true")).unwrap(), Verdict::Passed);
        assert_eq!(judged(&mut Command::new("false")).unwrap(), Verdict::Failed);
        assert!(judged(&mut Command::new("/no/such/program")).is_err());
    }
}
