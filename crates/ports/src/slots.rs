//! Slots, as the pool of blank boxes sees them: empty folders that a blank box has mounted, into which the folders of a
//! dispatch are mounted once the box is claimed. Only the adapter behind this port calls mount(2).

use crate::containers::BoxMount;

/// Why a slot did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// This process, this kernel or this engine cannot have slots at all.
    #[error("no warm boxes here: {0}")]
    Unsupported(String),
    /// One call failed.
    #[error("slot {slot}: {what}: {why}")]
    Failed {
        /// The slot.
        slot: String,
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        why: String,
    },
}

/// Slots of one machine. Calls are short system calls; nothing waits for another process.
pub trait Slots: Send + Sync {
    /// Makes the place where slots are, and clears what an earlier process left mounted in slots that `keep` does not
    /// name. Safe to call twice.
    ///
    /// # Errors
    /// [`SlotError::Unsupported`] where slots cannot be had, with the reason.
    fn prepare(&self, keep: &dyn Fn(&str) -> bool) -> Result<(), SlotError>;
    /// An empty slot, and the mounts of the blank box that has it.
    ///
    /// # Errors
    /// [`SlotError`].
    fn make(&self, slot: &str) -> Result<Vec<BoxMount>, SlotError>;
    /// Whether what is mounted here will be seen by the box whose first process has this id.
    ///
    /// # Errors
    /// [`SlotError::Unsupported`] when it will not.
    fn reaches(&self, slot: &str, pid: u32) -> Result<(), SlotError>;
    /// Whether a slot has a place for every one of these.
    fn fits(&self, mounts: &[BoxMount]) -> bool;
    /// Mounts all of these in a slot, the gateway's folder last, so that whoever sees that one sees them all. Safe to
    /// call again.
    ///
    /// # Errors
    /// [`SlotError`].
    fn bind(&self, slot: &str, mounts: &[BoxMount]) -> Result<(), SlotError>;
    /// Whether the gateway's folder is mounted in a slot.
    fn bound(&self, slot: &str) -> bool;
    /// Takes everything out of a slot and removes it. Safe to call for one that is not there.
    ///
    /// # Errors
    /// [`SlotError`]; what is left is cleared by the next [`Slots::prepare`].
    fn clear(&self, slot: &str) -> Result<(), SlotError>;
    /// Every slot that is there.
    fn all(&self) -> Vec<String>;
    /// Gives the place where slots are back, once no slot is left in it. Safe to call twice.
    ///
    /// # Errors
    /// [`SlotError`].
    fn close(&self) -> Result<(), SlotError>;
}
