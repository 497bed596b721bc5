//! `custody dispatch`: what was asked, where it stands, what it said, saying more, stopping it, asking again.

mod again;
mod say;
mod stop;

mod trace;

use super::Ctx;
use super::run::{show, wait_end, watch};
use crate::client::rows;
use crate::error::{CliError, CliResult, exit};
use crate::render::{col, line, notice, wide};
use custody_ports::output::Output;
use serde_json::{Value, json};
use std::time::Duration;
pub(crate) use stop::{Why, many};

/// Dispatches.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DispatchCommand {
    /// List dispatches, newest first
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  custody dispatch ls --status running,queued\n  custody dispatch ls -o json | jq '.[].dispatch'"
    )]
    Ls {
        /// queued, refused, starting, running, stopping, completed, parked, ended; comma-separated
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
    /// How long each phase of its start took, and what stood around its box
    #[command(
        after_help = "Examples:\n  custody dispatch trace last\n  custody dispatch trace last -o json | jq .phases_ms"
    )]
    Trace {
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
    /// Ask one or many to stop: TERM, and KILL of everything in the box after the grace
    #[command(
        after_help = "Every dispatch that is asked has one event that says by whom. A second stop with a shorter grace counts.\n\nExamples:\n  custody dispatch stop d-7f3a --grace 2s\n  custody dispatch stop --launcher web-chat\n  custody dispatch stop --all --yes -o json"
    )]
    Stop {
        /// Which
        #[command(flatten)]
        which: stop::Which,
        /// Time between TERM and KILL
        #[arg(long, default_value = "10s", value_parser = crate::args::parse_duration)]
        grace: Duration,
    },
    /// End one or many at once: a stop without grace
    #[command(
        after_help = "Examples:\n  custody dispatch kill d-7f3a\n  custody dispatch kill --subject u_jane\n  custody dispatch kill --all --yes"
    )]
    Kill {
        /// Which
        #[command(flatten)]
        which: stop::Which,
    },
    /// Say more to a dispatch that has not ended, as an operator
    #[command(
        after_help = "It takes follow-ups when it was launched with --turns above 1.\n\nExamples:\n  custody dispatch say last 'And of Spain?'\n  custody dispatch say d-7f3a --id q-2 'And of Spain?' -o json"
    )]
    Say(say::SayArgs),
    /// Ask the same again, as a new dispatch
    #[command(
        after_help = "Needs the key of the launcher that began it, or --launcher with another one's.\n\nExamples:\n  custody dispatch rerun d-7f3a\n  custody dispatch rerun last --edit\n  custody dispatch rerun last --detach -o json"
    )]
    Rerun(again::RerunArgs),
    /// Go on with the session of a dispatch that has ended, parked ones above all
    #[command(
        after_help = "Examples:\n  custody dispatch resume d-7f3a\n  custody dispatch resume last 'Go on with the second half.'"
    )]
    Resume(again::ResumeArgs),
}

pub(crate) async fn run(ctx: &Ctx, command: DispatchCommand) -> CliResult {
    let target = ctx.target()?;
    let operator = target.operator().await?;
    let find = async |id: String| -> CliResult<(String, Value)> {
        let answer = operator.query("dispatch.get", json!({ "id": id })).await?;
        let mut row = answer.get("row").cloned().unwrap_or(Value::Null);
        row["seqs"] = answer.get("seqs").cloned().unwrap_or(Value::Null);
        row["used"] = answer.get("used").cloned().unwrap_or(Value::Null);
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
                col("WAITS FOR", "waits_for"),
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
            let (id, mut row) = find(id).await?;
            trace::read(&operator, &id).await?.join(&mut row);
            ctx.render.one("dispatch.v1", "dispatch", &row)
        }
        DispatchCommand::Trace { id } => {
            let (id, row) = find(id).await?;
            not_refused(&row)?;
            trace::read(&operator, &id).await?.show(&ctx.render, &id)
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
            let output = target.output(&operator.connection);
            if follow {
                return show(ctx, &output, &id).await;
            }
            let ended = matches!(row.get("status").and_then(Value::as_str), Some("completed" | "parked" | "ended"));
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
        DispatchCommand::Stop { which, grace } => {
            stop::run(ctx, &operator, which, u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)).await
        }
        DispatchCommand::Kill { which } => stop::run(ctx, &operator, which, 0).await,
        DispatchCommand::Say(args) => {
            let (id, _) = find(args.id.clone()).await?;
            say::run(ctx, &operator, &id, args).await
        }
        DispatchCommand::Rerun(args) => {
            let (id, _) = find(args.id.clone()).await?;
            again::rerun(ctx, &target, &operator, &id, args).await
        }
        DispatchCommand::Resume(args) => {
            let (id, row) = find(args.id.clone()).await?;
            again::resume(ctx, &target, &operator, &id, &row, args).await
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
