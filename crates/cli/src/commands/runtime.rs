//! `custody runtime`: the runtime's HTTP face, for those who call it. Must never keep a token: it is printed once.

use super::Ctx;
use super::run::own_subject;
use crate::error::{CliError, CliResult, exit};
use crate::render::line;
use custody_contracts::canonical::hex;
use custody_contracts::ids::Subject;
use serde_json::json;
use std::time::Duration;

/// The runtime's HTTP face: token.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RuntimeCommand {
    /// Print a short-lived token for the runtime's HTTP face
    #[command(
        after_help = "Authority signs it (EdDSA) for the audience custody/runtime and one person; it sees and stops that\nperson's workloads alone. Nothing keeps it: ask again when it has ended.\n\nExamples:\n  custody runtime token --as u_jane\n  custody runtime token --as u_jane --read-only --life 1m\n  curl -H \"Authorization: Bearer $(custody runtime token)\" http://127.0.0.1:7070/workloads\n\nExit codes: 0 printed, 5 refused, 8 authority does not answer."
    )]
    Token {
        /// The person that workloads act for [default: u_<your login>]
        #[arg(long = "as", value_name = "SUBJECT")]
        subject: Option<String>,
        /// Only look, start and stop nothing
        #[arg(long)]
        read_only: bool,
        /// How long it lives, at most 15m
        #[arg(long, default_value = "5m", value_parser = crate::args::parse_duration)]
        life: Duration,
    },
}

pub(crate) async fn run(ctx: &Ctx, command: RuntimeCommand) -> CliResult {
    let RuntimeCommand::Token { subject, read_only, life } = command;
    let subject = subject.unwrap_or_else(own_subject);
    Subject::parse(&subject).map_err(|e| CliError::new(exit::USAGE, "SUBJECT_INVALID", e))?;
    let scopes: &[&str] = if read_only { &["workloads:read"] } else { &["workloads:read", "workloads:write"] };
    let asked = json!({
        "subject": subject, "scopes": scopes, "life_secs": life.as_secs(),
        "jti": hex(&crate::home::random::<16>()?), "by": own_subject(),
    });
    let answer = ctx.target()?.operator().await?.command("runtime.token", asked).await?;
    if ctx.render.format.is_some() {
        return ctx.render.one("runtime-token.v1", "token", &answer);
    }
    line(answer.get("token").and_then(|t| t.as_str()).unwrap_or_default())
}
