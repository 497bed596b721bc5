//! `custody audit export --tiles`: the log as the files that any C2SP client reads. Must never leave a folder behind whose
//! tree is not the signed one.

use super::unavailable;
use crate::error::{CliError, CliResult, exit};
use crate::render::notice;
use custody_engine::prove::{Ask, prove};
use custody_ledger::tiles::{TileFile, Tiles};
use custody_ledger::{Log, Seq};
use custody_trust::note;
use custody_trust::proof::log_vkey;
use futures::StreamExt;
use std::path::Path;

/// Writes `checkpoint`, `log.vkey` and `tile/` into a new folder. Source: C2SP tlog-tiles.
pub(super) async fn export(log: &dyn Log, folder: &Path) -> CliResult {
    std::fs::create_dir(folder).map_err(|e| {
        CliError::new(exit::CONFLICT, "FOLDER_EXISTS", format!("{}: {e}", folder.display())).hint("name a new folder")
    })?;
    let first = log.read(Seq(1)).await.map_err(unavailable)?.next().await;
    let first = first.transpose().map_err(unavailable)?;
    let first = first.ok_or_else(|| CliError::new(exit::NOT_FOUND, "LOG_EMPTY", "the log has no message yet"))?;
    let ask = Ask { focus: 1, messages: vec![first], whole: false, since: None, launch: None, under: None };
    let (bundle, _) = prove(log, ask).await.map_err(super::prove::not_proved)?;
    let vkey = log_vkey(&bundle).map_err(|f| CliError::new(exit::INTEGRITY, f.code, f.message))?;
    let head =
        note::read(&bundle.checkpoint).map_err(|e| CliError::new(exit::INTEGRITY, "CHECKPOINT_UNREADABLE", e))?;

    let mut tiles = Tiles::default();
    let mut messages = log.read(Seq(1)).await.map_err(unavailable)?;
    while tiles.size() < head.size
        && let Some(stored) = messages.next().await
    {
        let stored = stored.map_err(unavailable)?;
        let files = tiles.push(&stored.bytes);
        write(folder, files.map_err(|e| CliError::new(exit::CONFLICT, "EVENT_TOO_LARGE", e))?)?;
    }
    if tiles.root() != head.root {
        let why = format!("the tree over {} messages is not the one that was signed", tiles.size());
        return Err(CliError::new(exit::INTEGRITY, "CHECKPOINT_MISMATCH", why).hint("custody audit verify"));
    }
    write(folder, tiles.finish())?;
    std::fs::write(folder.join("log.vkey"), format!("{vkey}\n"))?;
    // Last, so that a folder with a checkpoint is whole.
    std::fs::write(folder.join("checkpoint"), &bundle.checkpoint)?;
    notice(format!("{} messages written to {} as C2SP tiles", head.size, folder.display()));
    Ok(())
}

fn write(folder: &Path, files: Vec<TileFile>) -> CliResult {
    for (path, bytes) in files {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, bytes)?;
    }
    Ok(())
}
