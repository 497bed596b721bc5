//! The runners of this installation: agent-runner.v2 documents from one folder, checked when they are read.

use custody_contracts::catalogue;
use custody_contracts::runner::Runner;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// The largest runner document.
const DOCUMENT_BYTES_MAX: u64 = 262_144;

/// Why a runner document cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("runner document {path}: {why}")]
pub struct RunnerError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// Runners by name, read again when one is asked for that is not known yet.
#[derive(Debug, Clone)]
pub struct Runners {
    folder: PathBuf,
    known: Arc<RwLock<BTreeMap<String, Runner>>>,
}

impl Runners {
    /// Reads every `*.json` of a folder; a folder that does not exist holds none.
    ///
    /// # Errors
    /// [`RunnerError`] for the first document that breaks agent-runner.v2.
    pub fn read(folder: &Path) -> Result<Runners, RunnerError> {
        let known = read_folder(folder)?;
        Ok(Runners { folder: folder.to_owned(), known: Arc::new(RwLock::new(known)) })
    }

    /// A runner by name. A name that is not known makes the folder be read again, so that a runner installed later
    /// needs no restart.
    pub fn get(&self, name: &str) -> Option<Runner> {
        if let Some(found) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Some(found.clone());
        }
        match read_folder(&self.folder) {
            Ok(fresh) => {
                let found = fresh.get(name).cloned();
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                found
            }
            Err(error) => {
                tracing::error!(%error, "runner folder cannot be read again");
                None
            }
        }
    }

    /// Every runner, by name.
    pub fn all(&self) -> Vec<Runner> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

fn read_folder(folder: &Path) -> Result<BTreeMap<String, Runner>, RunnerError> {
    let mut found = BTreeMap::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(RunnerError { path: folder.to_owned(), why: e.to_string() }),
    };
    for entry in entries {
        let path = entry.map_err(|e| RunnerError { path: folder.to_owned(), why: e.to_string() })?.path();
        if path.extension().is_some_and(|e| e == "json") {
            let runner = read_document(&path)?;
            found.insert(runner.name.to_string(), runner);
        }
    }
    Ok(found)
}

/// Reads and checks one runner document.
///
/// # Errors
/// [`RunnerError`] with the JSON pointer and keyword of the first violation.
pub fn read_document(path: &Path) -> Result<Runner, RunnerError> {
    let bad = |why: String| RunnerError { path: path.to_owned(), why };
    let size = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
    if size > DOCUMENT_BYTES_MAX {
        return Err(bad(format!("{size} bytes are more than {DOCUMENT_BYTES_MAX}")));
    }
    let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    catalogue::check("agent-runner.v2", "Runner", &value).map_err(|e| bad(e.to_string()))?;
    serde_json::from_value(value).map_err(|e| bad(e.to_string()))
}
