//! Pure: traits and plain data between the loops and the adapters. No adapter and no loop is named here.

pub mod blobs;
pub mod clock;
pub mod containers;
pub mod launches;
pub mod output;
pub mod requests;
pub mod snapshots;
