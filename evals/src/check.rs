//! One check and what it found. A check that failed names the first sequence that is wrong.

use serde::Serialize;

/// How many findings of one check are kept; more are counted.
pub const FINDINGS_MAX: usize = 20;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Ledger sequence, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// In a sentence, cut to 600 characters.
    pub what: String,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its id: `log.…`, `launch.…`, `run.…`, `effect.…`, `fold.…`, `digest.…`, `decision`, or an assertion's own.
    pub id: String,
    /// How many things were looked at. A closing check may find nothing to look at; an assertion that does, fails.
    pub looked_at: u64,
    /// What is wrong; empty when it passed. At most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// Findings beyond those kept.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Check {
    /// A check that has not looked at anything yet.
    pub fn new(id: impl Into<String>) -> Check {
        Check { id: id.into(), looked_at: 0, findings: Vec::new(), dropped: 0 }
    }

    /// Whether nothing is wrong.
    pub fn passed(&self) -> bool {
        self.findings.is_empty()
    }

    /// Notes what is wrong.
    pub fn fail(&mut self, seq: Option<u64>, what: impl Into<String>) {
        if self.findings.len() >= FINDINGS_MAX {
            self.dropped += 1;
            return;
        }
        self.findings.push(Finding { seq, what: what.into().chars().take(600).collect() });
    }
}
