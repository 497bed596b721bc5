//! `custody open`: the address of the web, or of one thing on it. It starts a browser only where there is a screen.

use super::Ctx;
use crate::error::{CliError, CliResult, exit};
use crate::render::{line, notice};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::process::Stdio;

/// Print the address of the web, and open it where there is a screen.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The browser is $BROWSER, else xdg-open, and only on a terminal with a screen.\n\nExamples:\n  custody open\n  custody open d-7f3a\n  custody open s-1 --print\n  custody open 42            the audit row at this sequence"
)]
pub(crate) struct OpenArgs {
    /// A dispatch or session id or unique prefix, `last`, or a ledger sequence
    id: Option<String>,
    /// Only print it
    #[arg(long)]
    print: bool,
}

pub(crate) async fn run(ctx: &Ctx, args: OpenArgs) -> CliResult {
    let target = ctx.target()?;
    let base = match (target.home.up().and_then(|up| up.http_url), target.config.http.origins.first()) {
        (Some(url), _) => url,
        (None, Some(origin)) => origin.clone(),
        (None, None) => {
            return Err(CliError::new(exit::UNREACHABLE, "NOT_RUNNING", "no web runs here").hint("custody up --detach"));
        }
    };
    let page = match &args.id {
        None => String::new(),
        Some(id) if id.parse::<u64>().is_ok() => ["/audit/", id].concat(),
        Some(id) => find(&target.operator().await?, id).await?,
    };
    let url = [base.trim_end_matches('/'), &page].concat();
    if ctx.render.format.is_some() {
        return ctx.render.one("open.v1", "url", &json!({ "url": url }));
    }
    line(&url)?;
    let screen =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()));
    if !args.print && screen && std::io::stdout().is_terminal() {
        browse(&url);
    }
    Ok(())
}

/// The page of an id: a dispatch's, else a session's.
async fn find(operator: &crate::client::Operator, id: &str) -> CliResult<String> {
    let of = |answer: &Value, name: &str| {
        answer.pointer(&["/row/", name].concat()).and_then(Value::as_str).map(str::to_owned)
    };
    match operator.query("dispatch.get", json!({ "id": id })).await {
        Ok(answer) => Ok(["/dispatches/", &of(&answer, "dispatch").unwrap_or_default()].concat()),
        Err(error) if error.exit == exit::NOT_FOUND => {
            let answer = operator.query("session.get", json!({ "id": id })).await?;
            Ok(["/chat/", &of(&answer, "session").unwrap_or_default()].concat())
        }
        Err(error) => Err(error),
    }
}

fn browse(url: &str) {
    let program = std::env::var("BROWSER").ok().filter(|b| !b.is_empty()).unwrap_or_else(|| "xdg-open".into());
    let started = std::process::Command::new(&program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        notice(format!("{program} does not start: {error}"));
    }
}
