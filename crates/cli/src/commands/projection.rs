//! `custody projection`: the folds over the ledger. They can be thrown away and rebuilt; `verify` proves that nothing
//! is lost by it.

use super::Ctx;
use crate::client::{Target, rows};
use crate::error::{CliError, CliResult, exit};
use crate::render::{col, notice};
use serde_json::{Value, json};
use std::time::Duration;

/// How long a rebuild may take when `--timeout` says nothing: it reads the whole ledger.
const REBUILD_WAIT: Duration = Duration::from_secs(600);

/// Projections: ls, rebuild, verify.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ProjectionCommand {
    /// Every projection, where it stands and its digest
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  custody projection ls\n  custody projection ls -o json"
    )]
    Ls,
    /// Throw a projection away and fold it again from the first event; the old one answers until then
    #[command(after_help = "Examples:\n  custody projection rebuild dispatches")]
    Rebuild {
        /// dispatches, sessions or audit
        name: String,
    },
    /// Fold every projection anew beside the live one and compare digests
    #[command(
        after_help = "Examples:\n  custody projection verify\n  custody projection verify -o json\n\nExit codes: 0 all equal, 9 one differs."
    )]
    Verify,
}

pub(crate) async fn run(ctx: &Ctx, command: ProjectionCommand) -> CliResult {
    let target = ctx.target()?;
    match command {
        ProjectionCommand::Ls => ls(ctx, &target).await,
        ProjectionCommand::Rebuild { name } => rebuild(ctx, patient(ctx, target), &name).await,
        ProjectionCommand::Verify => verify(ctx, patient(ctx, target)).await,
    }
}

fn patient(ctx: &Ctx, target: Target) -> Target {
    Target { timeout: ctx.global.timeout.unwrap_or(REBUILD_WAIT), ..target }
}

async fn ls(ctx: &Ctx, target: &Target) -> CliResult {
    let answer = target.operator().await?.query("projection.ls", json!({})).await?;
    let columns = [
        col("NAME", "name"),
        col("VERSION", "version"),
        col("SEQ", "seq"),
        col("ROWS", "rows"),
        col("DIGEST", "digest"),
    ];
    ctx.render.list("projection.v1", "name", &columns, &rows(&answer))
}

async fn rebuild(ctx: &Ctx, target: Target, name: &str) -> CliResult {
    let answer = target.operator().await?.query("projection.rebuild", json!({ "id": name })).await?;
    let row = answer.get("row").cloned().unwrap_or(Value::Null);
    ctx.render.one("projection.v1", "name", &row)
}

async fn verify(ctx: &Ctx, target: Target) -> CliResult {
    let answer = target.operator().await?.query("projection.verify", json!({})).await?;
    let rows = rows(&answer);
    let columns =
        [col("NAME", "name"), col("SEQ", "seq"), col("EQUAL", "equal"), col("LIVE", "live"), col("REBUILT", "rebuilt")];
    ctx.render.list("projection-verified.v1", "name", &columns, &rows)?;
    let differ: Vec<&str> = rows.iter().filter(|r| !equal(r)).filter_map(|r| r.get("name")?.as_str()).collect();
    if rows.is_empty() {
        return Err(CliError::new(exit::INTEGRITY, "NOTHING_VERIFIED", "the projector named no projection"));
    }
    if differ.is_empty() {
        return Ok(());
    }
    notice(format!("not what the ledger says: {}", differ.join(", ")));
    Err(CliError::exit_only(exit::INTEGRITY))
}

/// Anything but a clear yes is a no.
fn equal(row: &Value) -> bool {
    row.get("equal").and_then(Value::as_bool).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(json!({ "equal": true }), true)]
    #[case(json!({ "equal": false }), false)]
    #[case(json!({ "equal": "true" }), false)]
    #[case(json!({}), false)]
    fn only_a_clear_yes_is_equal(#[case] row: Value, #[case] is: bool) {
        assert_eq!(equal(&row), is);
    }
}
