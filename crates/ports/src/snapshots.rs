//! Disposable projection snapshots: rows and the checkpoint they belong to, changed together or not at all.

/// One changed row: its key, and its bytes or `None` when it is gone.
pub type RowChange = (String, Option<Vec<u8>>);

/// Where a snapshot stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Version of the fold.
    pub version: u32,
    /// Last ledger sequence applied.
    pub seq: u64,
    /// Which log: digest of its first message. A snapshot of another log is thrown away.
    pub genesis: String,
}

/// Why the store failed. The answer is always the same: delete it and rebuild.
#[derive(Debug, thiserror::Error)]
#[error("projection store {name}: {why}")]
pub struct SnapshotError {
    /// Which projection.
    pub name: String,
    /// How.
    pub why: String,
}

/// A whole snapshot: where it stands, and every row in key order.
pub type Snapshot = (Checkpoint, Vec<(String, Vec<u8>)>);

/// A store of one projection's rows. May be deleted at any time.
pub trait Snapshots: Send + Sync {
    /// Everything stored, or `None` when there is nothing usable.
    fn load(&self, name: &str) -> Result<Option<Snapshot>, SnapshotError>;
    /// Applies changes and moves the checkpoint, in one batch.
    fn save(&self, name: &str, checkpoint: &Checkpoint, changes: Vec<RowChange>) -> Result<(), SnapshotError>;
    /// Throws everything of one projection away.
    fn wipe(&self, name: &str) -> Result<(), SnapshotError>;
}
