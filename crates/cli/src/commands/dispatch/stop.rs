//! `custody dispatch stop` and `kill`: one dispatch, or all that a filter finds. Each one that is asked has one event of
//! its own that says by whom. Must never stop many without having been told to, by a filter or by a yes.

use super::super::run::own_subject;
use super::super::{Ctx, confirm};
use crate::client::{Operator, rows};
use crate::error::{CliError, CliResult, exit};
use crate::render::{line, notice};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Rows asked for at once; the projector's own maximum.
const PAGE: usize = 500;

/// Which dispatches: exactly one, or those of a filter.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Which {
    /// Id, unique prefix, or `last`
    #[arg(conflicts_with_all = ["launcher", "subject", "grant", "all"])]
    id: Option<String>,
    /// All that this launcher began and that have not ended
    #[arg(long, conflicts_with = "all")]
    launcher: Option<String>,
    /// All of this person that have not ended
    #[arg(long, conflicts_with = "all")]
    subject: Option<String>,
    /// All under this grant that have not ended
    #[arg(long, conflicts_with = "all")]
    grant: Option<String>,
    /// All that have not ended; asks first
    #[arg(long)]
    all: bool,
    /// Do not ask before --all
    #[arg(long)]
    yes: bool,
}

/// Why many are stopped, as their ends will say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Somebody wanted it.
    Stopped,
    /// Their launcher may not act any more.
    Revoked,
}

pub(super) async fn run(ctx: &Ctx, operator: &Operator, which: Which, grace_ms: u64) -> CliResult {
    if let Some(id) = &which.id {
        let answer = operator.query("dispatch.get", json!({ "id": id })).await?;
        let row = answer.get("row").cloned().unwrap_or(Value::Null);
        return one(ctx, operator, &row, grace_ms).await;
    }
    if which.all && !which.yes {
        confirm(ctx, "stop every dispatch that has not ended")?;
    }
    let filter = json!({ "launcher": which.launcher, "subject": which.subject, "grant": which.grant });
    let asked = many(operator, filter, grace_ms, Why::Stopped).await?;
    if ctx.render.format.is_some() {
        return ctx.render.list("command.v1", "dispatch", &[], &asked);
    }
    for row in &asked {
        line(told(row))?;
    }
    notice(format!("{} asked to stop", asked.len()));
    Ok(())
}

async fn one(ctx: &Ctx, operator: &Operator, row: &Value, grace_ms: u64) -> CliResult {
    let id = row.get("dispatch").and_then(Value::as_str).unwrap_or_default();
    let status = row.get("status").and_then(Value::as_str).unwrap_or_default();
    if matches!(status, "completed" | "ended" | "parked" | "refused") {
        return Err(CliError::new(exit::CONFLICT, "ALREADY_ENDED", format!("dispatch {id} has ended already"))
            .hint(format!("custody dispatch get {id}")));
    }
    let answer = ask(operator, id, grace_ms, Why::Stopped).await?;
    if ctx.render.format.is_some() {
        return ctx.render.one("command.v1", "seq", &answer);
    }
    line(told(&answer))
}

fn told(answer: &Value) -> String {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
    let seq = answer.get("seq").and_then(Value::as_u64).unwrap_or_default();
    format!("{} asked to stop (sequence {seq})", text("dispatch"))
}

async fn ask(operator: &Operator, id: &str, grace_ms: u64, why: Why) -> CliResult<Value> {
    let mut body = json!({ "dispatch": id, "by": own_subject(), "grace_ms": grace_ms });
    if why == Why::Revoked {
        body["reason"] = json!("revoked");
    }
    let mut answer = operator.command("dispatch.stop", body).await?;
    answer["dispatch"] = json!(id);
    Ok(answer)
}

/// Asks all that a filter finds, until a look finds no new one: what was admitted while the others were asked is asked
/// too. Gives back an answer for each.
pub(crate) async fn many(operator: &Operator, filter: Value, grace_ms: u64, why: Why) -> CliResult<Vec<Value>> {
    let mut seen = BTreeSet::new();
    let mut asked = Vec::new();
    loop {
        let found = open(operator, &filter).await?;
        let fresh: Vec<String> = found.into_iter().filter(|id| !seen.contains(id)).collect();
        if fresh.is_empty() {
            return Ok(asked);
        }
        for id in fresh {
            asked.push(ask(operator, &id, grace_ms, why).await?);
            seen.insert(id);
        }
    }
}

/// Every dispatch of a filter that has not ended, page by page.
async fn open(operator: &Operator, filter: &Value) -> CliResult<Vec<String>> {
    let mut found = Vec::new();
    let mut before: Option<u64> = None;
    loop {
        let mut query = filter.clone();
        query["status"] = json!(["queued", "starting", "running", "stopping"]);
        query["limit"] = json!(PAGE);
        query["before_seq"] = json!(before);
        let page = rows(&operator.query("dispatch.ls", query).await?);
        let ids = page.iter().filter_map(|row| row.get("dispatch").and_then(Value::as_str)).map(str::to_owned);
        found.extend(ids);
        before = page.last().and_then(|row| row.get("first_seq")).and_then(Value::as_u64);
        if page.len() < PAGE || before.is_none() {
            return Ok(found);
        }
    }
}
