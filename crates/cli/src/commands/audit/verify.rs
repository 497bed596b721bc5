//! `custody audit verify`: the whole log, an exported file, or a proof bundle. Must never call a log good that was not
//! read whole, nor a bundle good for more than it holds.

use super::export::{BUNDLE, BundleHead, BundleLine, LINE_BYTES_MAX};
use super::{Ctx, unavailable};
use crate::client::Target;
use crate::error::{CliError, CliResult, exit};
use crate::render::{Format, line, notice, stderr_is_terminal};
use custody_engine::verifying::InGroups;
use custody_ledger::{Log, Seq, Stored};
use custody_projections::row::plain;
use custody_trust::cosign::WitnessKey;
use custody_trust::note;
use custody_trust::proof::{BUNDLE_BYTES_MAX, Bundle, Demands, Proved};
use custody_trust::verify::{Finding, KeptHead, Report, Verifier};
use futures::StreamExt;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// What the command line asked for.
pub(super) struct Asked {
    pub(super) file: Option<PathBuf>,
    pub(super) expect: Option<String>,
    pub(super) checkpoint: Vec<PathBuf>,
    pub(super) root_key: Option<String>,
    pub(super) witness: Vec<String>,
}

pub(super) async fn verify(ctx: &Ctx, asked: Asked) -> CliResult {
    let Asked { file, expect, checkpoint: checkpoints, root_key, witness } = asked;
    let witnesses = witness.iter().map(|text| {
        WitnessKey::parse(text).ok_or_else(|| {
            CliError::new(exit::USAGE, "WITNESS_KEY", format!("{:?} is no cosigner's key (C2SP)", plain(text, 120)))
        })
    });
    let witnesses = witnesses.collect::<CliResult<Vec<_>>>()?;
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
    if let Some(path) = &file
        && let Some(bundle) = bundle_of(path)?
    {
        let demands = Demands { root_key, kept, witnesses };
        let result = custody_trust::proof::verify(&bundle, &demands).and_then(|proved| match &expect {
            Some(head) if !proved.head.eq_ignore_ascii_case(head) => Err(Finding {
                seq: 0,
                code: "HEAD_MISMATCH",
                message: format!("the head is {}, not {head}", proved.head),
            }),
            _ => Ok(proved),
        });
        return tell_bundle(ctx, &path.display().to_string(), &demands, result);
    }
    if !witnesses.is_empty() {
        let why = "--witness is for proof bundles: cosignatures stand on a bundle's checkpoint";
        return Err(CliError::new(exit::USAGE, "WITNESS_OF_A_LOG", why));
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
        Err(finding) => fail(ctx, what, &finding),
    }
}

fn fail(ctx: &Ctx, what: &str, finding: &Finding) -> CliResult {
    let text = match finding.seq {
        0 => finding.message.clone(),
        seq => format!("first bad sequence {seq}: {}", finding.message),
    };
    if ctx.render.is_json() {
        ctx.render.one("verify.v1", "head", &json!({ "result": "fail", "what": what, "finding": finding }))?;
        return Err(CliError::exit_only(exit::INTEGRITY));
    }
    line(format!("{}  {what}: {} {}", ctx.render.paint("FAIL", "failed"), finding.code, plain(&text, 600)))?;
    Err(CliError::new(exit::INTEGRITY, finding.code, text)
        .hint("keep this file or state folder as it is; compare with a copy and with the checkpoints kept outside"))
}

/// The proof bundle in a file; `None` when its first line is the one of an exported log.
fn bundle_of(path: &Path) -> CliResult<Option<Bundle>> {
    let unreadable = |why: String| {
        CliError::new(exit::USAGE, "BUNDLE_UNREADABLE", format!("{}: {why}", path.display()))
            .hint("custody audit export and custody audit prove write files that can be verified")
    };
    let file = std::fs::File::open(path).map_err(|e| unreadable(e.to_string()))?;
    let mut reader = BufReader::new(file);
    let mut text = String::new();
    // Where the first line is no text, the exported log's reader says so.
    let first = Read::take(&mut reader, LINE_BYTES_MAX).read_line(&mut text);
    if first.is_err() || serde_json::from_str::<BundleHead>(&text).is_ok() {
        return Ok(None);
    }
    let mut bytes = text.into_bytes();
    let room = (BUNDLE_BYTES_MAX + 1).saturating_sub(bytes.len());
    Read::take(&mut reader, room as u64).read_to_end(&mut bytes).map_err(|e| unreadable(e.to_string()))?;
    Bundle::read(&bytes).map(Some).map_err(|e| unreadable(e.to_string()))
}

fn tell_bundle(ctx: &Ctx, what: &str, demands: &Demands, result: Result<Proved, Finding>) -> CliResult {
    let proved = match result {
        Ok(proved) => proved,
        Err(finding) => return fail(ctx, what, &finding),
    };
    if ctx.render.format.is_some() && ctx.render.format() != Format::Table {
        let pinned = demands.root_key.is_some();
        return ctx.render.one(
            "verify.v1",
            "head",
            &json!({ "result": "pass", "what": what, "root_key_pinned": pinned, "proved": proved }),
        );
    }
    let kind = proved.event_type.trim_start_matches("custody.").trim_end_matches(".v1");
    let of = proved.dispatch.as_ref().map_or_else(String::new, |d| format!(" of {d}"));
    line(format!("event        {} {}{}", proved.focus, plain(kind, 80), plain(&of, 100)))?;
    if let (Some(subject), Some(launcher)) = (&proved.subject, &proved.launcher) {
        let signed =
            if proved.launch_signed { "signed by the launcher's own key" } else { "its own signature not shown" };
        let grant = proved.grant.as_ref().map_or_else(|| "no grant".to_owned(), |g| format!("grant {g}"));
        let text = format!("{subject}, launched by {launcher} ({signed}), {grant}");
        line(format!("on behalf of {}", plain(&text, 300)))?;
    }
    let keys: Vec<_> = proved.keys.iter().map(|(k, n)| format!("{k} ({n})")).collect();
    line(format!("signatures   {} good: {}", proved.signatures, keys.join(", ")))?;
    line(format!("tree         {} events proved under the signed head over {} messages", proved.entries, proved.size))?;
    let kept = match (proved.kept_outside, proved.since) {
        (true, Some(since)) => {
            format!("the tree goes on from the checkpoint over {since} messages, which was kept outside")
        }
        (true, None) => "its head is the checkpoint that was kept outside".to_owned(),
        (false, _) => "no checkpoint of yours was compared (--checkpoint FILE)".to_owned(),
    };
    line(format!("kept         {kept}"))?;
    if !proved.witnesses.is_empty() {
        line(format!("cosigned     witnessed by {}", proved.witnesses.join(", ")))?;
    }
    let pinned =
        if demands.root_key.is_some() { "as demanded" } else { "not compared with one of yours (--root-key KID)" };
    line(format!("root key     {}, {pinned}", proved.root_key))?;
    line(format!("{}  head {} {}", ctx.render.paint("PASS", "ok"), proved.size, proved.head))
}

async fn verify_live(
    target: &Target,
    kept: Vec<KeptHead>,
    pinned: Option<String>,
) -> CliResult<Result<Report, Finding>> {
    let operator = target.operator().await?;
    let log = operator.log().await?;
    let last = log.last_seq().await.map_err(unavailable)?;
    let mut verifier = InGroups::new(Verifier::new(&kept, pinned));
    let mut messages = log.read(Seq(1)).await.map_err(unavailable)?;
    let mut done = 0;
    while let Some(stored) = messages.next().await {
        let stored = match stored {
            Ok(stored) => stored,
            Err(custody_ledger::LogError::Broken { seq, why }) => {
                let gap = Finding { seq, code: "GAP", message: why };
                return Ok(Err(verifier.end().err().unwrap_or(gap)));
            }
            Err(other) => return Err(unavailable(other)),
        };
        done = stored.seq.0;
        if let Err(finding) = verifier.push(stored) {
            return Ok(Err(finding));
        }
        progress(done, last.0);
    }
    let verifier = match verifier.end() {
        Ok(verifier) => verifier,
        Err(finding) => return Ok(Err(finding)),
    };
    if done < last.0 {
        return Ok(Err(Finding {
            seq: done + 1,
            code: "GAP",
            message: format!("the stream says {} messages and gives {done}", last.0),
        }));
    }
    Ok(verifier.finish())
}

/// Verifies an exported log.
pub(crate) fn verify_file(
    path: &Path,
    mut kept: Vec<KeptHead>,
    pinned: Option<String>,
) -> CliResult<Result<Report, Finding>> {
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
    let mut verifier = InGroups::new(Verifier::new(&kept, pinned));
    let mut done = 0;
    while next(&mut text)? {
        let bad = |e: serde_json::Error| Finding { seq: done + 1, code: "UNREADABLE", message: e.to_string() };
        let read: BundleLine = match serde_json::from_str(&text) {
            Ok(read) => read,
            Err(error) => {
                let unreadable = bad(error);
                return Ok(Err(verifier.end().err().unwrap_or(unreadable)));
            }
        };
        let stored = Stored {
            seq: Seq(read.seq),
            log_subject: read.subject,
            message_id: read.message_id,
            bytes: read.bytes.into_bytes(),
        };
        if let Err(finding) = verifier.push(stored) {
            return Ok(Err(finding));
        }
        done += 1;
        progress(done, head.messages);
    }
    let verifier = match verifier.end() {
        Ok(verifier) => verifier,
        Err(finding) => return Ok(Err(finding)),
    };
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
fn head_of(text: &str) -> Option<KeptHead> {
    note::read(text).ok().map(|head| KeptHead { size: head.size, root: head.root })
}

/// Every checkpoint that the state folder kept.
pub(crate) fn kept_heads(target: &Target) -> Vec<KeptHead> {
    let text = std::fs::read_to_string(target.home.path("checkpoints/notes.jsonl")).unwrap_or_default();
    let notes = text.lines().rev().take(10_000).filter_map(|l| serde_json::from_str::<Value>(l).ok());
    notes.filter_map(|v| head_of(v.get("note")?.as_str()?)).collect()
}

/// The authority key of this state folder: whose log it must be.
pub(crate) fn pinned(target: &Target) -> Option<String> {
    if !target.home.path("keys/authority.ed25519").exists() {
        return None;
    }
    let key = target.home.role_key(custody_contracts::events::Role::Authority).ok()?;
    Some(custody_ledger::Sign::kid(&key).to_owned())
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
