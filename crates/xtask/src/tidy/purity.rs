//! The pure crates stay pure: by what their manifests name, by what cargo links below them, by what their source calls.

use super::Outcome;
use super::crates;
use crate::graph::{self, ACTING, NETWORK};
use crate::source;
use crate::tree::Tree;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Calls and paths that reach outside the process or read what differs between two runs, and what they do.
const REACHES: &[(&str, &str)] = &[
    ("SystemTime::now", "reads the clock"),
    ("Instant::now", "reads the clock"),
    ("now_utc", "reads the clock"),
    ("now_local", "reads the clock"),
    ("thread_rng", "draws random bytes"),
    ("rand::rng", "draws random bytes"),
    ("getrandom", "draws random bytes"),
    ("std::net", "opens sockets"),
    ("std::os", "opens sockets and files"),
    ("std::fs", "reads and writes files"),
    ("std::env", "reads the environment"),
    ("std::process", "starts or ends processes"),
    ("std::thread", "starts threads"),
];

/// Modules of std that [`REACHES`] names, for imports in a group.
const STD_MODULES: &[&str] = &["net", "os", "fs", "env", "process", "thread"];

fn is_pure(name: &str) -> bool {
    graph::find(name).is_some_and(|edges| edges.pure)
}

/// No manifest of a pure crate names a package that acts.
pub(crate) fn named(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("pure-manifests");
    let found = crates::all(tree, &mut outcome);
    for (manifest, dependencies) in found.iter().filter(|(m, _)| is_pure(&m.name)) {
        outcome.checked += 1;
        for dependency in dependencies.iter().filter(|d| ACTING.contains(&d.package.as_str())) {
            outcome.fail(manifest.path, format!("{} is pure and may not name {}", manifest.name, dependency.package));
        }
    }
    outcome
}

/// No source of a pure crate reaches outside, its tests apart.
pub(crate) fn source(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("pure-source");
    let found = crates::manifests(tree, &mut outcome);
    for manifest in found.iter().filter(|m| is_pure(&m.name)) {
        let folder = format!("{}src/", manifest.folder());
        for path in tree.below(&folder).filter(|path| path.ends_with(".rs") && !source::is_test_file(path)) {
            let Some(text) = tree.text(path) else {
                outcome.fail(path, "is not UTF-8");
                continue;
            };
            outcome.checked += 1;
            let code = source::without_tests(&source::code(text));
            for (word, does) in REACHES {
                for at in source::words(&code, word) {
                    let line = source::line_of(&code, at);
                    outcome.fail(format!("{path}:{line}"), format!("`{word}` {does}; {} is pure", manifest.name));
                }
            }
            for (line, module) in grouped_imports(&code) {
                outcome.fail(format!("{path}:{line}"), format!("imports std::{module}; {} is pure", manifest.name));
            }
        }
    }
    outcome
}

/// Modules of [`STD_MODULES`] inside `std::{…}`, with their lines.
fn grouped_imports(code: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (start, head) in code.match_indices("std::{") {
        let mut depth = 1usize;
        let mut entry = start + head.len(); // where the current entry of the outermost group begins
        let body = &code[entry..];
        for (at, c) in body.char_indices().map(|(at, c)| (start + head.len() + at, c)) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || (depth == 1 && c == ',') {
                let name = code[entry..at].trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next();
                if let Some(module) = STD_MODULES.iter().find(|module| Some(**module) == name) {
                    let leading = code[entry..at].len() - code[entry..at].trim_start().len();
                    found.push((source::line_of(code, entry + leading), *module));
                }
                entry = at + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// The packages that each pure crate links, by asking cargo.
///
/// # Errors
/// When cargo fails: a stale lock file is one reason.
pub(crate) fn cargo_trees(root: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut trees = BTreeMap::new();
    for edges in graph::CRATES.iter().filter(|edges| edges.pure) {
        let output = Command::new(&cargo)
            .args(["tree", "--locked", "--quiet", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .args(["--package", edges.name])
            .current_dir(root)
            .output()
            .context("running cargo tree")?;
        if !output.status.success() {
            bail!("cargo tree of {}: {}", edges.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut names: Vec<String> = Vec::new(); // cargo repeats a package wherever it is used
        for name in text.lines().filter_map(|line| line.split_whitespace().next()) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        trees.insert(edges.name.to_owned(), names);
    }
    Ok(trees)
}

/// No pure crate links a package that talks to the network, however deep.
pub(crate) fn linked(trees: Result<BTreeMap<String, Vec<String>>>) -> Outcome {
    let mut outcome = Outcome::new("pure-linked");
    let trees = match trees {
        Ok(trees) => trees,
        Err(why) => {
            outcome.fail("Cargo.lock", format!("{why:#}"));
            return outcome;
        }
    };
    for (name, packages) in &trees {
        // The first line is the crate itself: without one cargo said nothing.
        if packages.first() != Some(name) {
            outcome.fail(name, "cargo tree does not begin with the crate itself");
            continue;
        }
        outcome.checked += packages.len();
        for package in NETWORK.iter().filter(|package| packages.iter().any(|linked| linked == *package)) {
            outcome
                .fail(name, format!("is pure and links {package}; see `cargo tree -e normal -p {name} -i {package}`"));
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const ROOT: &str = "[workspace.dependencies]\n";

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n{rest}")
    }

    #[rstest]
    #[case::pure("custody-ledger", "[dependencies]\nserde = \"1\"", true)]
    #[case::runtime("custody-ledger", "[dependencies]\ntokio = \"1\"", false)]
    #[case::runtime_in_tests("custody-ledger", "[dev-dependencies]\ntokio = \"1\"", false)]
    #[case::log_lines("custody-domain", "[dependencies]\ntracing = \"0.1\"", false)]
    fn named_refuses_what_acts(#[case] name: &str, #[case] rest: &str, #[case] passes: bool) {
        let tree = Tree::of(&[("Cargo.toml", ROOT), ("crates/a/Cargo.toml", &manifest(name, rest))]);
        assert_eq!(named(&tree).passed(), passes);
    }

    #[rstest]
    #[case::nothing("pub fn f() {}", None)]
    #[case::clock("//! a\nfn f() { std::time::Instant::now(); }", Some(("src/lib.rs:2", "Instant::now")))]
    #[case::files("use std::fs;", Some(("src/lib.rs:1", "std::fs")))]
    #[case::group("use std::{\n    collections::BTreeMap,\n    net::{TcpStream, UdpSocket},\n};", Some(("src/lib.rs:3", "std::net")))]
    #[case::harmless_group("use std::{collections::{BTreeMap, BTreeSet}, fmt};", None)]
    #[case::inner_name("use std::{io::{self, net}, fmt};", None)]
    #[case::comment("// std::fs is for others\npub fn f() {}", None)]
    #[case::tests("#[cfg(test)]\nmod tests { use std::fs; }", None)]
    #[case::longer_word("fn f() { std::fsx::now_utc_of() }", None)]
    fn source_sees_calls_and_imports(#[case] text: &str, #[case] expected: Option<(&str, &str)>) {
        let tree = Tree::of(&[
            ("crates/a/Cargo.toml", &manifest("custody-ledger", "")),
            ("crates/a/src/lib.rs", text),
            ("crates/a/src/tests.rs", "use std::fs;"),
            ("crates/b/Cargo.toml", &manifest("custody-nats", "")),
            ("crates/b/src/lib.rs", "use std::fs;"),
        ]);
        let outcome = source(&tree);
        assert_eq!(outcome.checked, 1);
        match expected {
            None => assert!(outcome.passed(), "{:?}", outcome.failures),
            Some((path, word)) => {
                assert_eq!(outcome.failures.len(), 1, "{:?}", outcome.failures);
                assert_eq!(outcome.failures[0].path, format!("crates/a/{path}"));
                assert!(outcome.failures[0].why.contains(word), "{:?}", outcome.failures);
            }
        }
    }

    #[rstest]
    #[case::pure(&["custody-ledger", "serde"], true)]
    #[case::network(&["custody-ledger", "serde", "mio"], false)]
    #[case::silent(&[], false)]
    fn linked_refuses_network_packages(#[case] packages: &[&str], #[case] passes: bool) {
        let packages = packages.iter().map(|p| (*p).to_owned()).collect();
        assert_eq!(linked(Ok(BTreeMap::from([("custody-ledger".to_owned(), packages)]))).passed(), passes);
        assert!(!linked(Ok(BTreeMap::new())).passed());
        assert!(!linked(Err(anyhow::anyhow!("the lock file is stale"))).passed());
    }
}
