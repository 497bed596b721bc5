//! All scenarios under `evals/`, or some of them, against the baseline.

use crate::baseline::{Baseline, BaselineError, compare};
use crate::run::run_one;
use crate::scenario::{Mode, Source, folders, load_eval};
use crate::verdict::Suite;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The most scenarios of one suite.
pub(crate) const SCENARIOS_MAX: usize = 2_000;

/// Why a suite could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// The folder is not there or cannot be read.
    #[error("reading {folder}: {why}")]
    Folder {
        /// Which.
        folder: String,
        /// Why.
        why: String,
    },
    /// Nothing has that id, tag or beginning.
    #[error("no eval is named, tagged or begins with {0:?}; `custody eval ls` lists them")]
    NoSuchEval(String),
    /// More than are run.
    #[error("{0} scenarios are more than {SCENARIOS_MAX}")]
    TooMany(usize),
    /// The baseline cannot be read.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
}

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Its claim.
    pub claim: String,
    /// Its promises.
    pub promises: Vec<String>,
    /// How it is judged.
    pub modes: Vec<Mode>,
    /// Where its log comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Words to choose by.
    pub tags: Vec<String>,
    /// How many mutated logs it has.
    pub mutants: usize,
    /// Why it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Ids, tags, or beginnings of ids; everything when empty.
    pub only: Vec<String>,
    /// Whether to compare with `baseline.json`.
    pub baseline: bool,
}

/// Every scenario under `evals_root`.
///
/// # Errors
/// [`SuiteError`] when the folder cannot be read; a broken scenario is a line with a problem.
pub fn list(evals_root: &Path) -> Result<Vec<Listed>, SuiteError> {
    let found = every(evals_root)?;
    Ok(found.into_iter().map(|(id, folder)| listed(id, &folder)).collect())
}

fn every(evals_root: &Path) -> Result<Vec<(String, PathBuf)>, SuiteError> {
    let scenarios = evals_root.join("scenarios");
    let found = folders(&scenarios)
        .map_err(|e| SuiteError::Folder { folder: scenarios.display().to_string(), why: e.to_string() })?;
    if found.len() > SCENARIOS_MAX {
        return Err(SuiteError::TooMany(found.len()));
    }
    Ok(found)
}

fn listed(id: String, folder: &Path) -> Listed {
    let logs = std::fs::read_dir(folder.join("mutated")).into_iter().flatten().flatten();
    let mutants = logs.filter(|f| f.path().extension().is_some_and(|e| e == "jsonl")).count();
    match load_eval(folder) {
        Ok(eval) => Listed {
            id,
            claim: eval.claim,
            promises: eval.promises,
            modes: eval.modes,
            source: Some(eval.source),
            tags: eval.tags,
            mutants,
            problem: None,
        },
        Err(error) => Listed {
            id,
            claim: String::new(),
            promises: Vec::new(),
            modes: Vec::new(),
            source: None,
            tags: Vec::new(),
            mutants,
            problem: Some(error.to_string()),
        },
    }
}

/// The scenarios that these words choose.
///
/// # Errors
/// [`SuiteError::NoSuchEval`] for a word that chooses none: a typing error must not run nothing and be green.
pub(crate) fn chosen(evals_root: &Path, only: &[String]) -> Result<Vec<(String, PathBuf)>, SuiteError> {
    let all: Vec<(Listed, PathBuf)> =
        every(evals_root)?.into_iter().map(|(id, folder)| (listed(id, &folder), folder)).collect();
    let takes = |one: &Listed, word: &String| one.id.starts_with(word.as_str()) || one.tags.contains(word);
    if let Some(word) = only.iter().find(|w| w.is_empty() || !all.iter().any(|(one, _)| takes(one, w))) {
        return Err(SuiteError::NoSuchEval(word.clone()));
    }
    let wanted = |one: &Listed| only.is_empty() || only.iter().any(|w| takes(one, w));
    Ok(all.into_iter().filter(|(one, _)| wanted(one)).map(|(one, folder)| (one.id, folder)).collect())
}

/// Runs the chosen scenarios, each with all of its mutants.
///
/// # Errors
/// [`SuiteError`] when nothing could be run; whatever is wrong with one scenario is in its report.
pub fn run(evals_root: &Path, options: &RunOptions) -> Result<Suite, SuiteError> {
    let chosen = chosen(evals_root, &options.only)?;
    let evals = chosen.iter().map(|(id, folder)| run_one(folder, id)).collect();
    let mut suite = Suite { evals, drift: Vec::new() };
    if options.baseline {
        let baseline = Baseline::load(&evals_root.join("baseline.json"))?;
        suite.drift = compare(&baseline, &suite.evals, options.only.is_empty());
    }
    Ok(suite)
}
