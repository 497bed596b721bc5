//! Every promise of the README names its proof, and the proof is there. A proof is a path, or `crate::test_name`.

use super::Outcome;
use super::crates::{self, Manifest};
use crate::source;
use crate::tree::Tree;

const PAGE: &str = "README.md";

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
