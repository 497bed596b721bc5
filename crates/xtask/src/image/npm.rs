//! Agents that come as npm packages: what the committed lock file names, checked by npm against its digests, packed in the
//! order of names. No script of a package runs. Must never take a package that the lock file does not name.

use super::layer::{Layer, Without, key, tree_tar};
use crate::tree::Tree;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of a runner that holds both files.
const FOLDER: &str = "npm";
const LOCK: &str = "package-lock.json";
const PACKAGE: &str = "package.json";

/// `[npm]` of `layer.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Npm {
    /// What goes where: a path below `node_modules`, or all of it, and an absolute path in the image.
    take: Vec<Take>,
    /// Paths below a taken folder that stay out.
    #[serde(default)]
    drop: Vec<String>,
    /// Ends of file names that stay out.
    #[serde(default)]
    drop_ends: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Take {
    from: String,
    dest: String,
}

/// The files of one runner.
#[derive(Debug, Clone)]
pub(crate) struct Packages {
    npm: Npm,
    runner: String,
    package: String,
    lock: String,
}

impl Packages {
    /// Reads and checks a runner's files.
    ///
    /// # Errors
    /// When a file is missing, a path climbs, or a package in the lock file has no digest or names a server.
    pub(crate) fn parse(tree: &Tree, runner: &str, npm: Npm) -> Result<Packages> {
        let read = |file: &str| {
            let path = format!("{}{runner}/{FOLDER}/{file}", super::FOLDER);
            tree.text(&path).map(str::to_owned).with_context(|| format!("{path} is missing"))
        };
        let plain = |path: &str| path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        for take in &npm.take {
            ensure!(plain(&take.from), "layer.toml: npm from {:?} is not a plain relative path", take.from);
            let dest = take.dest.strip_prefix('/').unwrap_or_default();
            ensure!(plain(dest), "layer.toml: npm dest {:?} is not a plain absolute path", take.dest);
        }
        let (package, lock) = (read(PACKAGE)?, read(LOCK)?);
        check_lock(&serde_json::from_str(&lock).context(LOCK)?)?;
        Ok(Packages { npm, runner: runner.to_owned(), package, lock })
    }

    /// Whether this path of the image comes from a package.
    pub(crate) fn puts(&self, path: &str) -> bool {
        self.npm.take.iter().any(|take| take.dest == path)
    }

    /// The layer, from the cache or made now from npm's registry.
    ///
    /// # Errors
    /// When npm is not there or fails, or a path is in no package.
    pub(crate) fn layer(&self, folder: &Path) -> Result<Layer> {
        let key = key(&self.runner, &[&self.package, &self.lock, &format!("{:?}", self.npm)]);
        Layer::cached(folder, &key, &format!("{} from npm", self.runner), |to| {
            let work = to.with_extension("npm");
            let made = self.install(&work).and_then(|()| {
                let pairs: Vec<(PathBuf, String)> =
                    self.npm.take.iter().map(|take| (work.join(&take.from), take.dest.clone())).collect();
                let drop = Without { below: &self.npm.drop, ends: &self.npm.drop_ends };
                tree_tar(&pairs, BufWriter::new(File::create(to)?), drop)
            });
            let _ = std::fs::remove_dir_all(&work); // it may not exist; the first error is the one to report
            made
        })
    }

    fn install(&self, work: &Path) -> Result<()> {
        std::fs::create_dir_all(work).with_context(|| format!("creating {}", work.display()))?;
        std::fs::write(work.join(PACKAGE), &self.package)?;
        std::fs::write(work.join(LOCK), &self.lock)?;
        let output = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"])
            .args(["--os=linux", "--cpu=x64", "--libc=glibc"])
            .current_dir(work)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .context("running npm; install npm 9 or newer, or run ops/setup")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("npm ci: {}", said.lines().take(8).collect::<Vec<_>>().join("; "));
        }
        // npm's own note of what it did holds times.
        let _ = std::fs::remove_file(work.join("node_modules/.package-lock.json")); // not every npm writes it
        Ok(())
    }
}

/// Every package by its digest, and from wherever this machine gets packages.
fn check_lock(lock: &Value) -> Result<()> {
    let packages = lock.get("packages").and_then(Value::as_object).context("the lock file has no packages")?;
    for (path, package) in packages.iter().filter(|(path, _)| !path.is_empty()) {
        let integrity = package.get("integrity").and_then(Value::as_str).unwrap_or_default();
        ensure!(integrity.starts_with("sha512-"), "the lock file: {path} has no sha512 digest");
        ensure!(package.get("resolved").is_none(), "the lock file: {path} names a server; remove `resolved`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const LOCK_TEXT: &str = r#"{"packages":{"":{},"node_modules/a":{"version":"1.0.0","integrity":"sha512-x"}}}"#;

    fn parse(from: &str, dest: &str, lock: &str) -> Result<Packages> {
        let tree =
            Tree::of(&[("runner-images/a/npm/package.json", "{}"), ("runner-images/a/npm/package-lock.json", lock)]);
        let text = format!("take = [{{ from = {from:?}, dest = {dest:?} }}]\n");
        Packages::parse(&tree, "a", toml::from_str(&text)?)
    }

    #[test]
    fn a_right_one_passes() {
        let packages = parse("node_modules/a", "/opt/a", LOCK_TEXT).unwrap();
        assert!(packages.puts("/opt/a") && !packages.puts("/opt/b"));
    }

    #[rstest]
    #[case::climbs("../x", "/opt/a", LOCK_TEXT, "from")]
    #[case::absolute_from("/etc", "/opt/a", LOCK_TEXT, "from")]
    #[case::relative_dest("node_modules", "opt/a", LOCK_TEXT, "dest")]
    #[case::no_digest("node_modules", "/opt/a", r#"{"packages":{"node_modules/a":{}}}"#, "no sha512")]
    #[case::old_digest(
        "node_modules",
        "/opt/a",
        r#"{"packages":{"node_modules/a":{"integrity":"sha1-x"}}}"#,
        "no sha512"
    )]
    #[case::a_server(
        "node_modules",
        "/opt/a",
        r#"{"packages":{"node_modules/a":{"integrity":"sha512-x","resolved":"https://r"}}}"#,
        "names a server"
    )]
    #[case::no_packages("node_modules", "/opt/a", "{}", "no packages")]
    fn a_wrong_one_is_refused_by_name(
        #[case] from: &str,
        #[case] dest: &str,
        #[case] lock: &str,
        #[case] expected: &str,
    ) {
        let why = format!("{:#}", parse(from, dest, lock).unwrap_err());
        assert!(why.contains(expected), "{why}");
    }
}
