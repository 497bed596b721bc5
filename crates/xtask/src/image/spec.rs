//! What goes into an image, from `runner-images/NAME/`: `image.json` (the container's configuration), `layer.toml`
//! (folders and files), `runner.json` (the agent-runner.v2 document). Must refuse whatever would run as root or carry
//! rights of its own.

use super::archive::{Entries, Entry};
use super::{debian, npm};
use crate::graph;
use crate::tree::Tree;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Where the folders are.
pub(crate) const FOLDER: &str = "runner-images/";
/// What stands for the image's id in a runner's document: the id cannot stand inside what it is computed from.
const IMAGE: &str = "@image";
/// The largest file in an image.
const FILE_BYTES_MAX: usize = 64 << 20;

/// The part of an image's configuration that a runner may set. Source: Docker Image Specification v1.2, "config".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct Config {
    /// `uid:gid`, both numbers, neither 0.
    user: String,
    /// PID 1 and its arguments.
    entrypoint: Vec<String>,
    /// `NAME=value`.
    #[serde(default)]
    env: Vec<String>,
    /// An absolute path.
    working_dir: String,
    /// Facts about the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    /// The signal that asks PID 1 to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
}

/// `layer.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layer {
    /// `debian`: the image stands on the shared Debian root file system. Absent: it is FROM nothing.
    base: Option<String>,
    /// What comes from npm packages.
    npm: Option<npm::Npm>,
    #[serde(default, rename = "dir")]
    dirs: Vec<Dir>,
    #[serde(rename = "file")]
    files: Vec<File>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dir {
    dest: String,
    mode: String,
    owner: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    dest: String,
    mode: String,
    owner: Option<String>,
    /// A package of this workspace whose binary has the package's name.
    binary: Option<String>,
    /// A file, relative to the runner's folder.
    source: Option<String>,
    /// A program in one file of C, relative to the runner's folder, compiled statically.
    c: Option<String>,
}

/// Where the bytes of a file come from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Binary(String),
    Text(Vec<u8>),
    /// A path from the root.
    C(String),
}

/// One image, checked.
#[derive(Debug)]
pub(crate) struct Spec {
    name: String,
    version: String,
    /// For the image's `config`.
    pub(crate) config: Value,
    /// The agent-runner.v2 document as it stands in the folder.
    pub(crate) runner: Value,
    /// Whether it stands on Debian.
    pub(crate) debian: bool,
    /// What comes from npm packages.
    pub(crate) npm: Option<npm::Packages>,
    dirs: Entries,
    files: BTreeMap<String, (Entry, Source)>,
}

/// The folders that describe an image.
pub(crate) fn runners(tree: &Tree) -> Vec<String> {
    let is_runner = |folder: &String| tree.text(&format!("{FOLDER}{folder}/layer.toml")).is_some();
    tree.folders(FOLDER).into_iter().filter(is_runner).collect()
}

/// What is wrong with the documents of one folder.
pub(crate) fn problems(tree: &Tree, folder: &str) -> Option<String> {
    Spec::parse(tree, folder).err().map(|why| format!("{why:#}"))
}

impl Spec {
    /// Finds and checks the documents of a runner.
    ///
    /// # Errors
    /// When there is no such runner or a document is wrong: the message says which and why.
    pub(crate) fn find(tree: &Tree, name: &str) -> Result<Self> {
        let known = runners(tree);
        ensure!(
            known.iter().any(|k| k == name),
            "there is no runner {name:?} in {FOLDER}; there are: {}",
            known.join(", ")
        );
        Self::parse(tree, name)
    }

    fn parse(tree: &Tree, folder: &str) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("{FOLDER}{folder}/{file}");
            tree.text(&path).with_context(|| format!("{path} is missing"))
        };
        let config: Config = serde_json::from_str(read("image.json")?).context("image.json")?;
        check_config(&config).context("image.json")?;
        let runner: Value = serde_json::from_str(read("runner.json")?).context("runner.json")?;
        let text = |field: &str| {
            let found = runner.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
            found.map(str::to_owned).with_context(|| format!("runner.json: has no {field}"))
        };
        ensure!(text("name")? == folder, "runner.json: name is {:?}, the folder's is {folder:?}", text("name")?);
        ensure!(text("image")? == IMAGE, "runner.json: image is not {IMAGE:?}: the build puts the id there");
        let layer: Layer = toml::from_str(read("layer.toml")?).context("layer.toml")?;
        let mut spec = Self {
            name: text("name")?,
            version: text("version")?,
            config: serde_json::to_value(&config)?,
            runner,
            debian: match layer.base.as_deref() {
                None => false,
                Some("debian") => true,
                Some(other) => bail!("layer.toml: there is no base {other:?}"),
            },
            npm: layer.npm.map(|npm| npm::Packages::parse(tree, folder, npm)).transpose()?,
            dirs: Entries::new(),
            files: BTreeMap::new(),
        };
        if let Some(why) = spec.debian.then(|| debian::problem(tree)).flatten() {
            bail!(why);
        }
        for dir in &layer.dirs {
            let entry = entry(&dir.dest, &dir.mode, dir.owner.as_deref())?;
            ensure!(spec.dirs.insert(dir.dest.clone(), entry).is_none(), "layer.toml: {} stands there twice", dir.dest);
        }
        for file in layer.files {
            let entry = entry(&file.dest, &file.mode, file.owner.as_deref())?;
            let source = source(tree, folder, &file)?;
            ensure!(
                !spec.dirs.contains_key(&file.dest)
                    && !spec.files.contains_key(&file.dest)
                    && !spec.npm.as_ref().is_some_and(|packages| packages.puts(&file.dest)),
                "layer.toml: {} stands there twice",
                file.dest
            );
            spec.files.insert(file.dest, (entry, source));
        }
        let init = config.entrypoint.first().map(String::as_str).unwrap_or_default();
        let is_executable = spec.files.get(init).is_some_and(|(entry, _)| entry.mode & 0o001 != 0);
        ensure!(
            is_executable,
            "image.json: the entry point {init} is no file of layer.toml that everybody may execute"
        );
        Ok(spec)
    }

    /// The runner's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `name:version`: for the reader of `docker images`; a dispatch names the image by its id.
    pub(crate) fn tag(&self) -> String {
        format!("{}:{}", self.name, self.version)
    }

    /// The packages whose binaries are in the image, in order.
    pub(crate) fn packages(&self) -> Vec<String> {
        let binaries = self.files.values().filter_map(|(_, source)| match source {
            Source::Binary(package) => Some(package.clone()),
            Source::Text(_) | Source::C(_) => None,
        });
        binaries.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The programs in C, as paths from the root, in order.
    pub(crate) fn c_sources(&self) -> Vec<String> {
        let sources = self.files.values().filter_map(|(_, source)| match source {
            Source::C(path) => Some(path.clone()),
            Source::Text(_) | Source::Binary(_) => None,
        });
        sources.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Everything in the layer, with the binaries read from where they were built.
    ///
    /// # Errors
    /// When a binary cannot be read or is too large.
    pub(crate) fn entries(&self, binaries: &BTreeMap<String, PathBuf>) -> Result<Entries> {
        let mut all = self.dirs.clone();
        for (dest, (entry, source)) in &self.files {
            let bytes = match source {
                Source::Text(bytes) => bytes.clone(),
                Source::Binary(built) | Source::C(built) => {
                    let path = binaries.get(built).with_context(|| format!("{built} was not built"))?;
                    std::fs::read(path).with_context(|| format!("reading {}", path.display()))?
                }
            };
            ensure!(bytes.len() <= FILE_BYTES_MAX, "{dest} has {} bytes, more than {FILE_BYTES_MAX}", bytes.len());
            all.insert(dest.clone(), Entry { bytes: Some(bytes), ..entry.clone() });
        }
        Ok(all)
    }
}

fn check_config(config: &Config) -> Result<()> {
    let (uid, gid) = owner(&config.user)?;
    ensure!(uid != 0 && gid != 0, "User {} is root; no box runs as root", config.user);
    ensure!(config.working_dir.starts_with('/'), "WorkingDir {} is not absolute", config.working_dir);
    let unnamed = config.env.iter().find(|pair| pair.split_once('=').is_none_or(|(name, _)| name.is_empty()));
    ensure!(unnamed.is_none(), "Env {unnamed:?} is not NAME=value");
    Ok(())
}

fn entry(dest: &str, mode: &str, owned_by: Option<&str>) -> Result<Entry> {
    let parts = dest.strip_prefix('/').unwrap_or_default().split('/');
    let plain = dest.starts_with('/') && parts.clone().all(|part| !part.is_empty() && part != "." && part != "..");
    ensure!(plain, "layer.toml: dest {dest:?} is not a plain absolute path");
    let bits = u32::from_str_radix(mode, 8).ok().filter(|bits| *bits <= 0o1777);
    let bits =
        bits.with_context(|| format!("layer.toml: mode {mode:?} of {dest} is not octal, or sets a user or group"))?;
    let (uid, gid) = owner(owned_by.unwrap_or("0:0")).with_context(|| format!("layer.toml: {dest}"))?;
    Ok(Entry { mode: bits, uid, gid, bytes: None })
}

fn owner(text: &str) -> Result<(u64, u64)> {
    let numbers = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    numbers.with_context(|| format!("owner {text:?} is not uid:gid in numbers"))
}

fn source(tree: &Tree, folder: &str, file: &File) -> Result<Source> {
    // A runner may share a file of another one's; what is above the folder of runners is not in the tree under this name.
    let relative = |name: &str| match name.strip_prefix("../") {
        Some(beside) => format!("{FOLDER}{beside}"),
        None => format!("{FOLDER}{folder}/{name}"),
    };
    match (&file.binary, &file.source, &file.c) {
        (Some(package), None, None) => {
            ensure!(graph::find(package).is_some(), "layer.toml: {package} of {} is no package of ours", file.dest);
            Ok(Source::Binary(package.clone()))
        }
        (None, Some(name), None) => {
            let path = relative(name);
            let bytes = tree.bytes(&path).with_context(|| format!("layer.toml: {path} of {} is missing", file.dest))?;
            Ok(Source::Text(bytes.to_vec()))
        }
        (None, None, Some(name)) => {
            let path = relative(name);
            ensure!(tree.bytes(&path).is_some(), "layer.toml: {path} of {} is missing", file.dest);
            Ok(Source::C(path))
        }
        _ => bail!("layer.toml: {} must have either binary or source or c", file.dest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    const CONFIG: &str = r#"{"User":"65532:65532","Entrypoint":["/usr/bin/worker"],"Env":["HOME=/home/agent"],"WorkingDir":"/workspace"}"#;
    const RUNNER: &str = r#"{"name":"demo","version":"1.2.0","image":"@image","argv":["x"]}"#;
    const LAYER: &str = r#"
[[dir]]
dest = "/home/agent"
mode = "0700"
owner = "65532:65532"
[[file]]
dest = "/usr/bin/worker"
mode = "0755"
binary = "custody-worker"
[[file]]
dest = "/etc/passwd"
mode = "0644"
source = "passwd"
"#;

    fn tree(image: &str, layer: &str, runner: &str) -> Tree {
        Tree::of(&[
            ("runner-images/demo/image.json", image),
            ("runner-images/demo/layer.toml", layer),
            ("runner-images/demo/runner.json", runner),
            ("runner-images/demo/passwd", "agent:x:65532:65532::/home/agent:\n"),
            ("runner-images/worker/Cargo.toml", ""),
        ])
    }

    #[test]
    fn a_runner_is_found_by_its_name() {
        let tree = tree(CONFIG, LAYER, RUNNER);
        let spec = Spec::find(&tree, "demo").unwrap();
        assert_eq!((spec.name(), spec.tag().as_str()), ("demo", "demo:1.2.0"));
        assert_eq!(spec.packages(), ["custody-worker"]);
        assert_eq!(spec.c_sources(), Vec::<String>::new());
        let why = Spec::find(&tree, "worker").unwrap_err().to_string();
        assert!(why.contains("there are: demo"), "{why}");
    }

    #[rstest]
    #[case::beside("../worker/Cargo.toml", true)]
    #[case::above("../../Cargo.toml", false)]
    #[case::nowhere("../worker/none", false)]
    fn a_file_may_be_another_runners(#[case] source: &str, #[case] found: bool) {
        let layer = LAYER.replace("\"passwd\"", &format!("{source:?}"));
        assert_eq!(problems(&tree(CONFIG, &layer, RUNNER), "demo").is_none(), found);
    }

    #[test]
    fn entries_are_what_the_layer_names() {
        let spec = Spec::find(&tree(CONFIG, LAYER, RUNNER), "demo").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("custody-worker");
        assert!(spec.entries(&BTreeMap::new()).unwrap_err().to_string().contains("custody-worker was not built"));
        std::fs::write(&binary, b"elf").unwrap();
        let entries = spec.entries(&BTreeMap::from([("custody-worker".to_owned(), binary)])).unwrap();
        let home = Entry { mode: 0o700, uid: 65532, gid: 65532, bytes: None };
        let worker = Entry { mode: 0o755, uid: 0, gid: 0, bytes: Some(b"elf".to_vec()) };
        assert_eq!(entries.keys().collect::<Vec<_>>(), ["/etc/passwd", "/home/agent", "/usr/bin/worker"]);
        assert_eq!((&entries["/home/agent"], &entries["/usr/bin/worker"]), (&home, &worker));
        let config = json!({"User":"65532:65532","Entrypoint":["/usr/bin/worker"],"Env":["HOME=/home/agent"],"WorkingDir":"/workspace"});
        assert_eq!(spec.config, config);
    }

    #[rstest]
    #[case::root("65532:65532", "0:0", "is root")]
    #[case::root_group("65532:65532", "65532:0", "is root")]
    #[case::user_by_name("65532:65532", "agent", "is not uid:gid")]
    #[case::relative_folder("/workspace", "workspace", "not absolute")]
    #[case::variable_without_value("HOME=/home/agent", "HOME", "not NAME=value")]
    #[case::unknown_key("\"Env\"", "\"Volumes\"", "unknown field")]
    #[case::no_entry_point("/usr/bin/worker", "/usr/bin/other", "entry point /usr/bin/other")]
    fn image_json_is_refused_by_name(#[case] from: &str, #[case] to: &str, #[case] expected: &str) {
        let why = problems(&tree(&CONFIG.replace(from, to), LAYER, RUNNER), "demo").unwrap();
        assert!(why.contains("image.json") && why.contains(expected), "{why}");
    }

    #[rstest]
    #[case::set_user_id("mode = \"0755\"", "mode = \"4755\"", "sets a user or group")]
    #[case::set_group_id("mode = \"0755\"", "mode = \"2755\"", "sets a user or group")]
    #[case::not_octal("mode = \"0755\"", "mode = \"rwx\"", "not octal")]
    #[case::climbs("/etc/passwd", "/etc/../passwd", "not a plain absolute path")]
    #[case::relative("\"/etc/passwd\"", "\"etc/passwd\"", "not a plain absolute path")]
    #[case::twice("/etc/passwd", "/usr/bin/worker", "stands there twice")]
    #[case::no_source("source = \"passwd\"", "", "either binary or source")]
    #[case::two_sources(
        "source = \"passwd\"",
        "source = \"passwd\"\nbinary = \"custody-worker\"",
        "either binary or source"
    )]
    #[case::missing_program("source = \"passwd\"", "c = \"probe.c\"", "is missing")]
    #[case::missing_source("source = \"passwd\"", "source = \"group\"", "is missing")]
    #[case::source_outside("source = \"passwd\"", "source = \"../../Cargo.toml\"", "is missing")]
    #[case::package_of_others("custody-worker", "busybox", "no package of ours")]
    #[case::unknown_key("source =", "url =", "unknown field")]
    #[case::not_executable("mode = \"0755\"", "mode = \"0644\"", "everybody may execute")]
    fn layer_toml_is_refused_by_name(#[case] from: &str, #[case] to: &str, #[case] expected: &str) {
        assert!(LAYER.contains(from));
        let why = problems(&tree(CONFIG, &LAYER.replace(from, to), RUNNER), "demo").unwrap();
        assert!(why.contains(expected), "{why}");
    }

    #[rstest]
    #[case::no_name(r#"{"version":"1"}"#, "has no name")]
    #[case::no_version(r#"{"name":"demo","image":"@image"}"#, "has no version")]
    #[case::name_of_another(r#"{"name":"a","version":"1","image":"@image"}"#, "the folder's is")]
    #[case::id_written_by_hand(r#"{"name":"demo","version":"1","image":"sha256:00"}"#, "is not \"@image\"")]
    #[case::not_json("{", "runner.json")]
    fn runner_json_is_refused_by_name(#[case] runner: &str, #[case] expected: &str) {
        let why = problems(&tree(CONFIG, LAYER, runner), "demo").unwrap();
        assert!(why.contains(expected), "{why}");
    }
}
