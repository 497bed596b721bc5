//! The scenarios, their mutants, and the harness itself: what must pass passes, and what must be found is found.

#[cfg(test)]
mod book;
#[cfg(test)]
mod meta;
#[cfg(test)]
mod recording;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod written;

use std::path::PathBuf;

/// The folder that holds `scenarios/` and `baseline.json`.
fn evals_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
