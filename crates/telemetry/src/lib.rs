//! Metrics and traces of an installation. Both are folds over the ledger, so that a restart counts on where it was and
//! nothing has to be told twice; beside them stand counters around ports, for what the ledger does not hold (how long an
//! append took, how many bytes went by).
//!
//! Off unless an operator configures it: no port is opened and no packet is sent. Must never use a person, a session or
//! a text of an agent as a label, never hold a role up, and never be needed for a decision.

pub mod counts;
#[cfg(test)]
mod fixtures;
pub mod life;
pub mod measured;
pub mod otlp;
pub mod run;
pub mod serve;
pub mod spans;

pub use counts::{Counts, Scope};
pub use run::{Telemetry, TelemetrySettings};
