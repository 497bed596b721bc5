//! The pages that a reader looks for exist, and say something about every folder, crate and module.

use super::Outcome;
use super::crates;
use crate::tree::Tree;

/// The first level of folders.
const FOLDERS: &[&str] = &["crates", "streams", "contracts", "projections", "runner-images", "evals", "ui", "ops"];

/// The pages at the root.
const PAGES: &[&str] = &["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md", "LICENSE"];

/// Every Rust file begins by saying what it is for.
pub(crate) fn modules(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("module-docs");
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".rs") && path.contains("/src/")) {
        outcome.checked += 1;
        let says = text.strip_prefix("//!").and_then(|rest| rest.lines().next()).unwrap_or_default();
        if says.trim().is_empty() {
            outcome.fail(path, "does not begin with `//!` and what the module is for");
        }
    }
    outcome
}

/// Every top-level folder has a README, and the root has its pages.
pub(crate) fn folders(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("pages");
    let readmes = FOLDERS.iter().map(|folder| format!("{folder}/README.md"));
    for path in readmes.chain(PAGES.iter().map(|page| (*page).to_owned())) {
        outcome.checked += 1;
        if tree.text(&path).is_none_or(|text| text.trim().is_empty()) {
            outcome.fail(path, "is missing or empty");
        }
    }
    outcome
}

/// ARCHITECTURE.md knows every crate, by its folder or by its package's name.
pub(crate) fn architecture(tree: &Tree) -> Outcome {
    const PAGE: &str = "ARCHITECTURE.md";
    let mut outcome = Outcome::new("architecture");
    let Some(page) = tree.text(PAGE) else {
        outcome.fail(PAGE, "is missing");
        return outcome;
    };
    for manifest in crates::manifests(tree, &mut outcome) {
        outcome.checked += 1;
        let folder = manifest.folder().trim_end_matches('/');
        if !names(page, folder) && !names(page, &manifest.name) {
            outcome.fail(PAGE, format!("names neither `{folder}` nor `{}`", manifest.name));
        }
    }
    outcome
}

/// Whether the name stands in the text and is not a part of a longer one.
fn names(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::says("//! What it is for.\n", true)]
    #[case::says_nothing("//!\nfn f() {}\n", false)]
    #[case::an_item_first("use a;\n//! late\n", false)]
    #[case::outer_doc("/// of the item\nfn f() {}\n", false)]
    #[case::empty("", false)]
    fn modules_begin_with_their_doc(#[case] text: &str, #[case] passes: bool) {
        assert_eq!(modules(&Tree::of(&[("crates/a/src/b.rs", text)])).passed(), passes);
    }

    #[test]
    fn folders_wants_each_page() {
        let mut tree = Tree::default();
        for path in FOLDERS.iter().map(|f| format!("{f}/README.md")).chain(PAGES.iter().map(|p| (*p).to_owned())) {
            assert!(folders(&tree).failures.iter().any(|f| f.path == path), "{path}");
            tree.put(&path, "words", false);
        }
        assert!(folders(&tree).passed());
        tree.put("ui/README.md", " \n", false);
        assert!(!folders(&tree).passed());
    }

    #[rstest]
    #[case::by_folder("* `crates/ledger`: the log", true)]
    #[case::by_package("`custody-ledger` is pure", true)]
    #[case::as_part_of_another("`crates/ledger-view`, custody-ledger2", false)]
    #[case::by_a_common_word("the ledger is the system", false)]
    fn architecture_names_every_crate(#[case] page: &str, #[case] passes: bool) {
        let manifest = "[package]\nname = \"custody-ledger\"\n";
        let tree = Tree::of(&[("ARCHITECTURE.md", page), ("crates/ledger/Cargo.toml", manifest)]);
        assert_eq!(architecture(&tree).passed(), passes);
        assert!(!architecture(&Tree::of(&[("crates/ledger/Cargo.toml", manifest)])).passed());
    }
}
