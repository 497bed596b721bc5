//! `cargo xtask tidy`: what no compiler checks. Every rule is a function over the file tree (see [`crate::tree`]) that
//! says how much it looked at and what it found; one that looked at nothing has failed. Must never change a file.

mod agents;
mod clients;
mod contracts;
mod crates;
mod docs;
mod hygiene;
mod images;
mod promises;
mod purity;
mod spawns;

pub(crate) use contracts::problems as contract_problems;

use crate::tree::Tree;
use anyhow::Result;
use std::fmt::Write as _;
use std::path::Path;

/// What one rule found.
#[derive(Debug)]
pub(crate) struct Outcome {
    rule: &'static str,
    checked: usize,
    failures: Vec<Finding>,
    warnings: Vec<Finding>,
    notes: Vec<String>,
    /// Why it is right that there was nothing to look at.
    nothing: Option<&'static str>,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The file, relative to the root, with `:line` where there is one.
    pub(crate) path: String,
    /// A sentence.
    pub(crate) why: String,
}

impl Outcome {
    fn new(rule: &'static str) -> Self {
        Self { rule, checked: 0, failures: Vec::new(), warnings: Vec::new(), notes: Vec::new(), nothing: None }
    }

    fn fail(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.failures.push(Finding { path: path.into(), why: why.into() });
    }

    fn warn(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.warnings.push(Finding { path: path.into(), why: why.into() });
    }

    /// Whether the rule holds.
    pub(crate) fn passed(&self) -> bool {
        self.failures.is_empty() && (self.checked > 0 || self.nothing.is_some())
    }

    /// The lines for the terminal.
    pub(crate) fn report(&self) -> String {
        let mut out = String::new();
        let rule = self.rule;
        for finding in &self.warnings {
            let _ = writeln!(out, "warn {rule}: {}: {}", finding.path, finding.why); // writing to a String cannot fail
        }
        for finding in &self.failures {
            let _ = writeln!(out, "FAIL {rule}: {}: {}", finding.path, finding.why); // as above
        }
        if self.failures.is_empty() {
            let line = match (self.checked, self.nothing) {
                (0, None) => format!("FAIL {rule}: .: it found nothing to check, so it proves nothing"),
                (0, Some(why)) => format!("ok   {rule} (0 checked: {why})"),
                (n, _) => format!(
                    "ok   {rule} ({n} checked{})",
                    self.notes.iter().map(|n| format!("; {n}")).collect::<String>()
                ),
            };
            out.push_str(&line);
            out.push('\n');
        }
        out
    }
}

type Rule = fn(&Tree) -> Outcome;

const RULES: &[Rule] = &[
    crates::edges,
    crates::owned,
    crates::lints,
    purity::named,
    purity::source,
    spawns::processes,
    clients::guarded,
    docs::modules,
    contracts::folders,
    contracts::seals,
    images::documents,
    agents::unnamed,
    docs::folders,
    docs::architecture,
    hygiene::long_files,
    hygiene::machine_paths,
    hygiene::registries,
    hygiene::scripts,
    promises::proofs,
    promises::attacks,
];

/// Runs every rule, prints what each found, and says whether all of them hold.
///
/// # Errors
/// When the tree cannot be read: nothing is known then.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let tree = Tree::load(root)?;
    let mut failed = 0usize;
    // Last, for it asks cargo and takes longest.
    let linked = std::iter::once_with(|| purity::linked(purity::cargo_trees(root)));
    for outcome in RULES.iter().map(|rule| rule(&tree)).chain(linked) {
        failed += usize::from(!outcome.passed());
        crate::out(&outcome.report())?;
    }
    let total = RULES.len() + 1;
    crate::out(&match failed {
        0 => format!("tidy: all {total} rules hold\n"),
        n => format!("tidy: {n} of {total} rules are broken\n"),
    })?;
    Ok(failed == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_checked_nothing_fails_unless_it_says_why() {
        let mut outcome = Outcome::new("r");
        assert!(!outcome.passed());
        assert_eq!(outcome.report(), "FAIL r: .: it found nothing to check, so it proves nothing\n");
        outcome.nothing = Some("there are none");
        assert!(outcome.passed());
        assert_eq!(outcome.report(), "ok   r (0 checked: there are none)\n");
    }

    #[test]
    fn the_report_names_rule_path_and_reason() {
        let mut outcome = Outcome::new("r");
        outcome.checked = 2;
        outcome.notes.push("one more".into());
        assert_eq!(outcome.report(), "ok   r (2 checked; one more)\n");
        outcome.warn("a", "long");
        outcome.fail("b", "wrong");
        assert!(!outcome.passed());
        assert_eq!(outcome.report(), "warn r: a: long\nFAIL r: b: wrong\n");
    }

    #[test]
    fn every_rule_fails_on_an_empty_tree() {
        for rule in RULES {
            let outcome = rule(&Tree::default());
            assert!(!outcome.passed() || outcome.nothing.is_some(), "{}", outcome.rule);
        }
    }
}
