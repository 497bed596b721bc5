//! Disposable projection snapshots in sled: one folder per projection, rows and checkpoint in one batch.
//!
//! Never the truth: a store that cannot be opened, panics, or was written before a power cut is wiped and the projection
//! is folded again. Nothing is ever acknowledged because sled has it.

use custody_ports::snapshots::{Checkpoint, RowChange, Snapshot, SnapshotError, Snapshots};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bytes of sled's page cache per projection.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Key of the checkpoint; row keys begin with `r`.
const CHECKPOINT_KEY: &[u8] = b"checkpoint";
/// How often a store is tried that is still locked.
const LOCK_TRIES: u32 = 40;
/// Between two of those.
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Snapshots in one folder.
#[derive(Debug)]
pub struct SledSnapshots {
    folder: PathBuf,
    /// Changes with every boot of the machine: after a power cut sled may open and be empty or old.
    boot: String,
    open: Mutex<BTreeMap<String, sled::Db>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCheckpoint {
    version: u32,
    seq: u64,
    genesis: String,
    boot: String,
    clean: bool,
}

fn failed(name: &str, why: impl std::fmt::Display) -> SnapshotError {
    SnapshotError { name: name.to_owned(), why: why.to_string() }
}

impl SledSnapshots {
    /// Snapshots below this folder. `boot` tells one boot of the machine from the next.
    pub fn new(folder: &Path, boot: &str) -> Self {
        SledSnapshots { folder: folder.to_owned(), boot: boot.to_owned(), open: Mutex::default() }
    }

    fn db(&self, name: &str) -> Result<sled::Db, SnapshotError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(db) = open.get(name) {
            return Ok(db.clone());
        }
        let path = self.folder.join(name);
        // sled panics on some damaged files instead of returning an error (its issues 1527 and 1533).
        let open_once = || {
            catch_unwind(AssertUnwindSafe(|| {
                sled::Config::new().path(&path).cache_capacity(CACHE_BYTES).flush_every_ms(Some(1_000)).open()
            }))
        };
        let mut opened = open_once();
        for _ in 0..LOCK_TRIES {
            // Whoever closed it a moment ago holds its lock until sled's own thread has ended.
            if !matches!(&opened, Ok(Err(error)) if error.to_string().contains("could not acquire lock")) {
                break;
            }
            std::thread::sleep(LOCK_PAUSE);
            opened = open_once();
        }
        let db = match opened {
            Ok(Ok(db)) => db,
            Ok(Err(error)) => return Err(failed(name, error)),
            Err(_) => return Err(failed(name, "the store panicked while it was opened")),
        };
        open.insert(name.to_owned(), db.clone());
        Ok(db)
    }
}

impl Snapshots for SledSnapshots {
    fn load(&self, name: &str) -> Result<Option<Snapshot>, SnapshotError> {
        let db = self.db(name)?;
        let read = catch_unwind(AssertUnwindSafe(|| -> Result<_, SnapshotError> {
            let Some(raw) = db.get(CHECKPOINT_KEY).map_err(|e| failed(name, e))? else { return Ok(None) };
            let stored: StoredCheckpoint = serde_json::from_slice(&raw).map_err(|e| failed(name, e))?;
            if stored.boot != self.boot && !stored.clean {
                return Err(failed(name, "it was not closed before the machine went down"));
            }
            let mut rows = Vec::new();
            for pair in db.scan_prefix(b"r") {
                let (key, value) = pair.map_err(|e| failed(name, e))?;
                let key = std::str::from_utf8(&key).map_err(|e| failed(name, e))?;
                rows.push((key.get(1..).unwrap_or_default().to_owned(), value.to_vec()));
            }
            let checkpoint = Checkpoint { version: stored.version, seq: stored.seq, genesis: stored.genesis };
            Ok(Some((checkpoint, rows)))
        }));
        read.unwrap_or_else(|_| Err(failed(name, "the store panicked while it was read")))
    }

    fn save(&self, name: &str, checkpoint: &Checkpoint, changes: Vec<RowChange>) -> Result<(), SnapshotError> {
        let db = self.db(name)?;
        let stored = StoredCheckpoint {
            version: checkpoint.version,
            seq: checkpoint.seq,
            genesis: checkpoint.genesis.clone(),
            boot: self.boot.clone(),
            clean: false,
        };
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            let key = ["r", &key].concat();
            match value {
                Some(bytes) => batch.insert(key.as_bytes(), bytes),
                None => batch.remove(key.as_bytes()),
            }
        }
        batch.insert(CHECKPOINT_KEY, serde_json::to_vec(&stored).map_err(|e| failed(name, e))?);
        let applied = catch_unwind(AssertUnwindSafe(|| db.apply_batch(batch)));
        match applied {
            Ok(result) => result.map_err(|e| failed(name, e)),
            Err(_) => Err(failed(name, "the store panicked while it was written")),
        }
    }

    fn wipe(&self, name: &str) -> Result<(), SnapshotError> {
        drop(self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name));
        match std::fs::remove_dir_all(self.folder.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(name, e)),
            _ => Ok(()),
        }
    }
}

impl Drop for SledSnapshots {
    /// Marks every open store as closed in an orderly way.
    fn drop(&mut self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, db) in open {
            let closed = db.get(CHECKPOINT_KEY).ok().flatten().and_then(|raw| {
                let mut stored: StoredCheckpoint = serde_json::from_slice(&raw).ok()?;
                stored.clean = true;
                db.insert(CHECKPOINT_KEY, serde_json::to_vec(&stored).ok()?).ok()?;
                db.flush().ok()
            });
            if closed.is_none() {
                // An unmarked store is rebuilt after the next boot; nothing is lost.
                drop(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(seq: u64) -> Checkpoint {
        Checkpoint { version: 1, seq, genesis: "sha256:g".into() }
    }

    #[test]
    fn rows_and_checkpoint_move_together() {
        let folder = tempfile::tempdir().unwrap();
        let store = SledSnapshots::new(folder.path(), "boot-1");
        assert!(store.load("p").unwrap().is_none());
        store
            .save("p", &checkpoint(3), vec![("a".into(), Some(b"1".to_vec())), ("b".into(), Some(b"2".to_vec()))])
            .unwrap();
        store.save("p", &checkpoint(4), vec![("a".into(), None), ("c".into(), Some(b"3".to_vec()))]).unwrap();
        drop(store);
        let store = SledSnapshots::new(folder.path(), "boot-1");
        let (found, rows) = store.load("p").unwrap().unwrap();
        assert_eq!(found, checkpoint(4));
        assert_eq!(rows, vec![("b".to_owned(), b"2".to_vec()), ("c".to_owned(), b"3".to_vec())]);
    }

    #[test]
    fn a_store_from_before_a_power_cut_is_not_trusted_and_can_be_wiped() {
        let folder = tempfile::tempdir().unwrap();
        let store = SledSnapshots::new(folder.path(), "boot-1");
        store.save("p", &checkpoint(3), vec![("a".into(), Some(b"1".to_vec()))]).unwrap();
        for db in store.open.lock().unwrap().values() {
            db.flush().unwrap();
        }
        let open = std::mem::take(&mut *store.open.lock().unwrap());
        drop(open);
        drop(store);
        let store = SledSnapshots::new(folder.path(), "boot-2");
        assert!(store.load("p").is_err());
        store.wipe("p").unwrap();
        assert!(store.load("p").unwrap().is_none());
    }

    #[test]
    fn a_clean_store_outlives_a_boot() {
        let folder = tempfile::tempdir().unwrap();
        SledSnapshots::new(folder.path(), "boot-1").save("p", &checkpoint(3), vec![]).unwrap();
        assert_eq!(SledSnapshots::new(folder.path(), "boot-2").load("p").unwrap().unwrap().0, checkpoint(3));
    }

    #[test]
    fn damaged_files_are_an_error_or_empty_and_never_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let store = SledSnapshots::new(folder.path(), "b");
        store.save("p", &checkpoint(3), (0..500).map(|n| (n.to_string(), Some(vec![7; 100]))).collect()).unwrap();
        drop(store);
        for entry in std::fs::read_dir(folder.path().join("p")).unwrap().flatten() {
            if entry.path().is_file() {
                let mut bytes = std::fs::read(entry.path()).unwrap();
                let half = bytes.len() / 2;
                bytes.iter_mut().skip(half).for_each(|b| *b ^= 0x5a);
                std::fs::write(entry.path(), bytes).unwrap();
            }
        }
        let store = SledSnapshots::new(folder.path(), "b");
        if let Ok(Some((found, rows))) = store.load("p") {
            assert!(found == checkpoint(3) && rows.len() <= 500);
        }
        store.wipe("p").unwrap();
        assert!(store.load("p").unwrap().is_none());
    }
}
