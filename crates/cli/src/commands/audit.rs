//! `custody audit`: the log as evidence.

use super::Ctx;
use super::tail::{Filters, follow};
use crate::client::{Operator, Target};
use crate::error::{CliError, CliResult, exit};
use crate::render::{Format, line, notice, stderr_is_terminal};
use custody_contracts::envelope::split_signature;
use custody_contracts::events::{
    CheckpointEvent, DispatchEvent, KeyEvent, Kind, LauncherEvent, LedgerEvent, RunEvent, SignatureCheck,
};
use custody_contracts::messages::AuditRow;
use custody_ledger::{Entity, Log, Recorded, Seq, Stored};
use custody_projections::row::{audit_row, plain};
use custody_trust::key::{parse_public, verify_hex};
use custody_trust::verify::{Finding, KeptHead, Report, Verifier};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The audit log.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AuditCommand {
    /// List events
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  custody audit ls --since 24h --outcome refused\n  custody audit ls -o csv > events.csv"
    )]
    Ls {
        #[command(flatten)]
        filters: Filters,
    },
    /// List events and, with -f, go on
    #[command(after_help = "Examples:\n  custody audit tail -f")]
    Tail {
        #[command(flatten)]
        filters: Filters,
        /// Go on
        #[arg(short, long)]
        follow: bool,
    },
    /// Who caused it, under which authority, and what the log proves
    #[command(
        after_help = "Examples:\n  custody audit why last\n  custody audit why 42\n  custody audit why d-7f3a -o json"
    )]
    Why {
        /// Dispatch id, unique prefix, `last`, or a ledger sequence
        id: String,
    },
    /// Check sequence, signatures, roles, tree and checkpoints; live, or offline on an exported file
    #[command(
        after_help = "Without FILE the running ledger is checked, against every checkpoint that was kept outside it.\nExit code 9 and the first bad sequence when anything is wrong.\n\nExamples:\n  custody audit verify\n  custody audit verify evidence.ndjson --expect a91f…c3\n  custody audit verify evidence.ndjson --checkpoint /mnt/usb/latest"
    )]
    Verify {
        /// A file written by `custody audit export`
        file: Option<PathBuf>,
        /// Fail unless the root over everything is this one, hexadecimal
        #[arg(long, value_name = "HEAD")]
        expect: Option<String>,
        /// A checkpoint kept outside (a signed note); the log must contain what it covers
        #[arg(long, value_name = "FILE")]
        checkpoint: Vec<PathBuf>,
        /// Fail unless the log's first key has this id
        #[arg(long, value_name = "KID")]
        root_key: Option<String>,
    },
    /// Write the log into a file that `audit verify` checks without any server
    #[command(
        after_help = "Examples:\n  custody audit export --output-file evidence.ndjson\n  custody audit export > evidence.ndjson"
    )]
    Export {
        /// The file; standard output without it. Never over an existing file unless --force
        #[arg(long, value_name = "FILE", visible_alias = "to")]
        output_file: Option<PathBuf>,
        /// Write over an existing file
        #[arg(long)]
        force: bool,
    },
}

/// First line of an exported file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleHead {
    schema: String,
    origin: String,
    messages: u64,
    /// Newest checkpoint that covers a part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
    exported_at: String,
}

/// Every other line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleLine {
    seq: u64,
    subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    bytes: String,
}

/// The schema of an exported file.
const BUNDLE: &str = "audit-bundle.v1";
/// The longest line of an exported file.
const LINE_BYTES_MAX: u64 = 1 << 20;

pub(crate) async fn run(ctx: &Ctx, command: AuditCommand) -> CliResult {
    match command {
        AuditCommand::Ls { filters } => follow(ctx, filters, false).await,
        AuditCommand::Tail { filters, follow: on } => follow(ctx, filters, on).await,
        AuditCommand::Why { id } => why(ctx, &id).await,
        AuditCommand::Verify { file, expect, checkpoint, root_key } => {
            verify(ctx, file, expect, checkpoint, root_key).await
        }
        AuditCommand::Export { output_file, force } => export(ctx, output_file, force).await,
    }
}

fn unavailable(error: custody_ledger::LogError) -> CliError {
    match error {
        custody_ledger::LogError::Broken { seq, why } => {
            CliError::new(exit::INTEGRITY, "GAP", format!("first bad sequence {seq}: {why}"))
        }
        other @ custody_ledger::LogError::Unavailable(_) => {
            CliError::new(exit::UNREACHABLE, "LEDGER_UNAVAILABLE", other).hint("custody doctor")
        }
    }
}

async fn verify(
    ctx: &Ctx,
    file: Option<PathBuf>,
    expect: Option<String>,
    checkpoints: Vec<PathBuf>,
    root_key: Option<String>,
) -> CliResult {
    let mut kept = Vec::new();
    for path in &checkpoints {
        let note = std::fs::read_to_string(path)
            .map_err(|e| CliError::new(exit::USAGE, "CHECKPOINT_UNREADABLE", format!("{}: {e}", path.display())))?;
        kept.push(head_of(&note).ok_or_else(|| {
            CliError::new(
                exit::USAGE,
                "CHECKPOINT_UNREADABLE",
                format!("{} is not a checkpoint (C2SP signed note)", path.display()),
            )
        })?);
    }
    let (what, result) = match file {
        Some(path) => (path.display().to_string(), verify_file(&path, kept, root_key)?),
        None => {
            let target = ctx.target()?;
            kept.extend(kept_heads(&target));
            let pinned = root_key.or_else(|| pinned(&target));
            ("LEDGER".to_owned(), verify_live(&target, kept, pinned).await?)
        }
    };
    let result = result.and_then(|report| match &expect {
        Some(head) if !report.head.eq_ignore_ascii_case(head) => Err(Finding {
            seq: report.messages,
            code: "HEAD_MISMATCH",
            message: format!("the head is {}, not {head}", report.head),
        }),
        _ => Ok(report),
    });
    tell(ctx, &what, result)
}

fn tell(ctx: &Ctx, what: &str, result: Result<Report, Finding>) -> CliResult {
    match result {
        Ok(report) => {
            if ctx.render.format.is_some() && ctx.render.format() != Format::Table {
                return ctx.render.one(
                    "verify.v1",
                    "head",
                    &json!({ "result": "pass", "what": what, "report": report }),
                );
            }
            let keys: Vec<_> = report.keys.iter().map(|(k, n)| format!("{k} ({n})")).collect();
            line(format!("sequence     contiguous, {} messages of {what}", report.messages))?;
            line(format!("signatures   {} good: {}", report.signatures, keys.join(", ")))?;
            line(format!(
                "tree         {} checkpoints recomputed, {} messages under the newest",
                report.checkpoints, report.covered
            ))?;
            line(format!("root key     {}", report.root_key.as_deref().unwrap_or("none: the log is empty")))?;
            line(format!("{}  head {} {}", ctx.render.paint("PASS", "ok"), report.messages, report.head))
        }
        Err(finding) => {
            let text = format!("first bad sequence {}: {}", finding.seq, finding.message);
            if ctx.render.is_json() {
                ctx.render.one("verify.v1", "head", &json!({ "result": "fail", "what": what, "finding": finding }))?;
                return Err(CliError::exit_only(exit::INTEGRITY));
            }
            line(format!("{}  {what}: {} {}", ctx.render.paint("FAIL", "failed"), finding.code, plain(&text, 600)))?;
            Err(CliError::new(exit::INTEGRITY, finding.code, text).hint(
                "keep this file or state folder as it is; compare with a copy and with the checkpoints kept outside",
            ))
        }
    }
}

async fn verify_live(
    target: &Target,
    kept: Vec<KeptHead>,
    pinned: Option<String>,
) -> CliResult<Result<Report, Finding>> {
    let operator = target.operator().await?;
    let log = operator.log().await?;
    let last = log.last_seq().await.map_err(unavailable)?;
    let mut verifier = Verifier::new(&kept, pinned);
    let mut messages = log.read(Seq(1)).await.map_err(unavailable)?;
    let mut done = 0;
    while let Some(stored) = messages.next().await {
        let stored = match stored {
            Ok(stored) => stored,
            Err(custody_ledger::LogError::Broken { seq, why }) => {
                return Ok(Err(Finding { seq, code: "GAP", message: why }));
            }
            Err(other) => return Err(unavailable(other)),
        };
        if let Err(finding) = verifier.push(&stored) {
            return Ok(Err(finding));
        }
        done = stored.seq.0;
        progress(done, last.0);
    }
    if done < last.0 {
        return Ok(Err(Finding {
            seq: done + 1,
            code: "GAP",
            message: format!("the stream says {} messages and gives {done}", last.0),
        }));
    }
    Ok(verifier.finish())
}

fn verify_file(path: &Path, mut kept: Vec<KeptHead>, pinned: Option<String>) -> CliResult<Result<Report, Finding>> {
    let unreadable = |why: String| {
        CliError::new(exit::USAGE, "BUNDLE_UNREADABLE", format!("{}: {why}", path.display()))
            .hint("custody audit export writes such files")
    };
    let file = std::fs::File::open(path).map_err(|e| unreadable(e.to_string()))?;
    let mut reader = BufReader::new(file);
    let mut text = String::new();
    let mut next = |text: &mut String| -> CliResult<bool> {
        text.clear();
        let read =
            std::io::Read::take(&mut reader, LINE_BYTES_MAX).read_line(text).map_err(|e| unreadable(e.to_string()))?;
        Ok(read > 0)
    };
    if !next(&mut text)? {
        return Err(unreadable("it is empty".into()));
    }
    let head: BundleHead = serde_json::from_str(&text).map_err(|e| unreadable(format!("line 1: {e}")))?;
    if head.schema != BUNDLE {
        return Err(unreadable(format!("its schema is {:?}, not {BUNDLE}", head.schema)));
    }
    kept.extend(head.checkpoint.as_deref().and_then(head_of));
    let mut verifier = Verifier::new(&kept, pinned);
    let mut done = 0;
    while next(&mut text)? {
        let bad = |e: serde_json::Error| Finding { seq: done + 1, code: "UNREADABLE", message: e.to_string() };
        let read: BundleLine = match serde_json::from_str(&text) {
            Ok(read) => read,
            Err(error) => return Ok(Err(bad(error))),
        };
        let stored = Stored {
            seq: Seq(read.seq),
            log_subject: read.subject,
            message_id: read.message_id,
            bytes: read.bytes.into_bytes(),
        };
        if let Err(finding) = verifier.push(&stored) {
            return Ok(Err(finding));
        }
        done += 1;
        progress(done, head.messages);
    }
    if done != head.messages {
        return Ok(Err(Finding {
            seq: done + 1,
            code: "TRUNCATED",
            message: format!("the file says {} messages and holds {done}", head.messages),
        }));
    }
    Ok(verifier.finish())
}

fn progress(done: u64, all: u64) {
    if done.is_multiple_of(50_000) && stderr_is_terminal() {
        notice(format!("verified {done} of {all}"));
    }
}

/// Size and root of a note. Its signature is checked by the verifier where the same checkpoint stands in the log; a
/// head kept outside counts because it was kept outside.
fn head_of(note: &str) -> Option<KeptHead> {
    use base64::Engine;
    let mut lines = note.lines().skip(1);
    let size = lines.next()?.parse().ok()?;
    let root = base64::engine::general_purpose::STANDARD.decode(lines.next()?).ok()?;
    Some(KeptHead { size, root: root.try_into().ok()? })
}

/// Every checkpoint that the state folder kept.
fn kept_heads(target: &Target) -> Vec<KeptHead> {
    let text = std::fs::read_to_string(target.home.path("checkpoints/notes.jsonl")).unwrap_or_default();
    let notes = text.lines().rev().take(10_000).filter_map(|l| serde_json::from_str::<Value>(l).ok());
    notes.filter_map(|v| head_of(v.get("note")?.as_str()?)).collect()
}

/// The authority key of this state folder: whose log it must be.
fn pinned(target: &Target) -> Option<String> {
    if !target.home.path("keys/authority.ed25519").exists() {
        return None;
    }
    let key = target.home.role_key(custody_contracts::events::Role::Authority).ok()?;
    Some(custody_ledger::Sign::kid(&key).to_owned())
}

async fn export(ctx: &Ctx, to: Option<PathBuf>, force: bool) -> CliResult {
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
        Some(path) => {
            let mut options = std::fs::OpenOptions::new();
            options.write(true);
            if force {
                options.create(true).truncate(true)
            } else {
                options.create_new(true)
            };
            let file = options.open(path).map_err(|e| {
                CliError::new(exit::CONFLICT, "FILE_EXISTS", format!("{}: {e}", path.display()))
                    .hint("another name, or --force")
            })?;
            Box::new(BufWriter::new(file))
        }
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

/// One rung of the ladder.
#[derive(Debug, Serialize)]
struct Rung {
    what: &'static str,
    text: String,
    seq: Option<u64>,
}

async fn why(ctx: &Ctx, id: &str) -> CliResult {
    let target = ctx.target()?;
    let operator = target.operator().await?;
    let log = operator.log().await?;
    let at = id.parse::<u64>().ok();
    let (events, focus) = match at {
        Some(seq) => {
            let one = read_one(&log, Seq(seq)).await?;
            let dispatch =
                Recorded::read(&one).ok().and_then(|r| r.first().map(audit_row)).and_then(|row| row.dispatch);
            match dispatch {
                Some(dispatch) => (chain(&operator, &log, &dispatch).await?, seq),
                None => (vec![one], seq),
            }
        }
        None => {
            let events = chain(&operator, &log, id).await?;
            let last = events.last().map_or(0, |s| s.seq.0);
            (events, last)
        }
    };
    let mut recorded = Vec::new();
    for stored in &events {
        recorded.extend(Recorded::read(stored).map_err(|e| CliError::new(exit::INTEGRITY, "UNREADABLE", e))?);
    }
    let signatures = check_signatures(&log, &events).await?;
    let launcher = launcher_of(&log, &recorded).await?;
    let rungs = ladder(&recorded, focus, launcher.as_ref());
    let rows: Vec<AuditRow> = recorded.iter().map(audit_row).collect();
    let summary = operator.query("audit.summary", json!({})).await?;
    let covered = summary.pointer("/checkpoint/size").and_then(Value::as_u64).unwrap_or(0);
    let last = events.last().map_or(0, |s| s.seq.0);
    if ctx.render.format.is_some() && ctx.render.format() != Format::Table {
        return ctx.render.one("why.v1", "focus", &json!({ "focus": focus, "ladder": rungs, "events": rows, "signatures": signatures, "checkpoint_covers": covered >= last }));
    }
    for row in &rows {
        let mark = if row.seq == focus { "→" } else { " " };
        line(format!(
            "{mark} {:>6}  {}  {:<24} {:<8} {}",
            row.seq,
            row.time.get(11..23).unwrap_or_default(),
            row.event_type.trim_start_matches("custody.").trim_end_matches(".v1"),
            row.outcome,
            plain(&row.object, 120)
        ))?;
    }
    for rung in &rungs {
        line(format!("   ↑ {:<15} {}", rung.what, plain(&rung.text, 200)))?;
    }
    let cover = if covered >= last {
        format!("under the signed checkpoint over {covered} messages")
    } else {
        "the next checkpoint will cover it within a second".to_owned()
    };
    line(format!("chain verified: {} events, {signatures} signatures good, {cover}", rows.len()))
}

async fn read_one(log: &dyn Log, seq: Seq) -> CliResult<Stored> {
    let missing = || {
        CliError::new(exit::NOT_FOUND, "NOT_FOUND", format!("there is no event at sequence {seq}"))
            .hint("custody audit ls")
    };
    let mut messages = log.read(seq).await.map_err(unavailable)?;
    match messages.next().await {
        Some(Ok(stored)) if stored.seq == seq => Ok(stored),
        Some(Err(error)) => Err(unavailable(error)),
        _ => Err(missing()),
    }
}

/// Every event of a dispatch, in order.
async fn chain(operator: &Operator, log: &dyn Log, id: &str) -> CliResult<Vec<Stored>> {
    let answer = operator.query("dispatch.get", json!({ "id": id })).await?;
    let seqs: Vec<u64> = crate::client::field(&answer, "seqs")?;
    let mut out = Vec::new();
    for seq in seqs {
        out.push(read_one(log, Seq(seq)).await?);
    }
    Ok(out)
}

/// Checks every signature with the key that the ledger introduced, and that introduction with authority's.
async fn check_signatures(log: &dyn Log, events: &[Stored]) -> CliResult<u64> {
    let bad = |seq: Seq, why: &str| {
        CliError::new(exit::INTEGRITY, "NOT_AUTHENTIC", format!("first bad sequence {seq}: {why}"))
            .hint("custody audit verify")
    };
    let mut good = 0;
    for stored in events {
        let value: Value = serde_json::from_slice(&stored.bytes)?;
        let values = match value {
            Value::Array(items) => items,
            one => vec![one],
        };
        for value in values {
            let kid = value.get("keyid").and_then(Value::as_str).unwrap_or_default().to_owned();
            let entity = Entity::new(Kind::Key, &kid).ok_or_else(|| bad(stored.seq, "its key has no id"))?;
            let history = log.load(&entity).await.map_err(unavailable)?;
            let introduced =
                history.iter().flat_map(|s| Recorded::read(s).unwrap_or_default()).find_map(|r| match r.event {
                    Some(LedgerEvent::Key(KeyEvent::Introduced(e))) => Some(e),
                    _ => None,
                });
            let key = introduced
                .and_then(|e| parse_public(&e.public_key))
                .ok_or_else(|| bad(stored.seq, "its key was never introduced"))?;
            let (bytes, signature) = split_signature(value).map_err(|e| bad(stored.seq, &e.to_string()))?;
            if !verify_hex(&key, &bytes, &signature) {
                return Err(bad(stored.seq, "the signature does not match"));
            }
            good += 1;
        }
    }
    Ok(good)
}

async fn launcher_of(log: &dyn Log, recorded: &[Recorded]) -> CliResult<Option<(u64, String)>> {
    let id = recorded.iter().find_map(|r| r.envelope.launcher.clone());
    let Some(entity) = id.and_then(|id| Entity::new(Kind::Launcher, &id)) else { return Ok(None) };
    let history = log.load(&entity).await.map_err(unavailable)?;
    let registered =
        history.iter().rev().flat_map(|s| Recorded::read(s).unwrap_or_default()).find_map(|r| match r.event {
            Some(LedgerEvent::Launcher(LauncherEvent::Registered(e))) => Some((r.seq.0, e.public_key)),
            _ => None,
        });
    Ok(registered)
}

fn ladder(recorded: &[Recorded], focus: u64, launcher: Option<&(u64, String)>) -> Vec<Rung> {
    let mut rungs = Vec::new();
    let mut put = |what, text: String, seq| rungs.push(Rung { what, text, seq });
    for one in recorded.iter().rev() {
        let seq = Some(one.seq.0);
        match &one.event {
            Some(LedgerEvent::Effect(custody_contracts::events::EffectEvent::ModelCalled(e))) if one.seq.0 == focus => {
                put(
                    "let through by",
                    format!("gateway {}, model {} at {}", one.envelope.keyid, e.model, e.upstream),
                    seq,
                );
            }
            Some(LedgerEvent::Run(RunEvent::Finished(e))) => {
                let session = e
                    .session
                    .as_ref()
                    .map_or_else(|| "no session file".into(), |s| format!("session {} {}", s.id, s.digest));
                put("ended", format!("{} · {session}", e.reason.as_str()), seq);
            }
            Some(LedgerEvent::Run(RunEvent::Started(e))) => put("ran in", format!("container {}", e.container), seq),
            Some(LedgerEvent::Run(RunEvent::Claimed(e))) => {
                put("claimed by", format!("runtime {}, image {}, options {}", e.runtime, e.image, e.spec_digest), seq);
            }
            Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => {
                let scope = e
                    .unit
                    .workspaces
                    .iter()
                    .map(|w| format!("ws:{}:{}", w.id, w.mode.as_str()))
                    .collect::<Vec<_>>()
                    .join(" ");
                put(
                    "admitted",
                    format!(
                        "runner {} {}, {scope}, no grant checked (grants come with the trust stage)",
                        e.runner.name, e.runner.version
                    ),
                    seq,
                );
                let signed = match e.signature {
                    SignatureCheck::Verified => "signed by its key",
                    SignatureCheck::Absent => "not signed, which this launcher may",
                };
                let key = launcher
                    .map_or_else(|| "not registered".into(), |(at, key)| format!("key {key}, registered at {at}"));
                put(
                    "launched by",
                    format!(
                        "{} ({key}), message {} {signed}",
                        e.launch.launcher,
                        e.launch.event_id.as_deref().unwrap_or("without id")
                    ),
                    Some(e.launch.stream_seq),
                );
                put("on behalf of", format!("{} ({})", e.unit.identity.subject, e.unit.identity.launcher), None);
            }
            Some(LedgerEvent::Dispatch(DispatchEvent::Refused(e))) => {
                put("refused", format!("{}: {} · next: {}", e.reason, e.detail, e.hint), seq);
                put(
                    "asked by",
                    format!("launcher {}, message {}", e.launch.launcher, e.launch.digest),
                    Some(e.launch.stream_seq),
                );
            }
            Some(LedgerEvent::Dispatch(DispatchEvent::StopRequested(e))) => put("stop asked by", e.by.clone(), seq),
            _ => {}
        }
    }
    rungs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_head_is_read_from_its_note() {
        let root = [7u8; 32];
        let key = custody_trust::RoleKey::from_seed(custody_contracts::events::Role::Authority, &[1; 32]);
        let head = head_of(&custody_trust::note::sign(&key, "o/l", 12, &root)).unwrap();
        assert_eq!((head.size, head.root), (12, root));
        assert!(head_of("nonsense").is_none());
    }
}
