//! Pure: the rules, one folder per entity. A rule sees a state and a command and says which events follow, or why not.
//!
//! No clock, no socket, no log line. Every folder looks alike: `mod` (types), `decide`, `evolve`, tests.

pub mod admission;
pub mod approval;
pub mod budget;
pub mod checkpoint;
pub mod dispatch;
pub mod effect;
pub mod events;
pub mod grant;
pub mod key;
pub mod launcher;
pub mod queue;
pub mod run;
pub mod say;
#[cfg(test)]
mod tests;
pub mod token;
pub mod tool;
pub mod workspace;
