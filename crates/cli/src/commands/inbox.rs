//! `custody inbox`: calls that wait for a person. What is shown is read from the arguments themselves and checked against
//! their digest; a decision names that digest. Must never approve what nobody was shown.

use super::Ctx;
use super::run::own_subject;
use crate::args::{Point, parse_point};
use crate::client::{Operator, field, rows};
use crate::error::{CliError, CliResult, exit};
use crate::render::{col, line, notice, wide};
use crate::server::clock::now_ms;
use custody_contracts::card::{Shown, card, visible};
use custody_contracts::ids::UnixMillis;
use custody_projections::inbox::CardRow;
use custody_projections::row::plain;
use serde_json::{Value, json};
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

/// The largest file of edited arguments that is read, in bytes; the server takes less.
const ARGS_BYTES_MAX: u64 = 65_536;

/// One card, and whose decision it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Of {
    /// Its id, or a unique prefix
    card: String,
    /// In whose name it is decided [default: u_ and the login]
    #[arg(long = "as", value_name = "SUBJECT")]
    subject: Option<String>,
}

impl Of {
    fn by(&self) -> String {
        self.subject.clone().unwrap_or_else(own_subject)
    }
}

/// Calls that wait for a person: ls, show, approve, reject, edit, defer, next.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum InboxCommand {
    /// Every card that waits, the one that ends soonest first
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  custody inbox ls\n  custody inbox ls --all\n  custody inbox ls -o json | jq -r '.[].card'"
    )]
    Ls {
        /// Also those that have ended
        #[arg(long)]
        all: bool,
    },
    /// One card: the call, its exact arguments, and which rule asks for a person
    #[command(
        visible_alias = "get",
        after_help = "Characters that nobody sees are spelled out, like \\u{202e}.\n\nExamples:\n  custody inbox show d-7f3a-t1\n  custody inbox show d-7f3a-t1 -o json"
    )]
    Show {
        /// Its id, or a unique prefix
        card: String,
    },
    /// Say yes: exactly the call that is shown is made, once
    #[command(
        after_help = "On a terminal the card is shown and asked about. A script names the digest of the arguments that it looked at, and is\nrefused when others wait by then.\n\nExamples:\n  custody inbox approve d-7f3a-t1\n  custody inbox approve d-7f3a-t1 --digest sha256:…\n\nExit codes: 3 no such card, 5 not yours to decide, 6 decided already, too late, or other arguments than shown."
    )]
    Approve {
        /// Which
        #[command(flatten)]
        of: Of,
        /// The digest of the arguments that were looked at
        #[arg(long, value_name = "DIGEST")]
        digest: Option<String>,
    },
    /// Say no: the call is never made
    #[command(after_help = "Examples:\n  custody inbox reject d-7f3a-t1 --reason \"Wrong addressee.\"")]
    Reject {
        /// Which
        #[command(flatten)]
        of: Of,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// Replace the arguments; the new version waits in its turn
    #[command(
        after_help = "The file holds the tool's arguments as one JSON object. They are judged like an agent's when the card is approved.\n\nExamples:\n  custody inbox edit d-7f3a-t1 --args new.json\n  custody inbox show d-7f3a-t1 -o json | jq '.args | .to = \"bob@acme.test\"' | custody inbox edit d-7f3a-t1 --args -"
    )]
    Edit {
        /// Which
        #[command(flatten)]
        of: Of,
        /// A file with the new arguments; - is standard input
        #[arg(long, value_name = "FILE")]
        args: PathBuf,
    },
    /// Ask again later; its own time goes on
    #[command(
        after_help = "Examples:\n  custody inbox defer d-7f3a-t1 --until 2h\n  custody inbox defer d-7f3a-t1 --until 2026-11-28T08:00:00Z"
    )]
    Defer {
        /// Which
        #[command(flatten)]
        of: Of,
        /// A time, or how long from now
        #[arg(long)]
        until: String,
    },
    /// The cards that you may decide, one after the other, the one that ends soonest first
    #[command(
        after_help = "Asks on a terminal; elsewhere it shows the first one. What is put off comes when its time has come.\n\nExamples:\n  custody inbox next\n  custody inbox next --as u_jane"
    )]
    Next {
        /// In whose name it is decided [default: u_ and the login]
        #[arg(long = "as", value_name = "SUBJECT")]
        subject: Option<String>,
    },
}

pub(crate) async fn run(ctx: &Ctx, command: InboxCommand) -> CliResult {
    let operator = ctx.target()?.operator().await?;
    match command {
        InboxCommand::Ls { all } => ls(ctx, &operator, all).await,
        InboxCommand::Show { card } => {
            let row = find(&operator, &card).await?;
            show(ctx, &operator, &row).await
        }
        InboxCommand::Approve { of, digest } => approve(ctx, &operator, &of, digest).await,
        InboxCommand::Reject { of, reason } => {
            let row = find(&operator, &of.card).await?;
            decide(&operator, &row, &of.by(), "reject", json!({ "reason": reason })).await
        }
        InboxCommand::Edit { of, args } => {
            let row = find(&operator, &of.card).await?;
            decide(&operator, &row, &of.by(), "edit", json!({ "args": read_args(&args)? })).await
        }
        InboxCommand::Defer { of, until } => {
            let row = find(&operator, &of.card).await?;
            decide(&operator, &row, &of.by(), "defer", json!({ "until": later(&until)? })).await
        }
        InboxCommand::Next { subject } => {
            let by = subject.unwrap_or_else(own_subject);
            next(ctx, &operator, &by).await
        }
    }
}

async fn ls(ctx: &Ctx, operator: &Operator, all: bool) -> CliResult {
    let body = if all { json!({ "status": ["all"], "limit": 500 }) } else { json!({ "limit": 500 }) };
    let found = rows(&operator.query("inbox.ls", body).await?);
    let columns = [
        col("CARD", "card"),
        col("STATE", "state"),
        col("TOOL", "tool"),
        col("EFFECT", "effect"),
        col("INPUT", "input_trust"),
        col("SUBJECT", "subject"),
        col("RULE", "rule"),
        wide("VERSION", "version"),
        wide("APPROVERS", "approvers"),
        wide("BY", "by"),
        wide("REASON", "reason"),
        wide("ARGUMENTS", "args_digest"),
    ];
    ctx.render.list("inbox.v1", "card", &columns, &found)
}

async fn find(operator: &Operator, id: &str) -> CliResult<CardRow> {
    field(&operator.query("inbox.get", json!({ "id": id })).await?, "row")
}

/// The arguments of a card's version of now, whole and of their digest, and the card as the contract has it.
async fn shown(ctx: &Ctx, operator: &Operator, row: &CardRow) -> CliResult<(Value, Value)> {
    let bytes = ctx.target()?.blobs(&operator.connection).get(&row.args_digest).await.map_err(|e| {
        CliError::new(exit::INTEGRITY, "ARGUMENTS_LOST", format!("{}: {e}", row.card)).hint("custody inbox reject")
    })?;
    let made = card(
        Shown {
            card: &row.card,
            dispatch: &row.dispatch,
            owner: &row.subject,
            tool: &row.tool,
            args_digest: &row.args_digest,
            opened_at: &row.opened_at,
            expires_at: UnixMillis(row.expires_at),
        },
        &bytes,
    );
    let made = made.ok_or_else(|| {
        CliError::new(exit::INTEGRITY, "ARGUMENTS_LOST", format!("{}: they are no arguments", row.card))
    })?;
    Ok((serde_json::from_slice(&bytes)?, made))
}

async fn show(ctx: &Ctx, operator: &Operator, row: &CardRow) -> CliResult {
    let (args, card) = shown(ctx, operator, row).await?;
    if ctx.render.is_json() {
        let whole = json!({ "row": row, "card": card, "args": args });
        return ctx.render.one("card.v1", "card", &whole);
    }
    for text in words(row, &args) {
        line(text)?;
    }
    Ok(())
}

/// A card in lines. In what an agent wrote, every character that nobody sees is spelled out.
fn words(row: &CardRow, args: &Value) -> Vec<String> {
    let mut lines = vec![
        format!("{}  {}  {} · input {}", row.card, row.state, row.effect, row.input_trust),
        format!("tool      {} under {}", row.tool, row.scope),
        format!("for       {} by {}, dispatch {}", row.subject, row.launcher, row.dispatch),
        format!("asked by  rule {}", row.rule),
        format!("decides   {}", row.approvers.join(", ")),
        format!("version   {}, arguments {}", row.version, row.args_digest),
        format!("expires   {}", UnixMillis(row.expires_at).rfc3339()),
    ];
    if let Some(until) = row.until.filter(|_| row.open) {
        lines.push(format!("put off   until {}", UnixMillis(until).rfc3339()));
    }
    if let Some(by) = row.by.as_ref().filter(|_| !row.open) {
        lines.push(format!("decided   by {by}"));
    }
    if let Some(why) = &row.reason {
        lines.push(format!("because   {}", plain(why, 400)));
    }
    lines.push("─".repeat(72));
    let pretty = serde_json::to_string_pretty(args).unwrap_or_default();
    lines.extend(pretty.lines().map(visible));
    lines
}

/// A yes to what was shown: by its digest, or here and now.
async fn approve(ctx: &Ctx, operator: &Operator, of: &Of, digest: Option<String>) -> CliResult {
    let row = find(operator, &of.card).await?;
    let digest = match digest {
        Some(digest) => digest,
        None if !row.open => row.args_digest.clone(),
        None => {
            if !asks(ctx) {
                let what = format!("this would approve {} with arguments {}", row.card, row.args_digest);
                let hint = format!("custody inbox show {}, then say --digest", row.card);
                return Err(CliError::new(exit::USAGE, "CONFIRMATION_NEEDED", what).hint(hint));
            }
            show(ctx, operator, &row).await?;
            if answer("make exactly this call? Type yes: ")? != "yes" {
                return Err(CliError::new(exit::REFUSED, "NOT_CONFIRMED", "nothing was changed"));
            }
            row.args_digest.clone()
        }
    };
    decide(operator, &row, &of.by(), "approve", json!({ "args_digest": digest })).await
}

/// Whether somebody can be asked.
fn asks(ctx: &Ctx) -> bool {
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    terminal && !ctx.global.no_input && !ctx.render.is_json()
}

fn answer(question: &str) -> CliResult<String> {
    let mut err = std::io::stderr();
    write!(err, "{question}")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

async fn decide(operator: &Operator, row: &CardRow, by: &str, decision: &str, more: Value) -> CliResult {
    let mut body = json!({ "card": row.card, "version": row.version, "decision": decision, "by": by });
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    let answer = operator.command("approval.decide", body).await?;
    if answer.get("changed") == Some(&json!(false)) {
        notice(format!("{} was decided so before", row.card));
    }
    line(&row.card)
}

fn read_args(path: &Path) -> CliResult<Value> {
    let mut text = String::new();
    match path.as_os_str() == "-" {
        true => std::io::stdin().lock().take(ARGS_BYTES_MAX).read_to_string(&mut text)?,
        false => std::fs::File::open(path)?.take(ARGS_BYTES_MAX).read_to_string(&mut text)?,
    };
    serde_json::from_str(&text).map_err(|e| CliError::new(exit::USAGE, "ARGUMENTS_INVALID", e))
}

/// A moment to come: a time, or how long from now.
fn later(text: &str) -> CliResult<u64> {
    if let Ok(wait) = crate::args::parse_duration(text) {
        return Ok(now_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
    }
    match parse_point(text, now_ms())? {
        Point::At(at) => Ok(at),
        Point::Seq(_) => Err(CliError::new(exit::USAGE, "TIME_INVALID", "a sequence is no time to come")),
    }
}

async fn next(ctx: &Ctx, operator: &Operator, by: &str) -> CliResult {
    let found = rows(&operator.query("inbox.ls", json!({ "approver": by, "limit": 500 })).await?);
    let rows: Vec<CardRow> = found.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
    let now = now_ms();
    let due = |row: &CardRow| row.until.is_none_or(|until| until <= now);
    let mut waiting = rows.into_iter().filter(due).peekable();
    if waiting.peek().is_none() {
        notice(format!("nothing waits for {by}"));
        return Ok(());
    }
    for row in waiting {
        show(ctx, operator, &row).await?;
        if !asks(ctx) {
            return Ok(());
        }
        match answer("[a]pprove  [r]eject  [d]efer an hour  [n]ext  [q]uit › ")?.as_str() {
            // What was on the screen is what is approved.
            "a" => decide(operator, &row, by, "approve", json!({ "args_digest": row.args_digest })).await?,
            "r" => {
                let why = answer("why › ")?;
                decide(operator, &row, by, "reject", json!({ "reason": why })).await?;
            }
            "d" => decide(operator, &row, by, "defer", json!({ "until": now_ms() + 3_600_000 })).await?,
            "n" => {}
            _ => return Ok(()),
        }
    }
    notice("no more cards wait for you");
    Ok(())
}
