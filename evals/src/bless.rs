//! Blessing: somebody has looked at what changed and says that it is right. Rewrites goldens and the baseline, and
//! tells every file it wrote. Must never bless what fails for another reason than a golden, nor on a CI machine.

use crate::baseline::{Baseline, BaselineError, Drift, compare, entry};
use crate::check::Check;
use crate::fold::{Foldings, fold};
use crate::run::judge;
use crate::scenario::{Scenario, ScenarioError, golden_file};
use crate::suite::{SuiteError, chosen};
use crate::verdict::{EvalReport, Verdict};
use std::path::Path;

/// What to bless.
#[derive(Debug, Clone, Default)]
pub struct BlessOptions {
    /// Ids, tags, or beginnings of ids; everything when empty.
    pub only: Vec<String>,
    /// Bless also what was refused and is allowed now. Needs two reviewers.
    pub refusals_to_allowed: bool,
    /// Whether this is a CI machine: see [`crate::in_ci`].
    pub ci: bool,
}

/// One file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blessed {
    /// Relative to the evals folder.
    pub path: String,
    /// What is in it now.
    pub what: String,
}

/// Why nothing, or not everything, was blessed.
#[derive(Debug, thiserror::Error)]
pub enum BlessError {
    /// A CI machine has no eyes.
    #[error("nothing is blessed on a CI machine; do it where somebody reads the diff")]
    Ci,
    /// The scenarios could not be chosen.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// A scenario cannot be read.
    #[error("{id}: {source}")]
    Scenario {
        /// Which.
        id: String,
        /// Why.
        source: ScenarioError,
    },
    /// A scenario fails by more than its goldens.
    #[error("{id} is not blessed: {why}")]
    NotGood {
        /// Which.
        id: String,
        /// Why.
        why: String,
    },
    /// A refusal would be allowed now.
    #[error("{id}: {details}; what was refused is allowed now: two reviewers, and say so with --refusals-to-allowed")]
    RefusalToAllowed {
        /// Which.
        id: String,
        /// Which dispatch.
        details: String,
    },
    /// The baseline cannot be read.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// A file cannot be written.
    #[error("writing {path}: {why}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
}

/// Rewrites goldens and baseline of the chosen scenarios. Everything is judged before anything is written.
///
/// # Errors
/// [`BlessError`].
pub fn bless(evals_root: &Path, options: &BlessOptions) -> Result<Vec<Blessed>, BlessError> {
    if options.ci {
        return Err(BlessError::Ci);
    }
    let file = evals_root.join("baseline.json");
    let mut baseline = Baseline::load(&file)?;
    let mut reports = Vec::new();
    let mut writes = Vec::new();
    for (id, folder) in chosen(evals_root, &options.only)? {
        let mut scenario =
            Scenario::load(&folder, &id).map_err(|source| BlessError::Scenario { id: id.clone(), source })?;
        writes.extend(regolden(&mut scenario)?);
        let report = judge(&scenario);
        good(&report)?;
        reports.push(report);
    }
    let drift = compare(&baseline, &reports, options.only.is_empty());
    if let Some(blocking) = drift.iter().find(|d| d.blocks())
        && !options.refusals_to_allowed
    {
        return Err(BlessError::RefusalToAllowed { id: blocking.id.clone(), details: blocking.details.join("; ") });
    }
    if options.only.is_empty() {
        baseline.evals.clear();
    }
    baseline.evals.extend(reports.iter().filter_map(|r| Some((r.id.clone(), entry(r)?))));
    if !drift.is_empty() || !file.exists() {
        let text =
            baseline.write().map_err(|e| BlessError::Write { path: "baseline.json".into(), why: e.to_string() })?;
        let what = drift.iter().map(told).collect::<Vec<_>>().join("; ");
        writes.push((Blessed { path: "baseline.json".into(), what }, text));
    }
    for (blessed, text) in &writes {
        put(evals_root, &blessed.path, text)?;
    }
    Ok(writes.into_iter().map(|(blessed, _)| blessed).collect())
}

fn told(drift: &Drift) -> String {
    format!("{} {}", drift.id, drift.class.as_str())
}

/// Takes the goldens and fold versions of now into the scenario, and gives the files that have to be written for it.
fn regolden(scenario: &mut Scenario) -> Result<Vec<(Blessed, String)>, BlessError> {
    let id = scenario.id.clone();
    let not_good = |why: String| BlessError::NotGood { id: id.clone(), why };
    let foldings: Foldings = fold(&scenario.slice, usize::MAX).map_err(&not_good)?;
    let mut writes = Vec::new();
    for (name, folding) in &foldings {
        let before = scenario.goldens.insert((*name).to_owned(), folding.digest.clone());
        if before.as_ref() != Some(&folding.digest) {
            let path = format!("scenarios/{id}/{}", golden_file(name));
            writes.push((Blessed { path, what: folding.digest.clone() }, format!("{}\n", folding.digest)));
        }
    }
    let versions = foldings.iter().map(|(name, f)| ((*name).to_owned(), f.version)).collect();
    if scenario.eval.folds != versions {
        scenario.eval.folds = versions;
        let text = toml::to_string(&scenario.eval).map_err(|e| not_good(e.to_string()))?;
        let path = format!("scenarios/{id}/eval.toml");
        writes.push((Blessed { path, what: "fold versions".into() }, text));
    }
    Ok(writes)
}

fn good(report: &EvalReport) -> Result<(), BlessError> {
    if report.verdict == Verdict::Pass {
        return Ok(());
    }
    let failed: Vec<&str> = report.failed().map(|c: &Check| c.id.as_str()).collect();
    let why = report.problem.clone().unwrap_or_else(|| format!("it fails by {}", failed.join(", ")));
    Err(BlessError::NotGood { id: report.id.clone(), why })
}

fn put(evals_root: &Path, path: &str, text: &str) -> Result<(), BlessError> {
    let wrong = |e: std::io::Error| BlessError::Write { path: path.to_owned(), why: e.to_string() };
    let place = evals_root.join(path);
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder).map_err(wrong)?;
    }
    std::fs::write(&place, text).map_err(wrong)
}
