//! The container adapter over bollard: one hardened box per dispatch, asked for by one pure function and read back
//! before it is used. Must never pull an image, attach to a box, run a second process in one, or decide who may run.

mod check;
mod engine;
mod failure;
mod host;
pub mod seccomp;
mod slots;
pub mod spec;
mod status;
mod verify;
mod wait;

pub use check::BadSpec;
pub use engine::{Deadlines, Docker};
pub use slots::BindSlots;
pub use spec::Profile;
pub use verify::{Difference, verify};
