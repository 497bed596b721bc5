//! The baseline: what every eval came out as when somebody last looked at it and said yes. Must never be written by a
//! run, only by a blessing.

use crate::verdict::{EvalReport, Facts, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The most bytes of the file.
pub const BASELINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The most details of one difference.
const DETAILS_MAX: usize = 20;

/// One eval in the baseline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its verdict.
    pub verdict: Verdict,
    /// Its mutants.
    pub mutants: Vec<String>,
    /// What its log is.
    pub facts: Facts,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Always `eval-baseline.v1`.
    pub schema: String,
    /// Every eval by id.
    pub evals: BTreeMap<String, Entry>,
}

impl Default for Baseline {
    fn default() -> Self {
        Baseline { schema: "eval-baseline.v1".into(), evals: BTreeMap::new() }
    }
}

/// Why the file cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {why}")]
pub struct BaselineError {
    /// Which file.
    pub file: String,
    /// Why.
    pub why: String,
}

/// How an eval differs from the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// What was refused is allowed now.
    RefusalToAllowed,
    /// What was allowed is refused now.
    AllowedToRefusal,
    /// Events are gone or stand in another order.
    MissingOrReordered,
    /// Something else is otherwise.
    Changed,
    /// Only events of types that were not there before, and what follows from them.
    Additive,
    /// Not in the baseline.
    New,
    /// In the baseline, and gone.
    Removed,
}

impl Class {
    /// Its words.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::RefusalToAllowed => "refusal→allowed",
            Class::AllowedToRefusal => "allowed→refused",
            Class::MissingOrReordered => "missing/reordered",
            Class::Changed => "changed",
            Class::Additive => "additive",
            Class::New => "new",
            Class::Removed => "removed",
        }
    }
}

/// One difference from the baseline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The eval.
    pub id: String,
    /// The gravest class that applies.
    pub class: Class,
    /// What changed, at most 20 lines.
    pub details: Vec<String>,
}

impl Drift {
    /// Whether it blocks whatever else is green.
    pub fn blocks(&self) -> bool {
        self.class == Class::RefusalToAllowed
    }
}

impl Baseline {
    /// Reads the file; an empty baseline when there is none.
    ///
    /// # Errors
    /// [`BaselineError`] when it is there and cannot be read.
    pub fn load(path: &Path) -> Result<Baseline, BaselineError> {
        let wrong = |why: String| BaselineError { file: path.display().to_string(), why };
        if !path.exists() {
            return Ok(Baseline::default());
        }
        let size = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?.len();
        if size > BASELINE_BYTES_MAX {
            return Err(wrong(format!("{size} bytes are more than {BASELINE_BYTES_MAX}")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let baseline: Baseline = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        if baseline.schema != "eval-baseline.v1" {
            return Err(wrong(format!("schema is {:?}, not eval-baseline.v1", baseline.schema)));
        }
        Ok(baseline)
    }

    /// The file's text: sorted, indented, so that a change is a readable diff.
    ///
    /// # Errors
    /// Only if it cannot be represented as JSON, which means a bug.
    pub fn write(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

/// The baseline's entry for a report; `None` when there are no facts to keep.
pub fn entry(report: &EvalReport) -> Option<Entry> {
    let facts = report.facts.clone()?;
    Some(Entry { verdict: report.verdict, mutants: report.mutants.iter().map(|m| m.name.clone()).collect(), facts })
}

/// Every difference, gravest first. Evals that are gone are told only when all of them were run.
pub fn compare(baseline: &Baseline, evals: &[EvalReport], all: bool) -> Vec<Drift> {
    let mut drift = Vec::new();
    for report in evals {
        let Some(before) = baseline.evals.get(&report.id) else {
            drift.push(Drift { id: report.id.clone(), class: Class::New, details: Vec::new() });
            continue;
        };
        drift.extend(differs(before, report));
    }
    if all {
        let gone = baseline.evals.keys().filter(|id| !evals.iter().any(|e| e.id == **id));
        drift.extend(gone.map(|id| Drift { id: id.clone(), class: Class::Removed, details: Vec::new() }));
    }
    drift.sort_by(|a, b| (a.class, &a.id).cmp(&(b.class, &b.id)));
    drift
}

fn differs(before: &Entry, report: &EvalReport) -> Option<Drift> {
    let mut details: Vec<String> = Vec::new();
    let mut class: Option<Class> = None;
    let mut note = |found: Class, what: String| {
        class = Some(class.map_or(found, |c| c.min(found)));
        if details.len() < DETAILS_MAX {
            details.push(what);
        }
    };
    if report.verdict != before.verdict {
        note(Class::Changed, format!("verdict was {}, is {}", before.verdict.as_str(), report.verdict.as_str()));
    }
    for name in before.mutants.iter().filter(|n| !report.mutants.iter().any(|m| m.name == **n)) {
        note(Class::Changed, format!("mutant {name} is gone"));
    }
    if let Some(now) = &report.facts {
        decisions(&before.facts, now, &mut note);
        events(&before.facts, now, &mut note);
    }
    class.map(|class| Drift { id: report.id.clone(), class, details })
}

fn decisions(before: &Facts, now: &Facts, note: &mut impl FnMut(Class, String)) {
    for (dispatch, was) in &before.decisions {
        let Some(is) = now.decisions.get(dispatch) else {
            note(Class::MissingOrReordered, format!("dispatch {dispatch} is not decided any more"));
            continue;
        };
        if was == is {
            continue;
        }
        let found = match (was.as_str(), is.as_str()) {
            (_, "admitted") => Class::RefusalToAllowed,
            ("admitted", _) => Class::AllowedToRefusal,
            _ => Class::Changed,
        };
        note(found, format!("dispatch {dispatch} was {was}, is {is}"));
    }
}

fn events(before: &Facts, now: &Facts, note: &mut impl FnMut(Class, String)) {
    let mut others_same = true;
    for (kind, was) in &before.types {
        let is = now.types.get(kind).copied().unwrap_or_default();
        if is < *was {
            note(Class::MissingOrReordered, format!("{kind}: {was} events were there, {is} are"));
        } else if is > *was {
            note(Class::Changed, format!("{kind}: {was} events were there, {is} are"));
        }
        others_same &= is == *was;
    }
    let new: Vec<&String> = now.types.keys().filter(|k| !before.types.contains_key(*k)).collect();
    for kind in &new {
        note(Class::Additive, format!("{kind} is new"));
    }
    if before.order != now.order && new.is_empty() && others_same {
        note(Class::MissingOrReordered, "the same events stand in another order, or on other entities".into());
    }
    let additive = !new.is_empty() && others_same;
    let rest = if additive { Class::Additive } else { Class::Changed };
    for (name, was) in &before.digests {
        let is = now.digests.get(name).map_or("nothing", String::as_str);
        if is != was {
            note(rest, format!("digest of {name} was {was}, is {is}"));
        }
    }
    if before.log != now.log {
        note(rest, "log.jsonl is another file".into());
    }
}
