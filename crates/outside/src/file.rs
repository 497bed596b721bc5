//! A file, best on another disk: one line a checkpoint, appended. Must never hold the task of another place up: a disk
//! that hangs hangs a thread of its own.

use crate::line;
use custody_contracts::events::CheckpointSigned;
use custody_ports::outside::{Outside, OutsideError};
use futures::future::BoxFuture;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A file that gets every checkpoint.
#[derive(Debug, Clone)]
pub struct FileCopy {
    path: PathBuf,
    name: String,
}

impl FileCopy {
    /// The file; it is made when it is not there, its folder is not.
    pub fn new(path: &Path) -> FileCopy {
        FileCopy { path: path.to_owned(), name: format!("file {}", path.display()) }
    }
}

impl Outside for FileCopy {
    fn name(&self) -> &str {
        &self.name
    }
    fn every(&self) -> u64 {
        1
    }
    fn put<'a>(&'a self, signed: &'a CheckpointSigned) -> BoxFuture<'a, Result<(), OutsideError>> {
        let (path, text) = (self.path.clone(), format!("{}\n", line(signed)));
        Box::pin(async move {
            let write = move || -> std::io::Result<()> {
                let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
                file.write_all(text.as_bytes())?;
                file.sync_data()
            };
            let failed = |e: &dyn std::fmt::Display| OutsideError::Unavailable(e.to_string());
            tokio::task::spawn_blocking(write).await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint;

    #[tokio::test]
    async fn a_file_gets_a_line_a_checkpoint_and_a_folder_that_is_gone_is_an_answer() {
        let folder = tempfile::tempdir().unwrap();
        let place = FileCopy::new(&folder.path().join("notes.jsonl"));
        for size in [3, 9] {
            place.put(&checkpoint(size)).await.unwrap();
        }
        let text = std::fs::read_to_string(folder.path().join("notes.jsonl")).unwrap();
        let sizes: Vec<u64> = text
            .lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
            .map(|v| custody_trust::note::read(v["note"].as_str().unwrap()).unwrap().size)
            .collect();
        assert_eq!(sizes, [3, 9]);
        let gone = FileCopy::new(&folder.path().join("no/such/folder"));
        assert!(matches!(gone.put(&checkpoint(1)).await, Err(OutsideError::Unavailable(_))));
    }
}
