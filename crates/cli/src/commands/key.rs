//! `custody key`: the keys that sign. Must never show a secret half, nor take a key out of use without saying which.

use super::Ctx;
use super::run::own_subject;
use crate::error::CliResult;
use crate::render::col;
use serde_json::{Value, json};

/// Keys: ls, rotate.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// Every key, what it signs, and how far it has come
    #[command(
        visible_alias = "list",
        after_help = "A role's key signs that role's events. Keys for tokens sign tokens and nothing else: next is published and signs\nnothing yet, active signs, retiring signs nothing more and what it signed stays good until its end, retired is over.\n\nExamples:\n  custody key ls\n  custody key ls -o json"
    )]
    Ls,
    /// Let the next key sign tokens from here on
    #[command(
        after_help = "The key that signed is retiring: tokens that it signed stay good until they end, 15 minutes at most, then it is\nretired and its secret half destroyed. With --at-once a new key signs and all others are retired now,\nthe next one too: what they signed is refused from here on, and dispatches that run are given new tokens at their next\ncall. Every step is an event of the ledger.\n\nExamples:\n  custody key rotate\n  custody key rotate --at-once --why 'a backup was lost'\n\nExit codes: 0 rotated, 8 authority does not answer."
    )]
    Rotate {
        /// Refuse what the old keys signed from here on
        #[arg(long)]
        at_once: bool,
        /// Why, for the ledger
        #[arg(long, default_value = "rotated by an operator", value_name = "TEXT")]
        why: String,
    },
}

pub(crate) async fn run(ctx: &Ctx, command: KeyCommand) -> CliResult {
    let operator = ctx.target()?.operator().await?;
    match command {
        KeyCommand::Ls => {
            let rows = operator.command("key.ls", json!({})).await?;
            let rows: Vec<Value> = rows.as_array().cloned().unwrap_or_default();
            let columns = [col("KEY", "kid"), col("SIGNS", "signs"), col("STATE", "state"), col("SINCE", "since")];
            ctx.render.list("keys.v1", "kid", &columns, &rows)
        }
        KeyCommand::Rotate { at_once, why } => {
            let body = json!({ "by": own_subject(), "why": why, "at_once": at_once });
            let answer = operator.command("key.rotate", body).await?;
            ctx.render.one("key-rotation.v1", "active", &answer)
        }
    }
}
