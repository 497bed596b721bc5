//! Fakes for tests and evals: clock, containers, model, and given/when/then.

pub mod conformance;
pub mod fakes;
pub mod model;
