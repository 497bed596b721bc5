//! The workspace's manifests against the table in [`crate::graph`]. Reads text only; never asks cargo.

use super::Outcome;
use crate::graph;
use crate::tree::Tree;
use std::collections::BTreeMap;
use toml::Table;

/// One manifest of a package.
pub(crate) struct Manifest<'a> {
    /// `crates/ledger/Cargo.toml`.
    pub(crate) path: &'a str,
    /// `custody-ledger`.
    pub(crate) name: String,
    /// What stands in it.
    pub(crate) table: Table,
}

impl Manifest<'_> {
    /// The folder, with a slash at its end.
    pub(crate) fn folder(&self) -> &str {
        self.path.trim_end_matches("Cargo.toml")
    }
}

/// One dependency of a package.
pub(crate) struct Dependency {
    /// The package's real name, whatever the manifest calls it.
    pub(crate) package: String,
    /// Whether only tests, examples and benches see it.
    pub(crate) tests_only: bool,
}

/// Every manifest of a package. One that does not parse is a failure of `outcome`.
pub(crate) fn manifests<'a>(tree: &'a Tree, outcome: &mut Outcome) -> Vec<Manifest<'a>> {
    let mut found = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with("/Cargo.toml")) {
        match text.parse::<Table>() {
            Ok(table) => {
                let name = table.get("package").and_then(|p| p.get("name")).and_then(|n| n.as_str());
                match name.map(str::to_owned) {
                    Some(name) => found.push(Manifest { path, name, table }),
                    None => outcome.fail(path, "has no package.name"),
                }
            }
            Err(error) => outcome.fail(path, error.message()),
        }
    }
    found
}

/// Real package names of the entries in the root's `[workspace.dependencies]` that are renamed.
fn renames(tree: &Tree, outcome: &mut Outcome) -> BTreeMap<String, String> {
    let Some(text) = tree.text("Cargo.toml") else {
        outcome.fail("Cargo.toml", "is missing");
        return BTreeMap::new();
    };
    match text.parse::<Table>() {
        Ok(root) => {
            let shared = root.get("workspace").and_then(|w| w.get("dependencies")).and_then(|d| d.as_table());
            shared.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), package_of(v)?.to_owned()))).collect()
        }
        Err(error) => {
            outcome.fail("Cargo.toml", error.message());
            BTreeMap::new()
        }
    }
}

fn package_of(value: &toml::Value) -> Option<&str> {
    value.get("package")?.as_str()
}

/// Every dependency of a manifest, those of single targets too.
pub(crate) fn dependencies(manifest: &Table, renames: &BTreeMap<String, String>) -> Vec<Dependency> {
    let mut tables = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(|t| t.as_table()) {
        tables.extend(targets.values().filter_map(|t| t.as_table()));
    }
    let mut found = Vec::new();
    for table in tables {
        for (section, tests_only) in
            [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)]
        {
            for (key, value) in table.get(section).and_then(|s| s.as_table()).into_iter().flatten() {
                let package = package_of(value).or_else(|| renames.get(key).map(String::as_str)).unwrap_or(key);
                found.push(Dependency { package: package.to_owned(), tests_only });
            }
        }
    }
    found
}

/// Every manifest with its dependencies.
pub(crate) fn all<'a>(tree: &'a Tree, outcome: &mut Outcome) -> Vec<(Manifest<'a>, Vec<Dependency>)> {
    let renames = renames(tree, outcome);
    let found = manifests(tree, outcome);
    found
        .into_iter()
        .map(|m| {
            let d = dependencies(&m.table, &renames);
            (m, d)
        })
        .collect()
}

/// Our crates use each other only along the table's edges, and the table knows every crate.
pub(crate) fn edges(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("graph");
    let found = all(tree, &mut outcome);
    for (manifest, dependencies) in &found {
        let Some(allowed) = graph::find(&manifest.name) else {
            outcome.fail(manifest.path, format!("{} is not in crates/xtask/src/graph.rs; a new crate needs its edges there and a paragraph in ARCHITECTURE.md", manifest.name));
            continue;
        };
        for dependency in dependencies {
            let package = dependency.package.as_str();
            if graph::find(package).is_none() && !package.starts_with("custody-") {
                continue;
            }
            outcome.checked += 1;
            let in_tests = dependency.tests_only && allowed.tests_use.contains(&package);
            if !in_tests && !allowed.uses.contains(&package) {
                let tests = if dependency.tests_only { " in its tests" } else { "" };
                outcome.fail(
                    manifest.path,
                    format!(
                        "{} may not use {package}{tests}: the edge is not in crates/xtask/src/graph.rs",
                        manifest.name
                    ),
                );
            }
        }
    }
    for edges in graph::CRATES.iter().filter(|edges| !found.iter().any(|(m, _)| m.name == edges.name)) {
        outcome.fail("crates/xtask/src/graph.rs", format!("lists {}, which no manifest has", edges.name));
    }
    outcome
}

/// A client library of the outside world has one owner.
pub(crate) fn owned(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("owned-dependencies");
    let found = all(tree, &mut outcome);
    for (package, owners) in graph::OWNED {
        for (manifest, dependencies) in &found {
            if dependencies.iter().all(|d| d.package != *package) {
                continue;
            }
            outcome.checked += 1;
            if !owners.contains(&manifest.name.as_str()) {
                outcome.fail(manifest.path, format!("names {package}, which only {} may", owners.join(" and ")));
            }
        }
    }
    outcome
}

/// No crate escapes the workspace's lints.
pub(crate) fn lints(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("workspace-lints");
    for manifest in manifests(tree, &mut outcome) {
        outcome.checked += 1;
        let inherits = manifest.table.get("lints").and_then(|l| l.get("workspace")).and_then(|w| w.as_bool());
        if inherits != Some(true) {
            outcome.fail(manifest.path, "does not say `[lints] workspace = true`");
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const ROOT: &str = "[workspace.dependencies]\nrenamed = { package = \"bollard\", version = \"1\" }\n";

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}")
    }

    /// Every crate of the table without a dependency, then one manifest replaced.
    fn tree_with(name: &str, rest: &str) -> Tree {
        let mut tree = Tree::of(&[("Cargo.toml", ROOT)]);
        for edges in graph::CRATES {
            tree.put(&format!("crates/{}/Cargo.toml", edges.name), &manifest(edges.name, ""), false);
        }
        tree.put(&format!("crates/{name}/Cargo.toml"), &manifest(name, rest), false);
        tree
    }

    #[rstest]
    #[case::allowed("custody-ledger", "[dependencies]\ncustody-contracts = { workspace = true }", "")]
    #[case::upwards(
        "custody-ledger",
        "[dependencies]\ncustody-domain = { workspace = true }",
        "may not use custody-domain"
    )]
    #[case::adapter_sees_a_loop(
        "custody-nats",
        "[dependencies]\ncustody-engine = { workspace = true }",
        "may not use custody-engine"
    )]
    #[case::testkit_in_tests("custody-nats", "[dev-dependencies]\ncustody-testkit = { workspace = true }", "")]
    #[case::testkit_in_code(
        "custody-nats",
        "[dependencies]\ncustody-testkit = { workspace = true }",
        "may not use custody-testkit"
    )]
    #[case::pure_tests("custody-domain", "[dev-dependencies]\ncustody-testkit = { workspace = true }", "in its tests")]
    #[case::for_one_target(
        "custody-ledger",
        "[target.'cfg(unix)'.dependencies]\ncustody-domain = { workspace = true }",
        "may not use custody-domain"
    )]
    #[case::under_another_name(
        "custody-ledger",
        "[dependencies]\nrules = { package = \"custody-domain\", path = \"x\" }",
        "may not use custody-domain"
    )]
    #[case::unknown_of_ours(
        "custody-ledger",
        "[dependencies]\ncustody-new = { path = \"x\" }",
        "may not use custody-new"
    )]
    #[case::xtask_stands_alone(
        "xtask",
        "[build-dependencies]\ncustody-contracts = { workspace = true }",
        "may not use custody-contracts"
    )]
    fn edges_follow_the_table(#[case] name: &str, #[case] rest: &str, #[case] expected: &str) {
        let outcome = edges(&tree_with(name, rest));
        let whys: Vec<&str> = outcome.failures.iter().map(|f| f.why.as_str()).collect();
        assert_eq!(whys.is_empty(), expected.is_empty(), "{whys:?}");
        assert!(expected.is_empty() || whys[0].contains(expected), "{whys:?}");
        assert_eq!(outcome.checked, 1);
    }

    #[test]
    fn edges_wants_table_and_folders_to_be_the_same() {
        let mut tree = tree_with("custody-ledger", "");
        tree.put("crates/new/Cargo.toml", &manifest("custody-new", ""), false);
        let whys = edges(&tree).failures;
        assert!(
            whys.iter().any(|f| f.path == "crates/new/Cargo.toml" && f.why.contains("not in crates/xtask")),
            "{whys:?}"
        );
        let whys = edges(&Tree::of(&[("Cargo.toml", ROOT)])).failures;
        assert!(whys.iter().any(|f| f.why.contains("lists custody-ledger")), "{whys:?}");
    }

    #[rstest]
    #[case::its_owner("custody-docker", "[dependencies]\nbollard = { workspace = true }", true)]
    #[case::another("custody-engine", "[dependencies]\nbollard = { workspace = true }", false)]
    #[case::anothers_tests("custody-engine", "[dev-dependencies]\nbollard = { workspace = true }", false)]
    #[case::renamed_in_the_root("custody-engine", "[dependencies]\nrenamed = { workspace = true }", false)]
    #[case::second_owner("custody-cli", "[dependencies]\nasync-nats = { workspace = true }", true)]
    fn owned_dependencies_have_their_owners(#[case] name: &str, #[case] rest: &str, #[case] passes: bool) {
        assert_eq!(owned(&tree_with(name, rest)).passed(), passes);
    }

    #[rstest]
    #[case::inherits("[package]\nname = \"a\"\n[lints]\nworkspace = true", "")]
    #[case::own_lints("[package]\nname = \"a\"\n[lints.rust]\nunsafe_code = \"allow\"", "does not say")]
    #[case::no_package("[lints]\nworkspace = true", "package.name")]
    #[case::not_toml("[package", "")]
    fn lints_are_inherited(#[case] text: &str, #[case] expected: &str) {
        let outcome = lints(&Tree::of(&[("crates/a/Cargo.toml", text)]));
        assert_eq!(outcome.passed(), text.contains("workspace = true") && text.contains("package"));
        assert!(outcome.failures.iter().all(|f| f.why.contains(expected)), "{:?}", outcome.failures);
    }
}
