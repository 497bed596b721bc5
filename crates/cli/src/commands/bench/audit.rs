//! Verifying a whole log beside reading and hashing it. Both read the same file in the same run; the difference is what
//! signatures, canonical form, roles and checkpoints cost.

use super::drive::{Measured, Pair, TRIES_MAX};
use super::events::{Maker, PER_DISPATCH};
use super::{Place, Target, failed, row, show};
use crate::commands::Ctx;
use crate::commands::audit::{BUNDLE, BundleHead, BundleLine, verify_file};
use crate::error::{CliError, CliResult, exit};
use crate::render::notice;
use custody_contracts::events::{CheckpointEvent, CheckpointSigned, KeyEvent, KeyIntroduced, Kind, LedgerEvent, Role};
use custody_ledger::Sign;
use custody_ledger::merkle::{Frontier, leaf};
use custody_trust::{RoleKey, note};
use serde_json::json;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use tokio::time::Instant;

/// The log's name.
const ORIGIN: &str = "custody.bench/ledger";
/// Messages between two checkpoints, as the notary signs them.
const CHECKPOINT_EVERY: u64 = 256;

/// What `bench audit` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct AuditArgs {
    /// Messages of the log
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10..=20_000_000))]
    events: u64,
    /// Where the file is made [default: the temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) async fn run(ctx: &Ctx, args: AuditArgs) -> CliResult {
    if cfg!(debug_assertions) {
        notice("this is a debug build: cargo run --release -p custody-cli -- bench audit");
    }
    let place = Place::make(args.dir)?;
    let file = place.folder.join("log.ndjson");
    let measuring = tokio::task::spawn_blocking(move || measure(&file, args.events));
    let result = measuring.await.map_err(failed);
    place.clear().await;
    let (messages, pair) = result??;
    let what = format!("verify of {messages} messages");
    let rows = [row(&what, "messages/s", pair.ours.rate(), pair.bare_rate(), Target::None, Some(&pair))];
    let what = json!({ "messages": messages, "seconds": pair.ours.elapsed.as_secs_f64() });
    show(&ctx.render, &what, &rows)
}

fn measure(file: &Path, events: u64) -> CliResult<(u64, Pair)> {
    let messages = write(file, events)?;
    let mut tries = 1;
    loop {
        notice(format!("{messages} messages: read and hash, verify, read and hash"));
        let before = bare(file)?;
        let ours = ours(file, messages)?;
        let pair = Pair { before, ours, after: bare(file)? };
        if !pair.void() || tries >= TRIES_MAX {
            return Ok((messages, pair));
        }
        tries += 1;
    }
}

/// Reads every line and puts its hash into the tree.
fn bare(file: &Path) -> CliResult<Measured> {
    let started = Instant::now();
    let mut reader = BufReader::new(File::open(file)?);
    let (mut line, mut tree) = (String::new(), Frontier::default());
    while reader.read_line(&mut line)? > 0 {
        tree.push(leaf(line.as_bytes()));
        line.clear();
    }
    std::hint::black_box(tree.root());
    Ok(Measured::bulk(tree.size().saturating_sub(1), started.elapsed()))
}

fn ours(file: &Path, messages: u64) -> CliResult<Measured> {
    let started = Instant::now();
    let report = verify_file(file, Vec::new(), None)?;
    let report = report.map_err(|f| failed(format!("sequence {}: {}: {}", f.seq, f.code, f.message)))?;
    if report.messages != messages {
        return Err(CliError::new(exit::FAILED, "BENCH", format!("{} of {messages} were verified", report.messages)));
    }
    Ok(Measured::bulk(report.messages, started.elapsed()))
}

/// A signed log as an installation writes it, in the form of `audit export`. Returns how many messages it has.
fn write(file: &Path, events: u64) -> CliResult<u64> {
    let key = |role| RoleKey::from_seed(role, &[7; 32]);
    let roles = [Role::Authority, Role::Runtime, Role::Gateway];
    let maker = Maker::signing(roles.map(key))?;
    let authority = key(Role::Authority);
    let dispatches = events.div_ceil(PER_DISPATCH);
    let plain = roles.len() as u64 + 1 + dispatches * PER_DISPATCH;
    // Each checkpoint is a message too, and covers those before it.
    let messages = plain + plain / (CHECKPOINT_EVERY - 1);
    let mut out = Lines { out: BufWriter::new(File::create(file)?), tree: Frontier::default() };
    let head = BundleHead {
        schema: BUNDLE.into(),
        origin: ORIGIN.into(),
        messages,
        checkpoint: None,
        exported_at: "2026-11-22T00:00:00.000Z".into(),
    };
    writeln!(out.out, "{}", serde_json::to_string(&head)?)?;
    let introduced = roles.iter().map(|role| {
        let key = key(*role);
        let event = LedgerEvent::Key(KeyEvent::Introduced(KeyIntroduced {
            kid: key.kid().to_owned(),
            role: *role,
            public_key: key.public_hex(),
            instance: "i-bench".into(),
        }));
        Ok(vec![maker.message(Kind::Key, key.kid(), &event, "keys", 0)?])
    });
    let opening = std::iter::once_with(|| Ok(vec![maker.opening()?]));
    let all = introduced.chain(opening).chain((0..dispatches).map(|n| maker.dispatch(n)));
    for some in all {
        for message in some? {
            out.put(message.subject, message.bytes)?;
            if out.tree.size() % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1 {
                let (size, root) = (out.tree.size(), out.tree.root());
                let note = note::sign(&authority, ORIGIN, size, &root);
                let root = note.lines().nth(2).unwrap_or_default().to_owned();
                let signed = CheckpointSigned { origin: ORIGIN.into(), size, root, note };
                let event = LedgerEvent::Checkpoint(CheckpointEvent::Signed(signed));
                let message = maker.message(Kind::Checkpoint, "log", &event, "checkpoint", size)?;
                out.put(message.subject, message.bytes)?;
            }
        }
    }
    out.out.flush()?;
    if out.tree.size() == messages {
        Ok(messages)
    } else {
        Err(failed("the log has another length than its head says"))
    }
}

struct Lines {
    out: BufWriter<File>,
    tree: Frontier,
}

impl Lines {
    fn put(&mut self, subject: String, bytes: Vec<u8>) -> CliResult {
        self.tree.push(leaf(&bytes));
        let bytes = String::from_utf8(bytes).map_err(failed)?;
        let line = BundleLine { seq: self.tree.size(), subject, message_id: None, bytes };
        writeln!(self.out, "{}", serde_json::to_string(&line)?)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_that_is_measured_is_one_that_verifies_and_a_changed_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        let (messages, pair) = measure(&file, 1_000).unwrap();
        assert_eq!((messages, pair.ours.done, pair.before.done), (1_007, 1_007, 1_007));
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replacen("web-chat", "web-cham", 1)).unwrap();
        assert!(ours(&file, messages).is_err());
    }
}
