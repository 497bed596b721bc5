//! One scenario's folder, read whole and checked before anything is judged. Unknown fields are refused, and every file
//! has a largest size.

use crate::expect::{EXPECT_BYTES_MAX, Expect, place};
use crate::identity::is_word;
use crate::slice::{LOG_BYTES_MAX, Slice};
use custody_contracts::canonical::unhex;
use custody_contracts::events::Role;
use custody_trust::RoleKey;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The most bytes of `eval.toml`.
pub(crate) const EVAL_BYTES_MAX: u64 = 65_536;
/// The most bytes of a mutant's `.toml` or of a golden.
pub(crate) const SMALL_BYTES_MAX: u64 = 4_096;
/// The most mutants of one scenario.
pub(crate) const MUTANTS_MAX: usize = 32;
/// The most canaries of one scenario.
pub(crate) const CANARIES_MAX: usize = 64;

/// How a log is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Fold it, and look at states and digests.
    Fold,
    /// Decide every decision again.
    Decision,
}

/// Where a log comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Cut from a live ledger, signed by its keys.
    Captured,
    /// Written by hand or by a generator, signed by the test keys in `eval.toml`.
    Written,
}

/// A key that signs a written log. Anybody can read it: it is worth nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestKey {
    /// The role it signs for.
    pub role: Role,
    /// 32 bytes, hexadecimal.
    pub seed: String,
    /// Says that it is a test key and worthless.
    pub note: String,
}

/// The key whose log this is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    /// Id of the log's first key; a log that begins with another is another log.
    pub root: String,
    /// The test keys of a written log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<TestKey>,
}

/// `eval.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Eval {
    /// Always `eval.v1`.
    pub schema: String,
    /// What the log shows, in a sentence.
    pub claim: String,
    /// Ids of the promises it belongs to: `P3`, …
    pub promises: Vec<String>,
    /// How it is judged.
    pub modes: Vec<Mode>,
    /// Where the log comes from.
    pub source: Source,
    /// Words to choose by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Texts that stand in no line.
    #[serde(default)]
    pub canaries: Vec<String>,
    /// Whose log it is.
    pub keys: Keys,
    /// The version of each projection that the goldens were made with.
    pub folds: BTreeMap<String, u32>,
}

/// `mutated/<name>.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MutantNote {
    /// What was changed, and why that must be found.
    pub why: String,
    /// The check that has to be among the failing ones.
    pub must_fail_by: String,
}

/// A log that breaks the claim.
#[derive(Debug, Clone)]
pub(crate) struct Mutant {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub note: MutantNote,
    /// Its log.
    pub slice: Slice,
}

/// A scenario, read.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Its folder's name.
    pub id: String,
    /// `eval.toml`.
    pub eval: Eval,
    /// `expect.toml`.
    pub expect: Expect,
    /// `log.jsonl`.
    pub slice: Slice,
    /// Its bytes' digest.
    pub log_digest: String,
    /// `golden/digest.<projection>.txt`.
    pub goldens: BTreeMap<String, String>,
    /// `mutated/*.jsonl`.
    pub mutants: Vec<Mutant>,
}

/// Why a scenario cannot be judged at all. Such an eval is invalid, never passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {why}")]
pub struct ScenarioError {
    /// Which file, relative to the scenario.
    pub file: String,
    /// What is wrong.
    pub why: String,
}

fn wrong(file: &str, why: impl Into<String>) -> ScenarioError {
    ScenarioError { file: file.to_owned(), why: why.into().chars().take(600).collect() }
}

/// A file's text, if it is not larger than it may be.
fn text(folder: &Path, file: &str, bytes_max: u64) -> Result<String, ScenarioError> {
    let path = folder.join(file);
    let size = std::fs::metadata(&path).map_err(|e| wrong(file, e.to_string()))?.len();
    if size > bytes_max {
        return Err(wrong(file, format!("{size} bytes are more than {bytes_max}")));
    }
    std::fs::read_to_string(&path).map_err(|e| wrong(file, e.to_string()))
}

/// Names of the files of a folder that end so, sorted; none when there is no folder.
fn files(folder: &Path, ending: &str) -> Result<Vec<String>, std::io::Error> {
    let mut names = Vec::new();
    if !folder.is_dir() {
        return Ok(names);
    }
    for entry in std::fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string()
            && let Some(stem) = name.strip_suffix(ending)
        {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Checks a canary: text that is long enough to be found only when it was planted, and that JSON never escapes.
///
/// # Errors
/// The rule.
pub(crate) fn check_canary(text: &str) -> Result<(), String> {
    let good =
        (4..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:@".contains(&b));
    if good { Ok(()) } else { Err("a canary has 4 to 128 of [A-Za-z0-9_.:@-]".to_owned()) }
}

/// Reads `eval.toml` alone.
///
/// # Errors
/// [`ScenarioError`].
pub(crate) fn load_eval(folder: &Path) -> Result<Eval, ScenarioError> {
    let file = "eval.toml";
    let text = text(folder, file, EVAL_BYTES_MAX)?;
    let eval: Eval =
        toml::from_str(&text).map_err(|e| wrong(file, e.message().to_owned() + &place(&text, e.span())))?;
    eval.check().map_err(|why| wrong(file, why))?;
    Ok(eval)
}

impl Eval {
    /// Everything that the types do not say.
    ///
    /// # Errors
    /// The first rule that is broken, in a sentence.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.schema != "eval.v1" {
            return Err(format!("schema is {:?}, not eval.v1", self.schema));
        }
        if self.claim.trim().is_empty() || self.claim.len() > 600 {
            return Err("claim has 1 to 600 bytes".into());
        }
        let promise = |p: &&String| p.strip_prefix('P').is_none_or(|n| n.parse::<u8>().is_err());
        if let Some(bad) = self.promises.iter().find(promise) {
            return Err(format!("{bad:?} is not a promise's id, such as P3"));
        }
        if self.modes.is_empty() {
            return Err("modes is empty: nothing would be judged".into());
        }
        if let Some(bad) = self.tags.iter().find(|t| !is_word(t)) {
            return Err(format!("tag {bad:?} is not 1 to 64 of [a-z0-9-]"));
        }
        if self.canaries.len() > CANARIES_MAX {
            return Err(format!("more than {CANARIES_MAX} canaries"));
        }
        self.canaries.iter().try_for_each(|c| check_canary(c))?;
        match self.source {
            Source::Captured if !self.keys.test.is_empty() => {
                return Err("a captured log was signed by its own keys: keys.test is for written ones".into());
            }
            Source::Written if self.test_root()?.as_deref() != Some(self.keys.root.as_str()) => {
                return Err("keys.root of a written log is the id of its authority test key".into());
            }
            Source::Captured | Source::Written => {}
        }
        Ok(())
    }

    fn test_root(&self) -> Result<Option<String>, String> {
        let mut root = None;
        for key in &self.keys.test {
            if !key.note.contains("worthless") {
                return Err("a test key's note says that it is worthless".into());
            }
            let seed = unhex(&key.seed).and_then(|s| <[u8; 32]>::try_from(s).ok());
            let seed = seed.ok_or("a test key's seed has 64 hexadecimal digits")?;
            if key.role == Role::Authority {
                let key = RoleKey::from_seed(key.role, &seed);
                root.get_or_insert_with(|| custody_ledger::Sign::kid(&key).to_owned());
            }
        }
        Ok(root)
    }
}

impl Scenario {
    /// Reads a scenario's folder.
    ///
    /// # Errors
    /// [`ScenarioError`] for the first thing that is wrong. A scenario without mutants is wrong: nothing shows that it
    /// can fail.
    pub(crate) fn load(folder: &Path, id: &str) -> Result<Scenario, ScenarioError> {
        let eval = load_eval(folder)?;
        let expect =
            Expect::parse(&text(folder, "expect.toml", EXPECT_BYTES_MAX)?).map_err(|e| wrong("expect.toml", e))?;
        let log = text(folder, "log.jsonl", LOG_BYTES_MAX)?;
        let slice = Slice::parse(&log).map_err(|e| wrong("log.jsonl", e.to_string()))?;
        let mutants = mutants(folder)?;
        if mutants.is_empty() {
            return Err(wrong("mutated", "there is no mutated log, so nothing shows that this eval can fail"));
        }
        // Any edit changes a digest, so no mutant may lean on one.
        let digests: BTreeSet<&str> = expect.digest.iter().map(|a| a.id.as_str()).collect();
        let known: BTreeSet<&str> =
            crate::closing::ids().chain(expect.ids()).filter(|id| !digests.contains(id)).collect();
        for mutant in &mutants {
            let by = mutant.note.must_fail_by.as_str();
            if !known.contains(by) {
                let file = format!("mutated/{}.toml", mutant.name);
                return Err(wrong(
                    &file,
                    format!(
                        "must_fail_by {by:?} is no assertion of this scenario and no check about what the log means"
                    ),
                ));
            }
        }
        let goldens = goldens(folder)?;
        let log_digest = custody_contracts::canonical::digest(log.as_bytes());
        Ok(Scenario { id: id.to_owned(), eval, expect, slice, log_digest, goldens, mutants })
    }
}

fn goldens(folder: &Path) -> Result<BTreeMap<String, String>, ScenarioError> {
    let mut found = BTreeMap::new();
    for name in crate::fold::NAMES {
        let file = golden_file(name);
        if folder.join(&file).exists() {
            found.insert((*name).to_owned(), text(folder, &file, SMALL_BYTES_MAX)?.trim_end().to_owned());
        }
    }
    Ok(found)
}

/// Where the golden digest of a projection stands, relative to its scenario.
pub(crate) fn golden_file(projection: &str) -> String {
    format!("golden/digest.{projection}.txt")
}

fn mutants(folder: &Path) -> Result<Vec<Mutant>, ScenarioError> {
    let place = folder.join("mutated");
    let io = |e: std::io::Error| wrong("mutated", e.to_string());
    let logs = files(&place, ".jsonl").map_err(io)?;
    let notes = files(&place, ".toml").map_err(io)?;
    if let Some(alone) = notes.iter().find(|n| !logs.contains(n)) {
        return Err(wrong(&format!("mutated/{alone}.toml"), "has no log beside it"));
    }
    if logs.len() > MUTANTS_MAX {
        return Err(wrong("mutated", format!("{} mutants are more than {MUTANTS_MAX}", logs.len())));
    }
    logs.into_iter().map(|name| mutant(folder, name)).collect()
}

fn mutant(folder: &Path, name: String) -> Result<Mutant, ScenarioError> {
    let file = format!("mutated/{name}.toml");
    let note = text(folder, &file, SMALL_BYTES_MAX)?;
    let note: MutantNote =
        toml::from_str(&note).map_err(|e| wrong(&file, e.message().to_owned() + &place(&note, e.span())))?;
    let file = format!("mutated/{name}.jsonl");
    let log = text(folder, &file, LOG_BYTES_MAX)?;
    let slice = Slice::parse(&log).map_err(|e| wrong(&file, e.to_string()))?;
    Ok(Mutant { name, note, slice })
}

/// The scenarios' names under a folder, sorted, each with its path.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn folders(scenarios: &Path) -> Result<Vec<(String, PathBuf)>, std::io::Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(scenarios)? {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}
