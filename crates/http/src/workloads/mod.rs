//! The runtime's HTTP face: workloads of runtime.v1, for programs that hold a token of the runtime's own audience.
//!
//! A posted workload is no second way in. It becomes a launch, signed by the registered launcher [`LAUNCHER`], with the
//! profile as its runner and the token's person as its subject; what follows is admission, claim and box as for every
//! other dispatch, and the ledger has all of it. The face keeps nothing: what it tells is a fold over the ledger, and a
//! stop is asked of authority. Must never touch a container but to ask whether it is gone, never show one person's
//! workloads to another, and never repeat a token.

pub mod auth;
pub mod events;
pub mod face;
pub mod routes;
pub mod spec;
pub mod view;

pub use face::{Face, FaceSettings};

pub use custody_contracts::workload::LAUNCHER;

/// The largest body of a request in bytes: 128 variables of 32,768 characters would be more, and a launch is smaller.
pub const BODY_BYTES_MAX: usize = 128 * 1024;
/// The most workloads of one answer.
pub const LIST_MAX: usize = 500;
/// The most event streams that are open at once.
pub const STREAMS_MAX: usize = 64;
/// The most requests that are worked on at once.
pub const REQUESTS_MAX: usize = 256;
