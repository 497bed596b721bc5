//! Fakes for tests and evals: clock, containers, model, collector of traces, and given/when/then.

pub mod collector;
pub mod conformance;
pub mod fakes;
pub mod model;
pub mod workspace_suite;
pub mod workspaces;
