//! `custody dispatch`: what was asked, where it stands, what it said, and stopping it.

use super::Ctx;
use super::run::{own_subject, show, wait_end, watch};
use crate::client::rows;
use crate::error::{CliError, CliResult, exit};
use crate::render::{col, line, notice, wide};
use custody_nats::JetOutput;
use custody_ports::output::Output;
use serde_json::{Value, json};
use std::time::Duration;

/// Dispatches.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DispatchCommand {
    /// List dispatches, newest first
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  custody dispatch ls --status running,queued\n  custody dispatch ls -o json | jq '.[].dispatch'"
    )]
    Ls {
        /// queued, refused, starting, running, stopping, completed, ended; comma-separated
        #[arg(long, value_delimiter = ',')]
        status: Vec<String>,
        /// Only this person's
        #[arg(long)]
        subject: Option<String>,
        /// Only through this launcher
        #[arg(long)]
        launcher: Option<String>,
        /// At most so many
        #[arg(long, short = 'n', default_value_t = 50)]
        limit: usize,
        /// Only those that began before this sequence: the next page
        #[arg(long)]
        before_seq: Option<u64>,
    },
    /// One dispatch with everything known of it
    #[command(after_help = "Examples:\n  custody dispatch get last\n  custody dispatch get d-7f3a -o json")]
    Get {
        /// Id, unique prefix, or `last`
        id: String,
    },
    /// Follow its output until it ends
    #[command(after_help = "Examples:\n  custody dispatch watch last")]
    Watch {
        /// Id, unique prefix, or `last`
        id: String,
    },
    /// Its output so far
    #[command(after_help = "Examples:\n  custody dispatch logs last\n  custody dispatch logs last -f -o jsonl")]
    Logs {
        /// Id, unique prefix, or `last`
        id: String,
        /// Go on until it ends
        #[arg(long, short)]
        follow: bool,
    },
    /// Wait until it has ended
    #[command(
        after_help = "Exit codes: 0 completed, 5 refused, 7 timed out, 10 ended otherwise.\n\nExamples:\n  custody dispatch wait last --timeout 5m"
    )]
    Wait {
        /// Id, unique prefix, or `last`
        id: String,
    },
    /// Ask it to stop
    #[command(after_help = "Examples:\n  custody dispatch stop d-7f3a --grace 2s")]
    Stop {
        /// Id, unique prefix, or `last`
        id: String,
        /// Time between TERM and KILL
        #[arg(long, default_value = "10s", value_parser = crate::args::parse_duration)]
        grace: Duration,
    },
}

pub(crate) async fn run(ctx: &Ctx, command: DispatchCommand) -> CliResult {
    let target = ctx.target()?;
    let operator = target.operator().await?;
    let find = async |id: String| -> CliResult<(String, Value)> {
        let answer = operator.query("dispatch.get", json!({ "id": id })).await?;
        let mut row = answer.get("row").cloned().unwrap_or(Value::Null);
        row["seqs"] = answer.get("seqs").cloned().unwrap_or(Value::Null);
        let id = row.get("dispatch").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok((id, row))
    };
    match command {
        DispatchCommand::Ls { status, subject, launcher, limit, before_seq } => {
            let query = json!({ "status": status, "subject": subject, "launcher": launcher, "limit": limit, "before_seq": before_seq });
            let found = rows(&operator.query("dispatch.ls", query).await?);
            let columns = [
                col("ID", "dispatch"),
                col("STATUS", "status"),
                col("AGE", "decided_at"),
                col("WHO", "subject"),
                col("VIA", "launcher"),
                col("RUNNER", "runner"),
                col("REASON", "reason"),
                col("WHAT", "what"),
                wide("SESSION", "session"),
                wide("CONTAINER", "container"),
                wide("EXIT", "exit_code"),
                wide("SEQ", "first_seq"),
            ];
            ctx.render.list("dispatch.v1", "dispatch", &columns, &found)
        }
        DispatchCommand::Get { id } => {
            let (_, row) = find(id).await?;
            ctx.render.one("dispatch.v1", "dispatch", &row)
        }
        DispatchCommand::Watch { id } => {
            let (id, row) = find(id).await?;
            not_refused(&row)?;
            let limit = ctx.global.timeout.unwrap_or(Duration::from_secs(3_700));
            watch(ctx, &target, &id, limit).await
        }
        DispatchCommand::Logs { id, follow } => {
            let (id, row) = find(id).await?;
            not_refused(&row)?;
            let output = JetOutput::new(&operator.connection);
            if follow {
                return show(ctx, &output, &id).await;
            }
            let ended = matches!(row.get("status").and_then(Value::as_str), Some("completed" | "ended"));
            let stored =
                output.all(&id).await.map_err(|e| CliError::new(exit::UNREACHABLE, "OUTPUT_UNAVAILABLE", e))?;
            if stored.is_empty() {
                notice(if ended { "it said nothing, or its output has aged out" } else { "nothing yet" });
            }
            super::run::print_chunks(ctx, &id, &stored)
        }
        DispatchCommand::Wait { id } => {
            let (id, row) = find(id).await?;
            not_refused(&row)?;
            let limit = ctx.global.timeout.unwrap_or(Duration::from_secs(3_700));
            let row = wait_end(&operator, &id, limit).await?;
            if ctx.render.format.is_some() {
                ctx.render.one("dispatch.v1", "dispatch", &row)?;
            } else {
                line(format!("{id} {}", row.get("reason").and_then(Value::as_str).unwrap_or_default()))?;
            }
            match row.get("status").and_then(Value::as_str) {
                Some("completed") => Ok(()),
                _ => Err(CliError::exit_only(exit::ENDED_FAILED)),
            }
        }
        DispatchCommand::Stop { id, grace } => {
            let (id, row) = find(id).await?;
            if matches!(row.get("status").and_then(Value::as_str), Some("completed" | "ended" | "refused")) {
                return Err(CliError::new(exit::CONFLICT, "ALREADY_ENDED", format!("dispatch {id} has ended already"))
                    .hint(format!("custody dispatch get {id}")));
            }
            let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(10_000);
            let answer = operator
                .command("dispatch.stop", json!({ "dispatch": id, "by": own_subject(), "grace_ms": grace_ms }))
                .await?;
            if ctx.render.format.is_some() {
                return ctx.render.one("command.v1", "seq", &answer);
            }
            line(format!("{id} asked to stop (sequence {})", answer.get("seq").and_then(Value::as_u64).unwrap_or(0)))
        }
    }
}

fn not_refused(row: &Value) -> CliResult {
    if row.get("status").and_then(Value::as_str) != Some("refused") {
        return Ok(());
    }
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut error =
        CliError::new(exit::REFUSED, &text("reason"), format!("refused before it started: {}", text("detail")));
    error.hint = Some(text("hint"));
    Err(error)
}
