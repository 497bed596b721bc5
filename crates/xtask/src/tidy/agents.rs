//! The platform knows no agent: what is particular to one stands in its runner's documents. Must never be satisfied by a
//! name that is only written in another case.

use super::Outcome;
use crate::image;
use crate::source::{is_test_file, line_of, words};
use crate::tree::Tree;

/// Where the platform's code is.
const PLATFORM: &[&str] =
    &["crates/", "contracts/src/", "streams/src/", "projections/src/", "runner-images/worker/src/"];

/// No source file of the platform names an agent of others. Tests may: they run some.
pub(crate) fn unnamed(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("agents");
    let agents: Vec<String> = image::runners(tree).into_iter().filter(|name| is_foreign(tree, name)).collect();
    if agents.is_empty() {
        outcome.nothing = Some("no runner comes from packages");
    }
    for (path, text) in tree.texts().filter(|(path, _)| is_platform(path)) {
        outcome.checked += 1;
        let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_lowercase();
        for agent in &agents {
            for at in words(&code, agent) {
                outcome.fail(
                    format!("{path}:{}", line_of(&code, at)),
                    format!("names the agent {agent}: what is particular to it belongs into runner-images/{agent}/"),
                );
            }
        }
    }
    outcome
}

/// Whether a file is the platform's code; files of tests only are named `tests…`.
fn is_platform(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let tests = is_test_file(path) || name.starts_with("tests");
    name.ends_with(".rs") && PLATFORM.iter().any(|folder| path.starts_with(folder)) && !tests
}

/// Whether a runner's agent comes as packages of others.
fn is_foreign(tree: &Tree, runner: &str) -> bool {
    tree.text(&format!("{}{runner}/npm/package.json", image::FOLDER)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::none("crates/a/src/lib.rs", "let x = 1;", true)]
    #[case::in_a_string("crates/a/src/lib.rs", "if name == \"robo\" {}", false)]
    #[case::in_a_comment("contracts/src/a.rs", "// ROBO wants this", false)]
    #[case::in_the_worker("runner-images/worker/src/a.rs", "robo()", false)]
    #[case::part_of_a_word("crates/a/src/lib.rs", "robotic", true)]
    #[case::in_a_test("crates/a/src/lib.rs", "x\n#[cfg(test)]\nmod tests { robo }", true)]
    #[case::in_a_test_file("crates/a/tests/live/robo.rs", "robo", true)]
    #[case::in_a_file_of_tests("crates/a/src/tests_robo.rs", "robo", true)]
    #[case::in_its_own_folder("runner-images/robo/README.md", "robo", true)]
    fn names_are_found(#[case] path: &str, #[case] text: &str, #[case] passes: bool) {
        let outcome = unnamed(&Tree::of(&[
            ("runner-images/robo/layer.toml", ""),
            ("runner-images/robo/npm/package.json", "{}"),
            ("crates/b/src/lib.rs", "fine"),
            (path, text),
        ]));
        assert_eq!(outcome.passed(), passes, "{:?}", outcome.failures);
    }
}
