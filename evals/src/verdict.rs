//! What became of an eval, of its mutants and of a whole suite.

use crate::baseline::Drift;
use crate::check::Check;
use crate::decision::Divergence;
use crate::scenario::{Mode, Source};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A verdict. Only `Pass` counts as passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every check passed, and every mutant was found.
    Pass,
    /// A check failed.
    Fail,
    /// The eval itself is not good: it cannot be read, or a mutant passed.
    Invalid,
}

impl Verdict {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Invalid => "invalid",
        }
    }
}

/// What one log is, in numbers and digests: what a baseline keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Digest of `log.jsonl`.
    pub log: String,
    /// Messages of the ledger.
    pub messages: u64,
    /// Events by CloudEvents type.
    pub types: BTreeMap<String, u64>,
    /// Digest over entity and type of every event, in order.
    pub order: String,
    /// Digest of every projection.
    pub digests: BTreeMap<String, String>,
    /// What every dispatch comes out as when it is decided again.
    pub decisions: BTreeMap<String, String>,
}

/// One mutated log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MutantReport {
    /// Its name.
    pub name: String,
    /// The check that had to fail.
    pub must_fail_by: String,
    /// Whether it did.
    pub found: bool,
    /// Every check that failed, without those that any edit trips.
    pub failed_by: Vec<String>,
    /// Why this mutant shows nothing, when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One eval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EvalReport {
    /// Its id.
    pub id: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Its claim; empty when `eval.toml` could not be read.
    pub claim: String,
    /// Its promises.
    pub promises: Vec<String>,
    /// How it was judged.
    pub modes: Vec<Mode>,
    /// Where its log comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Why it is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Every check of the log.
    pub checks: Vec<Check>,
    /// Decisions that came out otherwise.
    pub divergences: Vec<Divergence>,
    /// The first finding's line with three lines before and after it.
    pub context: Vec<String>,
    /// Every mutant.
    pub mutants: Vec<MutantReport>,
    /// What the log is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
}

impl EvalReport {
    /// An eval that could not be judged.
    pub(crate) fn invalid(id: &str, problem: String) -> EvalReport {
        EvalReport {
            id: id.to_owned(),
            verdict: Verdict::Invalid,
            claim: String::new(),
            promises: Vec::new(),
            modes: Vec::new(),
            source: None,
            problem: Some(problem),
            checks: Vec::new(),
            divergences: Vec::new(),
            context: Vec::new(),
            mutants: Vec::new(),
            facts: None,
        }
    }

    /// The checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|c| !c.passed())
    }
}

/// Several evals, and how they differ from the baseline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suite {
    /// Every eval, by id.
    pub evals: Vec<EvalReport>,
    /// What changed against the baseline.
    pub drift: Vec<Drift>,
}

impl Suite {
    /// How many have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.evals.iter().filter(|e| e.verdict == verdict).count()
    }

    /// 0 clean, 1 a check failed or a refusal would be allowed now, 2 an eval is invalid or nothing ran, 3 the baseline
    /// drifted. The first that applies in this order: 1, 2, 3, 0.
    pub fn exit_code(&self) -> u8 {
        if self.count(Verdict::Fail) > 0 || self.drift.iter().any(Drift::blocks) {
            return 1;
        }
        if self.evals.is_empty() || self.count(Verdict::Invalid) > 0 {
            return 2;
        }
        if self.drift.is_empty() { 0 } else { 3 }
    }
}
