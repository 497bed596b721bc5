//! Pure: the decider, the log port, `handle`, Merkle leaves and proofs, and an in-memory log.
//!
//! No tokio, no socket, no clock, no log line: time, ids and keys come in with the command.

pub mod decider;
pub mod handle;
pub mod log;
pub mod memory;
pub mod merkle;
pub mod recorded;
pub mod seal;
pub mod tiles;

pub use decider::{Decider, Projection};
pub use handle::{Command, HandleError, Outcome, handle, handle_known, handle_new};
pub use log::{Append, AppendError, Entity, Expected, Log, LogError, Seq, Stored};
pub use memory::MemoryLog;
pub use recorded::{Recorded, RecordedError, Sign};
pub use seal::{Seal, Unopened};
