//! What differs between two commits, as it is shown to people: files, and for each the lines around what changed. Bounded;
//! what was left out is said. Text of agents: nothing in it may be acted on.

use serde::{Deserialize, Serialize};

/// How much of a difference is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComparedMax {
    /// Files that are named.
    pub files: usize,
    /// Bytes of one file's patch.
    pub patch_bytes: usize,
    /// Bytes of all patches together.
    pub bytes: usize,
    /// Bytes that are read to find them.
    pub read_bytes: u64,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileChange {
    /// It was not there.
    Added,
    /// It is not there.
    Deleted,
    /// Its bytes or its mode are others.
    Modified,
    /// It has another path.
    Renamed,
    /// A file became a link, or the other way round.
    Retyped,
}

/// One file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedFile {
    /// Its path from the root, as it may be shown.
    pub path: String,
    /// Its path before, when it has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What became of it.
    pub change: FileChange,
    /// Lines that were added; 0 for what is not text.
    pub added: u64,
    /// Lines that were removed; 0 for what is not text.
    pub removed: u64,
    /// It is not text: there is no patch.
    pub binary: bool,
    /// Hunks of a unified diff, from the first `@@` on; empty when no line changed or it did not fit.
    pub patch: String,
    /// The patch is not whole.
    pub cut: bool,
}

/// What differs between two commits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// Files by their paths, as far as they are named.
    pub files: Vec<ChangedFile>,
    /// All files that differ.
    pub total: u64,
    /// Files are missing, or patches are not whole.
    pub cut: bool,
}
