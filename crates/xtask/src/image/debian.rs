//! The root file system that agents from packages stand on: Debian, made by mmdebstrap, cleaned, the same for every image.
//! Must never take a file of this machine into it.

use super::layer::{Layer, Without, clean_tar, key};
use crate::tree::Tree;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// Its recipe.
const RECIPE: &str = "runner-images/debian/base.toml";
/// The packages that it was last built from.
const PACKAGES: &str = "runner-images/debian/packages.txt";
/// Another list of Debian's servers, for example of a mirror in a closed network: a file in the form of `sources.list`.
const SOURCES: &str = "CUSTODY_DEBIAN_SOURCES";
/// Where dpkg writes what is installed.
const STATUS: &str = "var/lib/dpkg/status";

/// `base.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    suite: String,
    include: Vec<String>,
    drop: Vec<String>,
}

fn recipe(tree: &Tree) -> Result<(Recipe, &str)> {
    let text = tree.text(RECIPE).with_context(|| format!("{RECIPE} is missing"))?;
    let recipe: Recipe = toml::from_str(text).with_context(|| RECIPE.to_owned())?;
    let word = |word: &String| {
        !word.is_empty()
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !word.starts_with('-')
    };
    ensure!(word(&recipe.suite) && recipe.include.iter().all(word), "{RECIPE}: a suite or package is no Debian name");
    Ok((recipe, text))
}

/// What is wrong with the recipe.
pub(crate) fn problem(tree: &Tree) -> Option<String> {
    recipe(tree).err().map(|why| format!("{why:#}"))
}

/// The layer, from the cache or made now, which takes a minute and needs root and Debian's servers.
///
/// # Errors
/// When mmdebstrap is not there or fails.
pub(crate) fn layer(tree: &Tree, folder: &Path) -> Result<Layer> {
    let (recipe, text) = recipe(tree)?;
    let pinned = tree.text(PACKAGES).unwrap_or_default();
    // A new list of packages is a new layer: whoever updates it gets what it says.
    let key = key("debian", &[text, pinned]);
    Layer::cached(folder, &key, &format!("Debian {}", recipe.suite), |to| {
        let raw = to.with_extension("raw");
        let made = bootstrap(&recipe, &raw).and_then(|()| {
            compare(pinned, &packages(File::open(&raw)?)?)?;
            let drop = Without { below: &recipe.drop, ends: &[] };
            clean_tar(BufReader::new(File::open(&raw)?), BufWriter::new(File::create(to)?), drop)
        });
        let _ = std::fs::remove_file(&raw); // it may not exist; the first error is the one to report
        made
    })
}

fn bootstrap(recipe: &Recipe, to: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=essential", "--mode=root", "--format=tar", "--architectures=amd64"]);
    command.arg(format!("--include={}", recipe.include.join(",")));
    for path in ["doc/*", "man/*", "locale/*", "info/*"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}"));
    }
    // Licences stay.
    command.arg("--dpkgopt=path-include=/usr/share/doc/*/copyright").arg(&recipe.suite).arg(to);
    if let Some(sources) = std::env::var_os(SOURCES).filter(|path| !path.is_empty()) {
        command.arg(sources);
    }
    command.env("SOURCE_DATE_EPOCH", super::archive::EPOCH.to_string()).env("LC_ALL", "C").stdout(Stdio::null());
    let output = command.stderr(Stdio::piped()).output();
    let output = output.context("running mmdebstrap; install Debian's package mmdebstrap, or run ops/setup")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        bail!("mmdebstrap: {}", last.into_iter().rev().collect::<Vec<_>>().join("; "));
    }
    Ok(())
}

/// Package and version of everything that is installed.
fn packages(tar: impl Read) -> Result<BTreeMap<String, String>> {
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()?.strip_prefix(".").is_ok_and(|path| path == Path::new(STATUS))
            || entry.path()? == Path::new(STATUS)
        {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            return Ok(parse_status(&text));
        }
    }
    bail!("the root file system has no {STATUS}")
}

fn parse_status(text: &str) -> BTreeMap<String, String> {
    let stanza = |stanza: &str| {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        Some((field("Package: ")?, field("Version: ")?))
    };
    text.split("\n\n").filter_map(stanza).collect()
}

/// Says what differs from the committed list. Not an error: Debian's servers keep only the newest security update, so a
/// build that insisted would fail at the first one. The image's id then differs, and nothing runs under the old id.
fn compare(pinned: &str, found: &BTreeMap<String, String>) -> Result<()> {
    let pinned: BTreeMap<&str, &str> = pinned.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut differ = String::new();
    for (name, version) in found {
        if pinned.get(name.as_str()) != Some(&version.as_str()) {
            differ.push_str(&format!(
                "  {name} {version}, the list says {}\n",
                pinned.get(name.as_str()).unwrap_or(&"nothing")
            ));
        }
    }
    for name in pinned.keys().filter(|name| !found.contains_key(**name)) {
        differ.push_str(&format!("  {name} is not installed\n"));
    }
    if !differ.is_empty() {
        crate::say(&format!("Debian has other packages than {PACKAGES}; the image gets another id:\n{differ}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::good("suite = \"bookworm\"\ninclude = [\"libstdc++6\"]\ndrop = []\n", None)]
    #[case::option("suite = \"bookworm\"\ninclude = [\"--mode=x\"]\ndrop = []\n", Some("no Debian name"))]
    #[case::shell("suite = \"a;b\"\ninclude = []\ndrop = []\n", Some("no Debian name"))]
    #[case::unknown("suite = \"a\"\ninclude = []\ndrop = []\nhook = \"x\"\n", Some("unknown field"))]
    fn a_recipe_is_names_only(#[case] text: &str, #[case] expected: Option<&str>) {
        let why = problem(&Tree::of(&[(RECIPE, text)]));
        assert_eq!(why.is_some(), expected.is_some(), "{why:?}");
        assert!(expected.is_none_or(|part| why.unwrap().contains(part)));
    }

    #[test]
    fn packages_are_read_from_dpkgs_list() {
        let text = "Package: git\nStatus: install ok installed\nVersion: 1:2.39\n\nPackage: bash\nVersion: 5.2\n";
        let found = parse_status(text);
        assert_eq!(found["git"], "1:2.39");
        assert_eq!(found.len(), 2);
    }
}
