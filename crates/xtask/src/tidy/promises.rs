//! Every promise of the README names its proof, and the proof is there. A proof is a path, or `crate::test_name`. The tests
//! that SECURITY.md names are there too, and counted for each attack.

use super::Outcome;
use super::crates::{self, Manifest};
use crate::source;
use crate::tree::Tree;
use std::collections::BTreeSet;

const PAGE: &str = "README.md";
/// Where the attacks stand, each row with its tests.
const ATTACKS: &str = "SECURITY.md";
/// The numbers of the trust design's attacks.
const NUMBERS: std::ops::RangeInclusive<usize> = 1..=50;

/// Each `proof:` in the README is followed by backticked proofs that exist.
pub(crate) fn proofs(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("readme-proofs");
    let Some(page) = tree.text(PAGE) else {
        outcome.fail(PAGE, "is missing");
        return outcome;
    };
    let manifests = crates::manifests(tree, &mut outcome);
    for (number, line) in page.lines().enumerate() {
        let Some((_, after)) = line.split_once("proof:") else { continue };
        let place = format!("{PAGE}:{}", number + 1);
        let named = backticked(after);
        if named.is_empty() {
            outcome.fail(place.as_str(), "says proof: and names none in backticks");
        }
        for proof in named {
            outcome.checked += 1;
            if let Err(why) = find(tree, &manifests, proof) {
                outcome.fail(place.as_str(), format!("`{proof}`: {why}"));
            }
        }
    }
    outcome
}

/// Each test that SECURITY.md names is there, and what it says of their number is so.
pub(crate) fn attacks(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("security-proofs");
    let Some(page) = tree.text(ATTACKS) else {
        outcome.fail(ATTACKS, "is missing");
        return outcome;
    };
    let manifests = crates::manifests(tree, &mut outcome);
    for (number, line) in page.lines().enumerate() {
        for test in backticked(line).into_iter().filter(|word| is_test(word)) {
            outcome.checked += 1;
            if let Err(why) = find(tree, &manifests, test) {
                outcome.fail(format!("{ATTACKS}:{}", number + 1), format!("`{test}`: {why}"));
            }
        }
    }
    let counted = counted(page);
    if !page.lines().any(|line| line == counted) {
        outcome.fail(ATTACKS, format!("does not count its tests: {counted:?}"));
    }
    outcome
}

fn is_test(word: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    word.contains("::") && word.split("::").all(plain)
}

/// How many tests stand in rows of each attack: of the numbers that a row's first cell says, the tests and scenarios of its
/// last one. `the same` there is the row's before.
fn counted(page: &str) -> String {
    let mut of: Vec<BTreeSet<&str>> = NUMBERS.map(|_| BTreeSet::new()).collect();
    let mut before: Vec<&str> = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let (Some(first), Some(last)) = (cells.first(), cells.last()) else { continue };
        let mut tests = backticked(last);
        tests.retain(|word| is_test(word) || word.starts_with("evals/"));
        if last.contains("the same") {
            tests.append(&mut before);
        }
        for number in NUMBERS.filter(|number| first.contains(&format!("T{number:02}"))) {
            if let Some(all) = of.get_mut(number - 1) {
                all.extend(tests.iter().copied());
            }
        }
        before = tests;
    }
    let some = NUMBERS.zip(of).filter(|(_, tests)| !tests.is_empty());
    let each: Vec<String> = some.map(|(number, tests)| format!("T{number:02} {}", tests.len())).collect();
    format!("Counted: {}.", each.join(", "))
}

fn backticked(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).filter(|word| !word.is_empty()).collect()
}

fn find(tree: &Tree, manifests: &[Manifest<'_>], proof: &str) -> Result<(), String> {
    let Some((krate, rest)) = proof.split_once("::") else {
        return if tree.exists(proof) { Ok(()) } else { Err("there is no such file".into()) };
    };
    let test = rest.rsplit("::").next().unwrap_or(rest);
    let is_it = |m: &&Manifest<'_>| {
        let folder = m.folder().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let plain = krate.replace('_', "-");
        plain == m.name || plain == folder || format!("custody-{plain}") == m.name
    };
    let manifest = manifests.iter().find(is_it).ok_or_else(|| format!("there is no crate {krate}"))?;
    let has = tree
        .below(manifest.folder())
        .filter(|path| path.ends_with(".rs"))
        .filter_map(|path| tree.text(path))
        .any(|text| text.contains(test) && source::has_test(&source::code(text), test));
    if has { Ok(()) } else { Err(format!("{} has no test function {test}", manifest.name)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::as_it_is("| T01 a; T02 b | refused | `ledger::it_holds` |\n\nCounted: T01 1, T02 1.", true)]
    #[case::the_same("| T01 a | no | `ledger::it_holds` |\n| T03 c | no | the same |\n\nCounted: T01 1, T03 1.", true)]
    #[case::twice("| T01 a | no | `ledger::it_holds` |\n| T01 b | no | `ledger::it_holds` |\n\nCounted: T01 1.", true)]
    #[case::of_another_time("| T01 a | no | `ledger::it_holds` |\n\nCounted: T01 2.", false)]
    #[case::not_counted("| T01 a | no | `ledger::it_holds` |", false)]
    #[case::gone("| T01 a | no | `ledger::it_held` |\n\nCounted: T01 1.", false)]
    fn attacks_have_their_tests_and_are_counted(#[case] rows: &str, #[case] passes: bool) {
        let outcome = attacks(&Tree::of(&[
            ("SECURITY.md", &format!("# Security\n\n{rows}\n")),
            ("crates/ledger/Cargo.toml", "[package]\nname = \"custody-ledger\"\n"),
            ("crates/ledger/src/log.rs", "#[test]\nfn it_holds() {}\n"),
        ]));
        assert_eq!(outcome.passed(), passes, "{:?}", outcome.failures);
    }

    #[rstest]
    #[case::test("| a | proof: `ledger::it_holds` |", true)]
    #[case::test_by_package("| a | proof: `custody_ledger::log::it_holds` |", true)]
    #[case::file("| a | proof: `evals/scenarios/one/` and `ops/up` |", true)]
    #[case::one_of_two("| a | proof: `ops/up`, `ledger::it_does_not` |", false)]
    #[case::no_such_test("| a | proof: `ledger::it_holds_twice` |", false)]
    #[case::not_a_test("| a | proof: `ledger::helper` |", false)]
    #[case::no_such_crate("| a | proof: `ledgers::it_holds` |", false)]
    #[case::no_such_file("| a | proof: `ops/down` |", false)]
    #[case::names_nothing("| a | proof: see the tests |", false)]
    #[case::no_promise_at_all("| a | b |", false)]
    fn proofs_exist(#[case] line: &str, #[case] passes: bool) {
        let outcome = proofs(&Tree::of(&[
            ("README.md", &format!("# Custody\n{line}\n")),
            ("crates/ledger/Cargo.toml", "[package]\nname = \"custody-ledger\"\n"),
            ("crates/ledger/src/log.rs", "#[test]\nfn it_holds() {}\nfn helper() {}\n"),
            ("evals/scenarios/one/expected.json", "{}"),
            ("ops/up", "x"),
        ]));
        assert_eq!(outcome.passed(), passes, "{:?}", outcome.failures);
    }
}
