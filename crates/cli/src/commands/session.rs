//! `custody session`: sessions and their turns, each in a container of its own.

use super::Ctx;
use crate::client::rows;
use crate::error::CliResult;
use crate::render::{Format, col, wide};
use serde_json::{Value, json};

/// Sessions: ls, show.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SessionCommand {
    /// Sessions, newest first
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  custody session ls\n  custody session ls --subject u_jane --limit 5\n  custody run --session $(custody session ls --limit 1 -o name) 'And then?'"
    )]
    Ls {
        /// Only this person's
        #[arg(long)]
        subject: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=500))]
        limit: u64,
    },
    /// The turns of a session: which container ran each, what it resumed from and what it left
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  custody session show last\n  custody session show s-3mq -o json"
    )]
    Show {
        /// Its id, a unique prefix of it, or `last`
        id: String,
    },
}

pub(crate) async fn run(ctx: &Ctx, command: SessionCommand) -> CliResult {
    let operator = ctx.target()?.operator().await?;
    match command {
        SessionCommand::Ls { subject, limit } => {
            let answer = operator.query("session.ls", json!({ "subject": subject, "limit": limit })).await?;
            let columns = [
                col("SESSION", "session"),
                col("TURNS", "turn_count"),
                col("SUBJECT", "subject"),
                col("RUNNER", "runner"),
                col("BEGAN", "began_at"),
                col("BYTES", "bytes"),
                wide("DIGEST", "digest"),
                wide("LAST-SEQ", "last_seq"),
            ];
            ctx.render.list("session.v1", "session", &columns, &rows(&answer))
        }
        SessionCommand::Show { id } => {
            let answer = operator.query("session.get", json!({ "id": id })).await?;
            show(ctx, &answer.get("row").cloned().unwrap_or(Value::Null))
        }
    }
}

fn show(ctx: &Ctx, row: &Value) -> CliResult {
    match ctx.render.format() {
        Format::Table | Format::Wide | Format::Csv => {
            let columns = [
                col("TURN", "turn"),
                col("DISPATCH", "dispatch"),
                col("CONTAINER", "container"),
                col("OUTCOME", "outcome"),
                col("RESUMED-FROM", "resumed_from"),
                col("LEFT", "left"),
            ];
            let short = ctx.render.format() == Format::Table && !ctx.render.no_trunc;
            ctx.render.list("turn.v1", "dispatch", &columns, &turns(row, short))
        }
        _ => ctx.render.one("session.v1", "session", row),
    }
}

/// The turns of a session's row with their numbers; `short` cuts digests and ids to what people compare.
fn turns(row: &Value, short: bool) -> Vec<Value> {
    let turns = row.get("turns").and_then(Value::as_array).cloned().unwrap_or_default();
    let all = row.get("turn_count").and_then(Value::as_u64).unwrap_or(turns.len() as u64);
    // A long session's row keeps its newest turns only.
    let dropped = all.saturating_sub(turns.len() as u64);
    turns
        .into_iter()
        .zip(dropped + 1..)
        .map(|(mut turn, number)| {
            if let Value::Object(map) = &mut turn {
                map.insert("turn".into(), number.into());
                for field in ["container", "resumed_from", "left"] {
                    if let Some(Value::String(text)) = map.get_mut(field).filter(|_| short) {
                        let bare = text.strip_prefix("sha256:").unwrap_or(text);
                        *text = bare.chars().take(12).collect();
                    }
                }
            }
            turn
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_numbered_through_what_was_dropped() {
        let row = json!({ "turn_count": 5, "turns": [
            { "dispatch": "d-a", "container": "c".repeat(64), "left": "sha256:0123456789abcdef" },
            { "dispatch": "d-b", "resumed_from": "sha256:0123456789abcdef" },
        ]});
        let short = turns(&row, true);
        assert_eq!((short[0]["turn"].as_u64(), short[1]["turn"].as_u64()), (Some(4), Some(5)));
        assert_eq!(short[0]["left"], "0123456789ab");
        assert_eq!(short[0]["left"], short[1]["resumed_from"]);
        assert_eq!(turns(&row, false)[0]["left"], "sha256:0123456789abcdef");
    }
}
