//! Places that take checkpoints: files, a syslog, a git repository, C2SP witnesses. Must never decide what a checkpoint
//! is or whether it may leave, and never wait without an end.

mod file;
mod git;
mod syslog;
mod witness;

pub use file::FileCopy;
pub use git::{GitCopy, GitPlace};
pub use syslog::{Address, BadAddress, SyslogCopy};
pub use witness::HttpWitness;

use custody_contracts::events::CheckpointSigned;

/// One checkpoint as one line of JSON.
fn line(signed: &CheckpointSigned) -> String {
    serde_json::json!({ "origin": signed.origin, "size": signed.size, "root": signed.root, "note": signed.note })
        .to_string()
}

#[cfg(test)]
pub(crate) fn checkpoint(size: u64) -> CheckpointSigned {
    let key = custody_trust::RoleKey::from_seed(custody_contracts::events::Role::Authority, &[1; 32]);
    let note = custody_trust::note::sign(&key, "custody.test/ledger", size, &[7; 32]);
    let root = note.lines().nth(2).unwrap_or_default().to_owned();
    CheckpointSigned { origin: "custody.test/ledger".into(), size, root, note }
}
