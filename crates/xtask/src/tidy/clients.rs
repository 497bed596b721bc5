//! Whatever asks others over HTTP goes through one guarded client: no source but `crates/outbound` begins one. Must never
//! know which addresses that one allows.

use super::Outcome;
use crate::source;
use crate::tree::Tree;

/// Ways to begin a client of reqwest's.
const BEGINS: &[&str] = &["Client::builder", "ClientBuilder::new", "reqwest::get", "reqwest::Client::new"];

/// The one place.
const OUTBOUND: &str = "crates/outbound/src/";

/// Tests, and modules of them that a file of their own holds (`mod tests_doors`).
fn of_tests(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    source::is_test_file(path) || name.starts_with("tests_")
}

/// No source begins an HTTP client of its own.
pub(crate) fn guarded(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("http-clients");
    let files = tree.texts().filter(|(path, _)| path.ends_with(".rs") && !path.starts_with(OUTBOUND));
    for (path, text) in files.filter(|(path, _)| !of_tests(path)) {
        outcome.checked += 1;
        let code = source::without_tests(&source::code(text));
        let found = BEGINS.iter().flat_map(|word| source::words(&code, word).map(move |at| (at, *word))).min();
        if let Some((at, word)) = found {
            let why = format!(
                "`{word}` begins an HTTP client that may be led anywhere; custody_outbound::builder begins one that may not"
            );
            outcome.fail(format!("{path}:{}", source::line_of(&code, at)), why);
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing("crates/engine/src/a.rs", "fn a() {}", true)]
    #[case::one("crates/engine/src/a.rs", "fn a() { reqwest::Client::builder() }", false)]
    #[case::under_a_short_name("crates/oidc/src/a.rs", "fn a() { Client::builder() }", false)]
    #[case::the_guarded_one("crates/oidc/src/a.rs", "fn a() { custody_outbound::builder(url, inside) }", true)]
    #[case::where_it_is_made("crates/outbound/src/lib.rs", "fn a() { Client::builder() }", true)]
    #[case::in_a_test("crates/oidc/src/a.rs", "#[cfg(test)]\nmod tests { fn a() { Client::builder() } }", true)]
    #[case::in_a_file_of_tests("crates/engine/src/tests_doors.rs", "fn a() { Client::builder() }", true)]
    #[case::only_in_words("crates/oidc/src/a.rs", "// Client::builder is not used", true)]
    fn only_the_guarded_client_is_begun(#[case] path: &str, #[case] text: &str, #[case] passes: bool) {
        let outcome = guarded(&Tree::of(&[(path, text), ("crates/engine/src/other.rs", "fn b() {}")]));
        assert!(outcome.checked > 0);
        assert_eq!(outcome.passed(), passes, "{}", outcome.report());
    }
}
