//! A proof bundle: one event of the ledger with everything that stands behind it, in one file that anybody can check
//! without this installation, its log or a network. Must never be called good for more than it holds: a bundle shows
//! that its events are in the log, not that the log holds no others.
//!
//! **Shape**: one JSON object, [`Bundle`]. **Bounds**: [`BUNDLE_BYTES_MAX`], [`ENTRIES_MAX`], 64 hashes a proof.
//! **Source**: RFC 6962 (tree), RFC 9162 (verification), C2SP signed-note and tlog-checkpoint (head).

mod check;
mod links;
mod tlog;

pub use check::{Demands, Proved, log_vkey, verify};
pub use tlog::tlog_proof;

use crate::note::Hashes;
use custody_ledger::merkle::Hash;
use custody_ledger::{Seq, Stored};
use serde::{Deserialize, Serialize};

/// What [`Bundle::schema`] says.
pub const SCHEMA: &str = "proof.v1";
/// Events of one bundle: a dispatch with more is proved event by event.
pub const ENTRIES_MAX: usize = 4_096;
/// The largest bundle in bytes.
pub const BUNDLE_BYTES_MAX: usize = 32 << 20;
/// The largest checkpoint in bytes, cosignatures of witnesses included.
pub const NOTE_BYTES_MAX: usize = 16_384;

/// One event and what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Always `proof.v1`.
    pub schema: String,
    /// The ledger sequence that was asked about.
    pub focus: u64,
    /// The C2SP signed note over a tree that holds every entry.
    pub checkpoint: String,
    /// The events, by sequence: key history, launcher, grant, admission, run, effect. The first is the log's first.
    pub entries: Vec<Entry>,
    /// That the tree goes on from an older checkpoint which the reader has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Since>,
    /// What the launcher itself signed, as it was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<String>,
}

/// One stored message and its audit path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its sequence; it is leaf `seq - 1`.
    pub seq: u64,
    /// Its log subject, for example `ledger.run.d-7f3a`.
    pub subject: String,
    /// Exactly the stored bytes: canonical JSON of one signed event, or an array of them.
    pub bytes: String,
    /// The audit path, standard base 64, deepest first. RFC 6962 section 2.1.1.
    pub proof: Hashes,
}

/// An older checkpoint and the proof that the tree goes on from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// The older note.
    pub checkpoint: String,
    /// The consistency proof, standard base 64. RFC 6962 section 2.1.2.
    pub proof: Hashes,
}

impl Entry {
    /// An entry of a stored message; `None` when its bytes are no text, which no ledger event is.
    pub fn of(stored: &Stored, proof: Vec<Hash>) -> Option<Entry> {
        let bytes = String::from_utf8(stored.bytes.clone()).ok()?;
        Some(Entry { seq: stored.seq.0, subject: stored.log_subject.clone(), bytes, proof: Hashes(proof) })
    }

    fn stored(&self) -> Stored {
        Stored {
            seq: Seq(self.seq),
            log_subject: self.subject.clone(),
            message_id: None,
            bytes: self.bytes.clone().into_bytes(),
        }
    }
}

/// Why a file is not a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Beyond a written maximum.
    #[error("{what}: {found} are more than {max}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How many.
        found: usize,
        /// The maximum.
        max: usize,
    },
    /// Not of the form.
    #[error("not a proof bundle: {0}")]
    Unreadable(String),
}

impl Bundle {
    /// Reads a bundle. Unknown fields are refused.
    ///
    /// # Errors
    /// [`BundleError`] for what is too large or not of the form; nothing is verified yet.
    pub fn read(bytes: &[u8]) -> Result<Bundle, BundleError> {
        within("bytes", bytes.len(), BUNDLE_BYTES_MAX)?;
        let bundle: Bundle = serde_json::from_slice(bytes).map_err(|e| BundleError::Unreadable(e.to_string()))?;
        if bundle.schema != SCHEMA {
            return Err(BundleError::Unreadable(format!("its schema is {:?}, not {SCHEMA}", bundle.schema)));
        }
        within("entries", bundle.entries.len(), ENTRIES_MAX)?;
        let notes = std::iter::once(&bundle.checkpoint).chain(bundle.since.as_ref().map(|s| &s.checkpoint));
        for note in notes {
            within("bytes of a checkpoint", note.len(), NOTE_BYTES_MAX)?;
        }
        for entry in &bundle.entries {
            within("bytes of an event", entry.bytes.len(), custody_contracts::envelope::MESSAGE_BYTES_MAX)?;
        }
        if let Some(launch) = &bundle.launch {
            within("bytes of the launch", launch.len(), custody_contracts::launch::BYTES_MAX)?;
        }
        Ok(bundle)
    }
}

fn within(what: &'static str, found: usize, max: usize) -> Result<(), BundleError> {
    if found > max { Err(BundleError::TooLarge { what, found, max }) } else { Ok(()) }
}
