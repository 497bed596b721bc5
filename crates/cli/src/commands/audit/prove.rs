//! `custody audit prove`: one event with everything that stands behind it, for somebody who has nothing of ours. Must
//! never write a bundle that its own verifier does not take.

use super::export::create;
use super::why::about;
use super::{Ctx, unavailable};
use crate::error::{CliError, CliResult, exit};
use crate::render::{line, notice};
use custody_contracts::events::{DispatchEvent, LedgerEvent};
use custody_engine::prove::{Ask, ProveError};
use custody_ledger::{Recorded, Stored};
use custody_trust::proof::{Bundle, log_vkey, tlog_proof};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What to prove, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct ProveArgs {
    /// Effect id, ledger sequence, dispatch id, unique prefix of one, or `last`; a dispatch is proved whole
    id: String,
    /// The file; standard output without it. Never over an existing file unless --force
    #[arg(long, value_name = "FILE", visible_alias = "to")]
    output_file: Option<PathBuf>,
    /// An older checkpoint (a signed note): prove too that the log goes on from it
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// The checkpoint to prove under (a signed note); else the newest one that a witness cosigned, else the newest
    #[arg(long, value_name = "FILE")]
    under: Option<PathBuf>,
    /// Also write C2SP files into this new folder: checkpoint, log key, and each event with its tlog-proof
    #[arg(long, value_name = "FOLDER")]
    tlog: Option<PathBuf>,
    /// Write over an existing file
    #[arg(long)]
    force: bool,
}

pub(super) async fn prove(ctx: &Ctx, args: ProveArgs) -> CliResult {
    let target = ctx.target()?;
    let operator = target.operator().await?;
    let log = operator.log().await?;
    let about = about(&operator, &log, &args.id).await?;
    let since = args.since.as_deref().map(read_note).transpose()?;
    let launch = match launch_at(&about.messages) {
        Some(seq) => custody_nats::launches::stored(&operator.connection, seq)
            .await
            .map_err(|e| CliError::new(exit::UNREACHABLE, "LAUNCH_UNAVAILABLE", format!("the launch at {seq}: {e}")))?,
        None => None,
    };
    let under = match args.under.as_deref() {
        Some(path) => Some(read_note(path)?),
        None => crate::server::outside::witnessed(&target.home),
    };
    let ask = Ask { focus: about.focus, messages: about.messages, whole: about.whole, since, launch, under };
    let proved = match custody_engine::prove::prove(&log, ask.clone()).await {
        // The state folder's own note is of another log when the ledger is asked for elsewhere.
        Err(ProveError::NotGood(_)) if args.under.is_none() && ask.under.is_some() => {
            custody_engine::prove::prove(&log, Ask { under: None, ..ask }).await
        }
        proved => proved,
    };
    let (bundle, proved) = proved.map_err(not_proved)?;
    if let Some(folder) = &args.tlog {
        write_tlog(folder, &bundle)?;
        notice(format!("{} C2SP proofs written to {}", bundle.entries.len(), folder.display()));
    }
    let text = serde_json::to_string_pretty(&bundle)?;
    match &args.output_file {
        None => line(text),
        Some(path) => {
            let mut file = create(path, args.force)?;
            writeln!(file, "{text}")?;
            if ctx.render.is_json() {
                return ctx.render.one("prove.v1", "file", &json!({ "file": path, "proved": proved }));
            }
            notice(format!(
                "{} events proved under the checkpoint over {} messages, written to {}",
                proved.entries,
                proved.size,
                path.display()
            ));
            Ok(())
        }
    }
}

fn read_note(path: &Path) -> CliResult<String> {
    let unreadable =
        |why: String| CliError::new(exit::USAGE, "CHECKPOINT_UNREADABLE", format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
    custody_trust::note::read(&text).map_err(|e| unreadable(e.to_string()))?;
    Ok(text)
}

/// Where in LAUNCH the admission says that its launch is.
fn launch_at(messages: &[Stored]) -> Option<u64> {
    messages.iter().flat_map(|m| Recorded::read(m).unwrap_or_default()).find_map(|one| match one.event {
        Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => Some(e.launch.stream_seq),
        _ => None,
    })
}

pub(super) fn not_proved(error: ProveError) -> CliError {
    match error {
        ProveError::Log(error) => unavailable(error),
        ProveError::NotCovered(_) => {
            CliError::new(exit::TIMED_OUT, "NOT_COVERED", error).hint("is the authority role running? custody status")
        }
        ProveError::Since(_) => CliError::new(exit::USAGE, "CHECKPOINT_UNUSABLE", error),
        ProveError::TooMany(_) => {
            CliError::new(exit::USAGE, "TOO_MANY_EVENTS", error).hint("custody audit ls --dispatch ID")
        }
        ProveError::NotGood(finding) => {
            let text = format!("sequence {}: {}", finding.seq, finding.message);
            CliError::new(exit::INTEGRITY, finding.code, text).hint("custody audit verify")
        }
    }
}

/// The files that verifiers of other makers read. Source: C2SP signed-note, tlog-checkpoint, tlog-proof.
fn write_tlog(folder: &Path, bundle: &Bundle) -> CliResult {
    let vkey = log_vkey(bundle).map_err(|finding| not_proved(ProveError::NotGood(finding)))?;
    std::fs::create_dir(folder).map_err(|e| {
        CliError::new(exit::CONFLICT, "FOLDER_EXISTS", format!("{}: {e}", folder.display())).hint("name a new folder")
    })?;
    std::fs::write(folder.join("checkpoint"), &bundle.checkpoint)?;
    std::fs::write(folder.join("log.vkey"), format!("{vkey}\n"))?;
    for entry in &bundle.entries {
        let name = format!("{:012}", entry.seq);
        std::fs::write(folder.join(format!("{name}.json")), &entry.bytes)?;
        std::fs::write(folder.join(format!("{name}.tlog-proof")), tlog_proof(bundle, entry))?;
    }
    Ok(())
}
