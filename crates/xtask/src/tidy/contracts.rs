//! Every contract's folder is complete, and what is sealed has not changed. Does not validate documents: the contracts
//! crate's own tests send every golden and every reject through the validator.

use super::{Finding, Outcome};
use crate::seal;
use crate::tree::Tree;
use serde_json::Value;

/// Folders of the contracts crate that are not contracts.
const CODE: &[&str] = &["src", "tests", "examples"];

/// The names of all contract folders, `unit.v1` and so on, in order.
fn names(tree: &Tree) -> Vec<String> {
    tree.folders("contracts/").into_iter().filter(|name| !CODE.contains(&name.as_str())).collect()
}

/// README, schema, and for every shape at least one golden and one reject.
pub(crate) fn folders(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("contract-folders");
    for name in names(tree) {
        outcome.checked += 1;
        outcome.failures.extend(problems(tree, &name));
    }
    outcome
}

/// What is missing in one contract's folder.
pub(crate) fn problems(tree: &Tree, name: &str) -> Vec<Finding> {
    let folder = format!("contracts/{name}");
    let mut found = Vec::new();
    let mut fail = |path: String, why: String| found.push(Finding { path, why });
    if seal::version(name).is_none_or(|version| version == 0) {
        fail(folder.clone(), "is not named NAME.vN with N from 1".into());
    }
    if tree.text(&format!("{folder}/README.md")).is_none_or(|text| !text.contains(name)) {
        fail(format!("{folder}/README.md"), format!("is missing or does not name {name}"));
    }
    let shapes = match tree.text(&format!("{folder}/schema.json")).map(serde_json::from_str::<Value>) {
        None => {
            fail(format!("{folder}/schema.json"), "is missing".into());
            return found;
        }
        Some(Err(error)) => {
            fail(format!("{folder}/schema.json"), format!("is not JSON: {error}"));
            return found;
        }
        Some(Ok(schema)) => shapes(&schema),
    };
    if shapes.is_empty() {
        fail(format!("{folder}/schema.json"), "names no shape in x-shapes".into());
    }
    for kind in ["golden", "reject"] {
        let below = format!("{folder}/{kind}/");
        let mut seen: Vec<&str> = Vec::new();
        for path in tree.below(&below) {
            match shape_of(&path[below.len()..], kind) {
                Some(shape) if shapes.iter().any(|s| s == shape) => seen.push(shape),
                _ => fail(path.to_owned(), format!("is not named {} after a shape in x-shapes", pattern(kind))),
            }
            if tree.text(path).is_none_or(|text| serde_json::from_str::<Value>(text).is_err()) {
                fail(path.to_owned(), "is not JSON".into());
            }
        }
        for shape in shapes.iter().filter(|shape| !seen.contains(&shape.as_str())) {
            fail(below.clone(), format!("has no {} for the shape {shape}", pattern(kind)));
        }
    }
    found
}

fn shapes(schema: &Value) -> Vec<String> {
    let listed = schema.get("x-shapes").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(|shape| shape.as_str().map(str::to_owned)).collect()
}

fn pattern(kind: &str) -> &'static str {
    if kind == "golden" { "<Shape>.<case>.json" } else { "<Shape>.<case>.<keyword>.json" }
}

/// The shape that a file name begins with, if it has the right number of parts.
fn shape_of<'a>(file: &'a str, kind: &str) -> Option<&'a str> {
    let parts: Vec<&str> = file.strip_suffix(".json")?.split('.').collect();
    let wanted = if kind == "golden" { 2 } else { 3 };
    (parts.len() == wanted && parts.iter().all(|part| !part.is_empty())).then(|| parts[0])
}

/// Every sealed schema has the digest it was sealed with, and seal.json is as `cargo xtask seal` writes it.
pub(crate) fn seals(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("seals");
    let seals = match seal::read(tree) {
        Ok(Some(seals)) => seals,
        Ok(None) => {
            outcome.fail(seal::PATH, "is missing: seal a contract with `cargo xtask seal --add NAME.vN`");
            return outcome;
        }
        Err(why) => {
            outcome.fail(seal::PATH, format!("{why:#}"));
            return outcome;
        }
    };
    if tree.text(seal::PATH) != Some(seal::render(&seals).as_str()) {
        outcome.fail(seal::PATH, "was edited by hand: only `cargo xtask seal --add` writes it");
    }
    for (name, sealed) in &seals {
        outcome.checked += 1;
        if let Some(why) = seal::broken(tree, name, sealed) {
            outcome.fail(format!("contracts/{name}/schema.json"), why);
        }
    }
    if seals.is_empty() {
        outcome.nothing = Some("no contract is sealed yet");
    }
    let open: Vec<String> = names(tree).into_iter().filter(|name| !seals.contains_key(name)).collect();
    if !open.is_empty() {
        outcome.notes.push(format!("not sealed yet: {}", open.join(" ")));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const FILES: &[(&str, &str)] = &[
        ("contracts/a.v1/README.md", "# a.v1\n"),
        ("contracts/a.v1/schema.json", r#"{"x-shapes":["A","B"]}"#),
        ("contracts/a.v1/golden/A.minimal.json", "{}"),
        ("contracts/a.v1/golden/B.minimal.json", "{}"),
        ("contracts/a.v1/reject/A.no-id.required.json", "{}"),
        ("contracts/a.v1/reject/B.no-id.required.json", "{}"),
        ("contracts/src/lib.rs", "//! x\n"),
    ];

    #[test]
    fn a_complete_folder_passes() {
        let outcome = folders(&Tree::of(FILES));
        assert!(outcome.passed(), "{:?}", outcome.failures);
        assert_eq!(outcome.checked, 1);
    }

    #[rstest]
    #[case::no_readme("README.md", None, "does not name a.v1")]
    #[case::readme_of_another("README.md", Some("# b.v1"), "does not name a.v1")]
    #[case::no_schema("schema.json", None, "is missing")]
    #[case::broken_schema("schema.json", Some("{"), "is not JSON")]
    #[case::no_shapes("schema.json", Some("{}"), "names no shape")]
    #[case::no_golden_of_one_shape("golden/B.minimal.json", None, "for the shape B")]
    #[case::no_reject_of_one_shape("reject/B.no-id.required.json", None, "for the shape B")]
    #[case::golden_of_no_shape("golden/C.minimal.json", Some("{}"), "after a shape in x-shapes")]
    #[case::reject_without_keyword("reject/A.no-id.json", Some("{}"), "<Shape>.<case>.<keyword>.json")]
    #[case::golden_not_json("golden/A.full.json", Some("{"), "is not JSON")]
    fn each_gap_is_named(#[case] file: &str, #[case] text: Option<&str>, #[case] expected: &str) {
        let path = format!("contracts/a.v1/{file}");
        let kept: Vec<(&str, &str)> = FILES.iter().copied().filter(|(p, _)| *p != path).collect();
        let mut tree = Tree::of(&kept);
        if let Some(text) = text {
            tree.put(&path, text, false);
        }
        let whys = folders(&tree).failures;
        assert!(whys.iter().any(|f| f.why.contains(expected)), "{whys:?}");
    }

    #[test]
    fn versions_begin_at_one() {
        assert!(problems(&Tree::of(FILES), "a.v0").iter().any(|f| f.why.contains("NAME.vN")));
        let mut tree = Tree::of(FILES);
        tree.put("contracts/b/schema.json", "{}", false);
        assert!(folders(&tree).failures.iter().any(|f| f.path == "contracts/b" && f.why.contains("NAME.vN")));
        assert!(problems(&Tree::of(FILES), "a.vx").iter().any(|f| f.why.contains("NAME.vN")));
    }

    #[rstest]
    #[case::missing(None, "is missing")]
    #[case::not_json(Some("["), "not an object")]
    #[case::another_layout(Some("{ }"), "edited by hand")]
    #[case::wrong_digest(Some("{\n  \"a.v1\": \"sha256:00\"\n}\n"), "make a new .v2 with an upcaster")]
    #[case::gone(Some("{\n  \"b.v1\": \"sha256:00\"\n}\n"), "b.v1 is sealed, but")]
    fn seals_fail_by_name(#[case] text: Option<&str>, #[case] expected: &str) {
        let mut tree = Tree::of(FILES);
        if let Some(text) = text {
            tree.put(seal::PATH, text, false);
        }
        let outcome = seals(&tree);
        assert!(!outcome.passed());
        assert!(outcome.failures.iter().any(|f| f.why.contains(expected)), "{:?}", outcome.failures);
    }

    #[test]
    fn no_seals_is_said_in_words() {
        let mut tree = Tree::of(FILES);
        tree.put(seal::PATH, &seal::render(&seal::Seals::new()), false);
        assert_eq!(seals(&tree).report(), "ok   seals (0 checked: no contract is sealed yet)\n");
    }

    #[test]
    fn seals_hold_and_say_what_is_open() {
        let mut tree = Tree::of(FILES);
        let text = seal::render(&seal::added(&tree, &["a.v1".to_owned()]).unwrap());
        tree.put(seal::PATH, &text, false);
        tree.put("contracts/b.v1/schema.json", "{}", false);
        let outcome = seals(&tree);
        assert!(outcome.passed(), "{:?}", outcome.failures);
        assert_eq!(outcome.report(), "ok   seals (1 checked; not sealed yet: b.v1)\n");
    }
}
