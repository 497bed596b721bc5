//! `custody audit export`: the log in a file that `audit verify` checks without any server. Must never write over a file
//! that is there.

use super::{Ctx, unavailable};
use crate::error::{CliError, CliResult, exit};
use crate::render::notice;
use custody_contracts::events::{CheckpointEvent, LedgerEvent};
use custody_ledger::{Log, Recorded, Seq};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// First line of an exported file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BundleHead {
    pub(crate) schema: String,
    pub(crate) origin: String,
    pub(crate) messages: u64,
    /// Newest checkpoint that covers a part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<String>,
    pub(crate) exported_at: String,
}

/// Every other line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BundleLine {
    pub(crate) seq: u64,
    pub(crate) subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message_id: Option<String>,
    pub(crate) bytes: String,
}

/// The schema of an exported file.
pub(crate) const BUNDLE: &str = "audit-bundle.v1";
/// The longest line of an exported file.
pub(super) const LINE_BYTES_MAX: u64 = 1 << 20;

pub(super) async fn export(ctx: &Ctx, to: Option<PathBuf>, force: bool) -> CliResult {
    let target = ctx.target()?;
    let operator = target.operator().await?;
    let log = operator.log().await?;
    let last = log.last_seq().await.map_err(unavailable)?;
    let checkpoint = newest_checkpoint(&log, last).await?;
    let head = BundleHead {
        schema: BUNDLE.into(),
        origin: target.config.audit.origin.clone(),
        messages: last.0,
        checkpoint,
        exported_at: custody_contracts::ids::UnixMillis(crate::server::clock::now_ms()).rfc3339(),
    };
    let mut out: Box<dyn Write + Send> = match &to {
        None => Box::new(BufWriter::new(std::io::stdout())),
        Some(path) => Box::new(BufWriter::new(create(path, force)?)),
    };
    writeln!(out, "{}", serde_json::to_string(&head)?)?;
    let mut messages = log.read(Seq(1)).await.map_err(unavailable)?;
    let mut written = 0;
    while let Some(stored) = messages.next().await {
        let stored = stored.map_err(unavailable)?;
        if stored.seq > last {
            break;
        }
        let bytes = String::from_utf8(stored.bytes).map_err(|_| {
            CliError::new(exit::INTEGRITY, "UNREADABLE", format!("sequence {} is not text", stored.seq))
        })?;
        let one = BundleLine { seq: stored.seq.0, subject: stored.log_subject, message_id: stored.message_id, bytes };
        writeln!(out, "{}", serde_json::to_string(&one)?)?;
        written += 1;
    }
    out.flush()?;
    if written != last.0 {
        return Err(CliError::new(
            exit::INTEGRITY,
            "GAP",
            format!("first bad sequence {}: the stream says {last} messages", written + 1),
        ));
    }
    if let Some(path) = to {
        notice(format!("{written} messages written to {}", path.display()));
    }
    Ok(())
}

/// A new file; over one that is there only when that was asked for.
pub(super) fn create(path: &Path, force: bool) -> CliResult<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    options.open(path).map_err(|e| {
        CliError::new(exit::CONFLICT, "FILE_EXISTS", format!("{}: {e}", path.display()))
            .hint("another name, or --force")
    })
}

/// The newest checkpoint of the log. One is signed at least every 256 messages, so it is near the end.
async fn newest_checkpoint(log: &dyn Log, last: Seq) -> CliResult<Option<String>> {
    let mut messages = log.read(Seq(last.0.saturating_sub(2_000) + 1)).await.map_err(unavailable)?;
    let mut newest = None;
    while let Some(stored) = messages.next().await {
        let stored = stored.map_err(unavailable)?;
        if stored.seq > last {
            break;
        }
        for one in Recorded::read(&stored).unwrap_or_default() {
            if let Some(LedgerEvent::Checkpoint(CheckpointEvent::Signed(signed))) = one.event {
                newest = Some(signed.note);
            }
        }
    }
    Ok(newest)
}
