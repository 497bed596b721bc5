//! `custody usage`: tokens, costs and calls, as the upstreams counted them.

use super::Ctx;
use crate::args::{Point, parse_point};
use crate::client::rows;
use crate::error::{CliError, CliResult, exit};
use crate::render::{col, wide};
use crate::server::clock::now_ms;
use custody_contracts::ids::UnixMillis;
use serde_json::json;

/// What rows are put together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum By {
    /// The person
    Subject,
    /// The launcher
    Launcher,
    /// The runner
    Runner,
    /// Upstream and model
    Model,
    /// The day, UTC
    Day,
    /// The dispatch
    Dispatch,
}

impl By {
    fn as_str(self) -> &'static str {
        match self {
            By::Subject => "subject",
            By::Launcher => "launcher",
            By::Runner => "runner",
            By::Model => "model",
            By::Day => "day",
            By::Dispatch => "dispatch",
        }
    }
}

/// Tokens, costs and calls, the most expensive first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Costs are in millionths of the accounting currency, by the prices that were configured when the call was made.\n\nExamples:\n  custody usage\n  custody usage --by model --since 7d\n  custody usage --by dispatch --since today -o csv\n  custody usage --by subject -o json | jq '.[] | {subject, cost_micros}'"
)]
pub(crate) struct UsageArgs {
    /// What to put together
    #[arg(long, value_enum, default_value = "subject")]
    by: By,
    /// Since this day (UTC): 7d, today, yesterday, 2026-11-22T00:00:00Z
    #[arg(long)]
    since: Option<String>,
    /// At most so many rows
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=500))]
    limit: u64,
}

pub(crate) async fn run(ctx: &Ctx, args: UsageArgs) -> CliResult {
    let since = args.since.as_deref().map(|text| day(text, now_ms())).transpose()?;
    let operator = ctx.target()?.operator().await?;
    let query = json!({ "by": args.by.as_str(), "since": since, "limit": args.limit });
    let answer = operator.query("usage.ls", query).await?;
    let named = match args.by {
        By::Subject => vec![col("SUBJECT", "subject")],
        By::Launcher => vec![col("LAUNCHER", "launcher")],
        By::Runner => vec![col("RUNNER", "runner")],
        By::Model => vec![col("UPSTREAM", "upstream"), col("MODEL", "model")],
        By::Day => vec![col("DAY", "day")],
        By::Dispatch => vec![col("DISPATCH", "dispatch"), col("SUBJECT", "subject"), wide("LAUNCHER", "launcher")],
    };
    let sums = [
        col("CALLS", "model_calls"),
        col("IN", "input_tokens"),
        col("CACHED", "cached_tokens"),
        col("OUT", "output_tokens"),
        col("COST-MICROS", "cost_micros"),
        col("TOOLS", "tool_calls"),
        wide("FAILED", "failed_calls"),
        wide("UNPRICED", "unpriced_calls"),
        wide("TOOLS-REFUSED", "refused_tool_calls"),
    ];
    let columns: Vec<_> = named.into_iter().chain(sums).collect();
    ctx.render.list("usage.v1", args.by.as_str(), &columns, &rows(&answer))
}

/// The day of a time: usage is kept by day.
fn day(text: &str, now_ms: u64) -> CliResult<String> {
    match parse_point(text, now_ms)? {
        Point::At(ms) => Ok(UnixMillis(ms).rfc3339().chars().take(10).collect()),
        Point::Seq(_) => Err(CliError::new(exit::USAGE, "TIME_INVALID", "usage is kept by day, not by sequence")
            .hint("7d, today, yesterday, 2026-11-22T00:00:00Z")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1d", Some("2026-11-21"))]
    #[case("today", Some("2026-11-22"))]
    #[case("2026-11-01T12:00:00Z", Some("2026-11-01"))]
    #[case("seq:5", None)]
    #[case("never", None)]
    fn since_is_a_day(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(day(text, 1_795_381_200_000).ok().as_deref(), expected);
    }
}
