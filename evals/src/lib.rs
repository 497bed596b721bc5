//! Replay evals: recorded log slices against the folds and the deciders.
//!
//! A scenario is a log, a claim about it, and mutated logs that break the claim. Mode 1 folds the log into projections
//! and compares states and digests; mode 2 decides every recorded decision again and wants the same events. Must never
//! run an effect, read a clock or reach a network: what is not in the log is not there.

mod assertions;
pub mod baseline;
mod bless;
pub mod check;
mod closing;
mod decision;
mod diff;
mod evaluate;
mod expect;
mod fold;
mod identity;
mod pattern;
mod record;
pub mod report;
mod run;
mod scenario;
pub mod slice;
mod suite;
mod verdict;

pub use bless::{BlessError, BlessOptions, Blessed, bless};
pub use decision::{Divergence, Reversal};
pub use diff::FieldDiff;
pub use record::{RecordError, Recorded, Recording, record};
pub use run::run_one;
pub use scenario::{Mode, Source};
pub use slice::LaunchLine;
pub use suite::{Listed, RunOptions, SuiteError, list, run};
pub use verdict::{EvalReport, MutantReport, Suite, Verdict};

/// Whether the environment says that this is a CI machine: `CI` is set to something that is not empty, `0` or `false`.
/// What records or blesses refuses there.
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|v| !matches!(v.as_str(), "" | "0" | "false"))
}
