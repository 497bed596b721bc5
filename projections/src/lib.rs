//! One file per fold over the ledger: dispatches, sessions, usage, audit, workspaces, grants, inbox.
//!
//! Pure and replayable: no clock, no randomness, ordered maps only. Every projection can be thrown away and rebuilt to
//! the same rows and the same digest; a fold that meets something it does not understand notes it and goes on.

pub mod audit;
pub mod dispatches;
pub mod grants;
pub mod inbox;
pub mod row;
pub mod sessions;
pub mod table;
pub mod usage;
pub mod workspaces;

pub use audit::Audit;
pub use dispatches::Dispatches;
pub use grants::Grants;
pub use inbox::Inbox;
pub use sessions::Sessions;
pub use table::{Folded, RowChange, Table, digest};
pub use usage::Usage;
pub use workspaces::Workspaces;
