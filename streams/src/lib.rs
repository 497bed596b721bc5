//! Stream and consumer definitions as data, the typed grammar of log subjects, the guard's rules, and the server's
//! account configuration. Pure: no socket, no clock, no file. The adapter carries out what is decided here.

pub mod accounts;
pub mod diff;
pub mod guard;
pub mod spec;
pub mod subject;

pub use diff::Change;
pub use guard::{Finding, ServerFacts, StreamFacts};
pub use spec::{StreamOptions, StreamSpec};
pub use subject::LogSubject;
