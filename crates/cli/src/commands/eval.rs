//! `custody eval`: replay evals, a thin shell over `custody-evals`. Must never judge anything itself.

use super::Ctx;
use crate::client::Operator;
use crate::error::{CliError, CliResult, exit};
use crate::render::{Format, col, line, notice, parse_rfc3339, raw, unsupported, wide};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody_contracts::events::{DispatchEvent, LedgerEvent};
use custody_contracts::ids::UnixMillis;
use custody_evals::{BlessOptions, LaunchLine, RecordError, Recording, RunOptions, Verdict, report};
use custody_ledger::{Log, Recorded, Seq, Stored};
use custody_streams::spec::LAUNCH;
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most ledger messages that a recording may need.
const MESSAGES_MAX: usize = 1_000_000;
/// How long a recording waits for the checkpoint that covers its dispatch.
const CHECKPOINT_WAIT: Duration = Duration::from_secs(5);

/// Replay evals: ls, record, run.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum EvalCommand {
    /// Every eval and its claim
    #[command(visible_alias = "list", after_help = "Examples:\n  custody eval ls\n  custody eval ls -o wide")]
    Ls {
        /// Folder that holds scenarios/ [default: evals, here or in a folder above]
        #[arg(long, value_name = "DIR", env = "CUSTODY_EVALS")]
        evals: Option<PathBuf>,
    },
    /// Replay recorded logs and judge their claims; every mutated log must be found
    #[command(
        after_help = "Needs no server, no network and no model.\n\nExamples:\n  custody eval run\n  custody eval run 1-second-turn-resumes --no-baseline\n  custody eval run --junit evals.xml --summary evals.json --markdown evals.md\n  custody eval run 1-mine --bless\n\nExit codes: 0 clean, 1 a gate failed, 2 an eval is invalid, 3 the baseline differs."
    )]
    Run {
        /// Ids, tags, or beginnings of ids [default: all]
        names: Vec<String>,
        /// Do not compare with baseline.json
        #[arg(long)]
        no_baseline: bool,
        /// Write JUnit XML
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
        /// Write the summary as JSON
        #[arg(long, value_name = "FILE")]
        summary: Option<PathBuf>,
        /// Write a table in Markdown
        #[arg(long, value_name = "FILE")]
        markdown: Option<PathBuf>,
        /// First make goldens and baseline what they come out as now, and say what was blessed; never on a CI machine
        #[arg(long)]
        bless: bool,
        /// With --bless: also what was refused and is allowed now; needs two reviewers
        #[arg(long, requires = "bless")]
        refusals_to_allowed: bool,
        /// Folder that holds scenarios/ [default: evals, here or in a folder above]
        #[arg(long, value_name = "DIR", env = "CUSTODY_EVALS")]
        evals: Option<PathBuf>,
    },
    /// Capture a dispatch of the running installation as a new eval, and judge it at once
    #[command(
        after_help = "Nothing is redacted, because a redacted log does not verify: name what must not leave with --must-not-contain.\n\nExamples:\n  custody eval record --dispatch d-7f3a --claim 'A second turn resumes' evals/scenarios/1-second-turn\n  custody eval record --dispatch last --claim '…' --promise P3 --must-not-contain acme evals/scenarios/1-mine"
    )]
    Record {
        /// The dispatch: its id, a unique prefix of it, or `last`
        #[arg(long)]
        dispatch: String,
        /// What the log shows, in a sentence
        #[arg(long)]
        claim: String,
        /// A promise that it proves; may be given several times
        #[arg(long = "promise", value_name = "ID")]
        promises: Vec<String>,
        /// A word to choose it by; may be given several times
        #[arg(long = "tag", value_name = "WORD")]
        tags: Vec<String>,
        /// A text that must stand nowhere in the log; may be given several times
        #[arg(long = "must-not-contain", value_name = "TEXT")]
        canaries: Vec<String>,
        /// The eval's new folder, <stage>-<claim> in the folder of the scenarios
        dir: PathBuf,
    },
}

pub(crate) async fn run(ctx: &Ctx, command: EvalCommand) -> CliResult {
    match command {
        EvalCommand::Ls { evals } => ls(ctx, &root(evals)?),
        EvalCommand::Run { names, no_baseline, junit, summary, markdown, bless, refusals_to_allowed, evals } => {
            let root = root(evals)?;
            if bless {
                let options = BlessOptions { only: names.clone(), refusals_to_allowed, ci: custody_evals::in_ci() };
                for blessed in custody_evals::bless(&root, &options).map_err(failed)? {
                    notice(format!("blessed {}: {}", blessed.path, blessed.what));
                }
            }
            let suite =
                custody_evals::run(&root, &RunOptions { only: names, baseline: !no_baseline }).map_err(failed)?;
            let files =
                [(junit, report::junit(&suite)), (summary, report::json(&suite)), (markdown, report::markdown(&suite))];
            for (path, text) in files {
                if let Some(path) = path {
                    std::fs::write(path, text)?;
                }
            }
            match ctx.render.format() {
                Format::Json | Format::Jsonl => line(report::json(&suite).trim_end())?,
                Format::Table | Format::Wide | Format::Detailed => raw(report::text(&suite).as_bytes())?,
                other @ (Format::Csv | Format::Name | Format::Template(_)) => return Err(unsupported(&other)),
            }
            match suite.exit_code() {
                0 => Ok(()),
                code => Err(CliError::exit_only(code)),
            }
        }
        EvalCommand::Record { dispatch, claim, promises, tags, canaries, dir } => {
            let (name, scenarios) = place(&dir)?;
            let ci = custody_evals::in_ci();
            let recording = Recording { dispatch, name, claim, promises, tags, canaries, scenarios, ci };
            record(ctx, recording).await
        }
    }
}

/// All errors of the evals crate: wrong input, for people to put right.
fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::new(exit::USAGE, "EVAL", error).hint("evals/README.md explains scenarios")
}

/// The folder of the evals: named, or found here or above.
fn root(named: Option<PathBuf>) -> CliResult<PathBuf> {
    if let Some(named) = named {
        return Ok(named);
    }
    let here = std::env::current_dir()?;
    let found = here.ancestors().map(|folder| folder.join("evals")).find(|evals| evals.join("scenarios").is_dir());
    found.ok_or_else(|| {
        CliError::new(
            exit::NOT_FOUND,
            "NO_EVALS",
            format!("no folder evals with scenarios in {} or above", here.display()),
        )
        .hint("name it: custody eval ls --evals DIR")
    })
}

/// Name and parent of a new scenario's folder.
fn place(dir: &Path) -> CliResult<(String, PathBuf)> {
    let name = dir.file_name().and_then(|n| n.to_str());
    let name = name.ok_or_else(|| failed(format!("{} is not the name of a new folder", dir.display())))?;
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    Ok((name.to_owned(), parent.to_owned()))
}

fn ls(ctx: &Ctx, root: &Path) -> CliResult {
    let listed = custody_evals::list(root).map_err(failed)?;
    let rows = listed.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    let columns = [
        col("EVAL", "id"),
        col("MUTANTS", "mutants"),
        col("CLAIM", "claim"),
        wide("MODES", "modes"),
        wide("SOURCE", "source"),
        wide("PROMISES", "promises"),
        wide("TAGS", "tags"),
        wide("PROBLEM", "problem"),
    ];
    for one in listed.iter().filter(|l| l.problem.is_some()) {
        notice(format!("{} cannot be read: {}", one.id, one.problem.as_deref().unwrap_or_default()));
    }
    ctx.render.list("eval.v1", "id", &columns, &rows)
}

async fn record(ctx: &Ctx, mut recording: Recording) -> CliResult {
    let operator = ctx.target()?.operator().await?;
    let answer = operator.query("dispatch.get", json!({ "id": recording.dispatch })).await?;
    let id = answer.pointer("/row/dispatch").and_then(Value::as_str).unwrap_or_default();
    recording.dispatch = id.to_owned();
    let until = tokio::time::Instant::now() + CHECKPOINT_WAIT;
    let recorded = loop {
        let messages = ledger(&operator).await?;
        let launches = launches(&operator, &messages).await?;
        match custody_evals::record(messages, launches, &recording) {
            // A dispatch that has just ended is covered by the next checkpoint.
            Err(RecordError::NotCovered(_)) if tokio::time::Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            done => break done.map_err(failed)?,
        }
    };
    operator.connection.close().await;
    notice(format!("wrote {}", recorded.folder.display()));
    raw(report::one(&recorded.report).as_bytes())?;
    match recorded.report.verdict {
        Verdict::Pass => Ok(()),
        Verdict::Fail | Verdict::Invalid => Err(CliError::exit_only(exit::ENDED_FAILED)),
    }
}

async fn ledger(operator: &Operator) -> CliResult<Vec<Stored>> {
    let broken =
        |e: custody_ledger::LogError| CliError::new(exit::UNREACHABLE, "LEDGER_UNAVAILABLE", e).hint("custody doctor");
    let log = operator.log().await?;
    let mut reader = log.read(Seq(1)).await.map_err(broken)?;
    let mut out = Vec::new();
    while let Some(stored) = reader.next().await {
        if out.len() >= MESSAGES_MAX {
            let what = format!("the ledger has more than {MESSAGES_MAX} messages");
            return Err(CliError::new(exit::REFUSED, "LEDGER_TOO_LONG", what).hint("record on a small installation"));
        }
        out.push(stored.map_err(broken)?);
    }
    Ok(out)
}

/// The launches that these decisions answered, as far as they are still stored.
async fn launches(operator: &Operator, messages: &[Stored]) -> CliResult<Vec<LaunchLine>> {
    let mut out = Vec::new();
    for seq in answered(messages) {
        out.extend(launch(operator, seq).await?);
    }
    Ok(out)
}

/// Sequences in LAUNCH that decisions name.
fn answered(messages: &[Stored]) -> BTreeSet<u64> {
    let decisions = messages.iter().filter(|m| m.log_subject.starts_with("ledger.dispatch."));
    let events = decisions.flat_map(|m| Recorded::read(m).unwrap_or_default());
    let seqs = events.filter_map(|recorded| match recorded.event? {
        LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => Some(e.launch.stream_seq),
        LedgerEvent::Dispatch(DispatchEvent::Refused(e)) => Some(e.launch.stream_seq),
        _ => None,
    });
    seqs.collect()
}

/// One message of LAUNCH, from the leader; `None` when it has aged out. Source: NATS JetStream API, `STREAM.MSG.GET`.
async fn launch(operator: &Operator, seq: u64) -> CliResult<Option<LaunchLine>> {
    let bad = |why: &dyn std::fmt::Display| {
        CliError::new(exit::UNREACHABLE, "LAUNCH_UNREADABLE", format!("message {seq} of {LAUNCH}: {why}"))
            .hint("custody doctor")
    };
    let subject = ["$JS.API.STREAM.MSG.GET.", LAUNCH].concat();
    let asked = operator.connection.client().request(subject, json!({ "seq": seq }).to_string().into());
    let answer: Value = serde_json::from_slice(&asked.await.map_err(|e| bad(&e))?.payload)?;
    read_launch(seq, &answer).map_err(|why| bad(&why))
}

/// The message of an answer. 10037 is the server's code for "no message found".
fn read_launch(seq: u64, answer: &Value) -> Result<Option<LaunchLine>, String> {
    if let Some(error) = answer.get("error") {
        let gone = error.get("err_code").and_then(Value::as_u64) == Some(10_037);
        return if gone { Ok(None) } else { Err(error.to_string()) };
    }
    let text = |name: &str| answer.pointer(&["/message/", name].concat()).and_then(Value::as_str).unwrap_or_default();
    let bytes = STANDARD.decode(text("data")).map_err(|e| e.to_string())?;
    let stored_at = parse_rfc3339(text("time")).ok_or("it has no time")?;
    Ok(Some(LaunchLine { seq, subject: text("subject").to_owned(), stored_at: UnixMillis(stored_at), bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("evals/scenarios/1-mine", "1-mine", "evals/scenarios")]
    #[case("1-mine", "1-mine", ".")]
    #[case("/x/1-mine/", "1-mine", "/x")]
    fn a_scenarios_folder_is_its_name(#[case] dir: &str, #[case] name: &str, #[case] parent: &str) {
        assert_eq!(place(Path::new(dir)).unwrap(), (name.to_owned(), PathBuf::from(parent)));
    }

    #[test]
    fn a_folder_without_a_name_is_refused() {
        assert_eq!(place(Path::new("..")).unwrap_err().exit, exit::USAGE);
    }

    #[test]
    fn a_launch_is_read_and_an_aged_one_is_none() {
        let found = json!({ "message": {
            "subject": "launch.web.dispatch", "seq": 7, "data": "eyJhIjoxfQ==", "time": "2026-11-22T21:00:00.123456789Z",
        }});
        let launch = read_launch(7, &found).unwrap().unwrap();
        assert_eq!(
            (launch.subject.as_str(), launch.bytes.as_slice()),
            ("launch.web.dispatch", b"{\"a\":1}".as_slice())
        );
        assert_eq!(launch.stored_at.rfc3339(), "2026-11-22T21:00:00.123Z");
        let gone = json!({ "error": { "code": 404, "err_code": 10037, "description": "no message found" } });
        assert_eq!(read_launch(7, &gone).unwrap(), None);
        let refused = json!({ "error": { "code": 503, "err_code": 10008 } });
        assert!(read_launch(7, &refused).is_err());
    }
}
