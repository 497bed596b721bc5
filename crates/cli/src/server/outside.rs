//! Where checkpoints go: the state folder at once, and everywhere else by tasks that hold nobody up. Must never answer
//! for a place: how each stands is written down for `status` and `doctor`.

use crate::client::Target;
use crate::error::{CliError, CliResult, exit};
use crate::home::Home;
use custody_contracts::events::CheckpointSigned;
use custody_engine::authority::notary::CopyOutside;
use custody_engine::authority::outside::{Board, Copies, Standing, Watched, feed};
use custody_ledger::Log;
use custody_outside::{FileCopy, GitCopy, HttpWitness, SyslogCopy};
use custody_ports::clock::Clock;
use custody_ports::outside::Outside;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How every place stands, as the authority wrote it last.
const STANDINGS: &str = "checkpoints/outside.json";
/// Notes with cosignatures, the newest last.
const WITNESSED: &str = "checkpoints/witnessed.jsonl";
/// The newest note with cosignatures.
const WITNESSED_LATEST: &str = "checkpoints/witnessed";

/// Starts what takes checkpoints elsewhere; gives what the notary calls, and the tasks that end after it.
pub(crate) fn copies(
    target: &Target,
    log: &Arc<dyn Log>,
    clock: &Arc<dyn Clock>,
    cancel: &CancellationToken,
) -> CliResult<(CopyOutside, Vec<JoinHandle<()>>)> {
    let (home, audit) = (target.home.clone(), &target.config.audit);
    let bad = |why: String| CliError::new(exit::USAGE, "AUDIT_PLACE", why);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut places: Vec<Arc<dyn Outside>> = Vec::new();
    for path in &audit.copies {
        places.push(Arc::new(FileCopy::new(path)));
    }
    for address in audit.syslogs().map_err(bad)? {
        places.push(Arc::new(SyslogCopy::new(address, host.trim(), clock.clone())));
    }
    for place in audit.repositories() {
        places.push(Arc::new(GitCopy::new(place, clock.clone())));
    }
    let standings = home.path(STANDINGS);
    let tell = move |all: &[Standing]| {
        if let Err(error) = replace(&standings, &serde_json::to_vec(all).unwrap_or_default()) {
            tracing::error!(%error, "how checkpoints leave could not be written down");
        }
    };
    let board = Board::new(clock.clone(), Arc::new(tell));
    let (newest, reader) = watch::channel(None);
    for (url, key, every) in audit.watched() {
        let peer = HttpWitness::new(&url).map_err(bad)?;
        let kept = home.clone();
        let keep = move |size: u64, note: &str| keep_witnessed(&kept, size, note);
        let watched = Watched { key, peer: Arc::new(peer), every, keep: Arc::new(keep) };
        tokio::spawn(feed(log.clone(), watched, reader.clone(), board.clone(), cancel.clone()));
    }
    let (copies, tasks) = Copies::start(places, board, cancel);
    let copy = move |signed: &CheckpointSigned| {
        let own = append_line(&home.path("checkpoints/notes.jsonl"), signed)
            .and_then(|()| replace(&home.path("checkpoints/latest"), signed.note.as_bytes()));
        if let Err(error) = own {
            tracing::error!(%error, "checkpoint not written into the state folder");
        }
        copies.give(signed);
        newest.send_replace(Some(signed.clone()));
    };
    Ok((Arc::new(copy), tasks))
}

/// A note with a cosignature. Two witnesses that cosign the same checkpoint make one note with both lines.
fn keep_witnessed(home: &Home, size: u64, note: &str) {
    let latest = home.path(WITNESSED_LATEST);
    let before = std::fs::read_to_string(&latest).unwrap_or_default();
    let mut text = note.to_owned();
    if before.split_once("\n\n").map(|b| b.0) == note.split_once("\n\n").map(|n| n.0) {
        let more = before.lines().filter(|line| line.starts_with('\u{2014}') && !note.contains(*line));
        for line in more {
            text.push_str(line);
            text.push('\n');
        }
    }
    let line = serde_json::json!({ "size": size, "note": note }).to_string();
    let kept = append(&home.path(WITNESSED), &line).and_then(|()| replace(&latest, text.as_bytes()));
    if let Err(error) = kept {
        tracing::error!(%error, "a witness's cosignature was not written into the state folder");
    }
}

/// How every place stands; empty when nothing was written yet.
pub(crate) fn standings(home: &Home) -> Vec<Standing> {
    let text = std::fs::read(home.path(STANDINGS)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// The newest note that a witness cosigned.
pub(crate) fn witnessed(home: &Home) -> Option<String> {
    std::fs::read_to_string(home.path(WITNESSED_LATEST)).ok()
}

fn append_line(file: &Path, signed: &CheckpointSigned) -> std::io::Result<()> {
    append(file, &serde_json::to_string(signed)?)
}

fn append(file: &Path, line: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
    file.write_all(line.as_bytes())?;
    file.write_all(b"\n")
}

/// Nobody reads half a file.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(beside, path)
}
