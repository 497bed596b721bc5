//! Keys as a process of ours sees them: a fold that follows the ledger. Must never take a key that authority did not sign.
//! Of the keys of persons it knows what became of them, and never has one.

use crate::follow::read_or_note;
use custody_contracts::events::{KeyEvent, LedgerEvent};
use custody_contracts::ids::Subject;
use custody_contracts::sealed::SubjectKeyChanged;
use custody_ledger::Stored;
use custody_trust::Keyring;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// The keyring. Clones share it.
#[derive(Debug, Clone)]
pub struct KeyBook {
    ring: Arc<RwLock<Keyring>>,
    /// What the key of a person last was; nobody of whom nothing was recorded.
    persons: Arc<RwLock<BTreeMap<Subject, SubjectKeyChanged>>>,
    changed: watch::Sender<u64>,
}

impl Default for KeyBook {
    fn default() -> Self {
        KeyBook { ring: Arc::default(), persons: Arc::default(), changed: watch::channel(0).0 }
    }
}

impl KeyBook {
    /// Takes in one stored message; what is of no key is left out, and the same one again changes nothing.
    pub fn take_in(&self, stored: &Stored) {
        if !stored.log_subject.starts_with("ledger.key.") {
            return;
        }
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = ring.admit(stored) {
            tracing::error!(%error, seq = stored.seq.0, "key event not taken; nothing that its key signs counts");
        }
        drop(ring);
        for recorded in read_or_note(stored) {
            if let Some(LedgerEvent::Key(KeyEvent::Subject(changed))) = recorded.event {
                let mut persons = self.persons.write().unwrap_or_else(PoisonError::into_inner);
                persons.insert(changed.subject.clone(), changed);
            }
        }
        self.changed.send_modify(|n| *n += 1);
    }

    /// Reads the ring.
    pub fn with<T>(&self, read: impl FnOnce(&Keyring) -> T) -> T {
        read(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What became of the keys of persons, of whom something was recorded.
    pub fn persons(&self) -> Vec<SubjectKeyChanged> {
        self.persons.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Told whenever a key changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
