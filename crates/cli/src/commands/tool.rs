//! `custody tool`: what dispatches may call, and what was accepted of each upstream. It writes files only; a running
//! installation reads them at the next call.

use super::Ctx;
use crate::client::Target;
use crate::error::{CliError, CliResult, exit};
use crate::render::{Format, col, line, notice, wide};
use crate::server::identity;
use custody_contracts::tool::{Tool, ToolGrant};
use custody_domain::tool::{Definition, Offered, Tools};
use custody_engine::tools::{ToolError, accepted_path, document_path, documents, read_accepted, read_document};
use custody_engine::upstream::Upstreams;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Tools: ls, show, add, accept, rm.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ToolCommand {
    /// Every tool, and whether it is offered
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  custody tool ls\n  custody tool ls -o json | jq '.items[] | select(.offered == false)'"
    )]
    Ls,
    /// A tool's document, tool.v1, and what was accepted of its upstream
    #[command(visible_alias = "get", after_help = "Examples:\n  custody tool show mail__send")]
    Show {
        /// Its name
        name: String,
    },
    /// Add a tool, or change one: a tool.v1 document
    #[command(
        after_help = "A tool of an upstream is named <server>__<its name there>, and its server stands in [tools.servers] of the\nconfiguration. It is offered once its definition is accepted. A document of a builtin tool narrows it.\n\nExamples:\n  custody tool add mail-send.json\n  custody tool accept mail__send"
    )]
    Add {
        /// The document
        file: PathBuf,
    },
    /// Accept what an upstream says of its tool: its name, description and arguments, as they are now
    #[command(
        after_help = "Models are told what was accepted and nothing newer. When the upstream says something else later, calls are refused\nas TOOL_CHANGED until it is accepted again.\nA server that is a command is started here for this, and ended.\nA server that takes tokens is asked without one.\n\nExamples:\n  custody tool accept mail__send\n  custody tool accept mail__send --digest sha256:…"
    )]
    Accept {
        /// The tool
        name: String,
        /// Accept only this definition
        #[arg(long, value_name = "DIGEST")]
        digest: Option<String>,
    },
    /// Take a tool away
    #[command(visible_alias = "remove", after_help = "Examples:\n  custody tool rm mail__send")]
    Rm {
        /// Its name
        name: String,
    },
}

pub(crate) async fn run(ctx: &Ctx, command: ToolCommand) -> CliResult {
    let target = ctx.target()?;
    let folder = target.config.tools.folder(&target.home);
    match command {
        ToolCommand::Ls => ls(ctx, &target, &folder),
        ToolCommand::Show { name } => show(ctx, &folder, &name),
        ToolCommand::Add { file } => add(&target, &folder, &file),
        ToolCommand::Accept { name, digest } => accept(ctx, &target, &folder, &name, digest.as_deref()).await,
        ToolCommand::Rm { name } => rm(&folder, &name),
    }
}

fn broken(error: ToolError) -> CliError {
    CliError::new(exit::FAILED, "TOOL_INVALID", error).hint("custody contract validate tool.v1 FILE")
}

fn unknown(name: &str) -> CliError {
    CliError::new(exit::NOT_FOUND, "TOOL_UNKNOWN", format!("there is no tool {name:?}")).hint("custody tool ls")
}

/// Why a tool is not offered; `None` when it is.
fn why_not(target: &Target, folder: &Path, document: &Tool) -> CliResult<Option<String>> {
    if let Some(server) = document.mcp_server.as_ref().filter(|s| !target.config.tools.servers.contains_key(*s)) {
        return Ok(Some(format!("server {server:?} is not in [tools.servers]")));
    }
    let accepted = read_accepted(folder, &document.name).map_err(broken)?;
    Ok(Offered::read(document.clone(), accepted.as_ref()).err().map(|why| why.to_string()))
}

fn ls(ctx: &Ctx, target: &Target, folder: &Path) -> CliResult {
    let mut rows = std::collections::BTreeMap::new();
    for tool in Tools::builtin().all() {
        rows.insert(tool.document().name.clone(), row(tool.document(), None));
    }
    for path in documents(folder).map_err(broken)? {
        match read_document(&path) {
            Ok(document) => {
                let why = why_not(target, folder, &document)?;
                rows.insert(document.name.clone(), row(&document, why));
            }
            Err(error) => {
                let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
                rows.insert(name.clone(), json!({ "name": name, "offered": false, "why_not": error.to_string() }));
            }
        }
    }
    let columns = [
        col("NAME", "name"),
        col("SCOPE", "scope"),
        col("EFFECT", "effect"),
        col("APPROVAL", "approval"),
        col("SERVER", "server"),
        col("OFFERED", "offered"),
        wide("CONSTRAINTS", "constraints"),
        wide("WHY-NOT", "why_not"),
    ];
    ctx.render.list("tools.v1", "name", &columns, &rows.into_values().collect::<Vec<_>>())
}

fn row(document: &Tool, why_not: Option<String>) -> Value {
    json!({
        "name": document.name,
        "scope": document.scope,
        "effect": document.effect,
        "approval": document.grant == ToolGrant::Gate,
        "server": document.mcp_server.as_deref().unwrap_or("builtin"),
        "constraints": document.constraints.len(),
        "offered": why_not.is_none(),
        "why_not": why_not,
    })
}

fn show(ctx: &Ctx, folder: &Path, name: &str) -> CliResult {
    let path = document_path(folder, name);
    let own = Tools::builtin();
    let document = match (path.exists(), own.get(name)) {
        (true, _) => read_document(&path).map_err(broken)?,
        (false, Some(tool)) => tool.document().clone(),
        (false, None) => return Err(unknown(name)),
    };
    let accepted = read_accepted(folder, name).map_err(broken)?;
    let mut whole = json!({ "document": document });
    if let Some(accepted) = accepted {
        whole["accepted_digest"] = accepted.digest().into();
        whole["accepted"] = serde_json::to_value(accepted)?;
    }
    match ctx.render.format {
        None | Some(Format::Json | Format::Table) => line(serde_json::to_string_pretty(&whole)?),
        Some(Format::Jsonl) => line(whole),
        Some(_) => ctx.render.one("tool.v1", "name", &whole["document"]),
    }
}

fn add(target: &Target, folder: &Path, file: &Path) -> CliResult {
    let document = read_document(file).map_err(broken)?;
    if let Some(why) = why_not(target, folder, &document)? {
        // What is only not accepted yet is good; anything else would never be offered.
        let waits = document.mcp_server.as_ref().is_some_and(|s| target.config.tools.servers.contains_key(s))
            && read_accepted(folder, &document.name).map_err(broken)?.is_none();
        if !waits {
            return Err(CliError::new(exit::USAGE, "TOOL_INVALID", why).hint("ops/custody.toml explains [tools]"));
        }
    }
    let name = document.name.clone();
    write(&document_path(folder, &name), &serde_json::to_value(&document)?)?;
    let upstream = document.mcp_server.is_some();
    if upstream && read_accepted(folder, &name).map_err(broken)?.is_none() {
        notice(format!("it is offered once its definition is accepted: custody tool accept {name}"));
    }
    line(name)
}

async fn accept(ctx: &Ctx, target: &Target, folder: &Path, name: &str, digest: Option<&str>) -> CliResult {
    let path = document_path(folder, name);
    if !path.exists() {
        return Err(unknown(name));
    }
    let document = read_document(&path).map_err(broken)?;
    if document.name != name {
        return Err(unknown(name));
    }
    let Some(server) = document.mcp_server.clone() else {
        return Err(CliError::new(exit::USAGE, "TOOL_BUILTIN", format!("{name} is the gateway's own")));
    };
    let unusable = |e: &dyn std::fmt::Display| CliError::new(exit::USAGE, "TOOLS_INVALID", e);
    let cancel = CancellationToken::new();
    let _stop = cancel.clone().drop_guard();
    let identity = identity::now(target, cancel).await?;
    let servers = target.config.tools.servers(&target.home);
    let upstreams = Upstreams::new(&servers, Arc::new(target.home.secrets()), identity).map_err(|e| unusable(&e))?;
    let found = upstreams.definitions(&server).await;
    upstreams.end().await;
    let takes_tokens = servers.get(&server).is_some_and(|at| at.audience.is_some() || at.exchange.is_some());
    let found = found.map_err(|why| unanswered(why, takes_tokens))?;
    let own = name.get(server.len() + 2..).unwrap_or_default();
    let Some(definition) = found.get(own) else {
        let known = found.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(CliError::new(exit::NOT_FOUND, "TOOL_GONE", format!("server {server} has no tool {own:?}"))
            .hint(format!("it has {known}")));
    };
    if digest.is_some_and(|wanted| wanted != definition.digest()) {
        let what = format!("server {server} says something else of {own}: {}", definition.digest());
        return Err(CliError::new(exit::CONFLICT, "TOOL_CHANGED", what).hint("look at it without --digest"));
    }
    let before = read_accepted(folder, name).map_err(broken)?;
    // What cannot be offered is not accepted either.
    Offered::read(document, Some(definition)).map_err(|e| unusable(&e))?;
    print(ctx, before.as_ref(), definition)?;
    write(&accepted_path(folder, name), &serde_json::to_value(definition)?)
}

/// A server that did not say what it has.
fn unanswered((code, detail): (&'static str, String), takes_tokens: bool) -> CliError {
    let error = CliError::new(exit::UNREACHABLE, code, detail);
    match takes_tokens {
        // Tokens are of dispatches, and whoever accepts a tool has none.
        true => error.hint("it is asked without a token here: let it say what tools it has to who shows none"),
        false => error,
    }
}

fn print(ctx: &Ctx, before: Option<&Definition>, now: &Definition) -> CliResult {
    let changed = before.is_none_or(|before| before.digest() != now.digest());
    let whole = json!({ "name": now.name, "digest": now.digest(), "changed": changed, "definition": now });
    if ctx.render.is_json() {
        return ctx.render.one("tool-accepted.v1", "name", &whole);
    }
    if let Some(before) = before.filter(|_| changed) {
        notice(format!("was: {}", serde_json::to_string(before)?));
    }
    notice(format!("is: {}", serde_json::to_string(now)?));
    line(now.digest())
}

fn rm(folder: &Path, name: &str) -> CliResult {
    let path = document_path(folder, name);
    // The name is one only if it is a file of this folder.
    if !documents(folder).map_err(broken)?.contains(&path) {
        return Err(unknown(name));
    }
    std::fs::remove_file(&path)?;
    match std::fs::remove_file(accepted_path(folder, name)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => line(name),
    }
}

/// Writes a document, whole or not at all.
fn write(path: &Path, value: &Value) -> CliResult {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let draft = path.with_extension(format!("new{}", std::process::id()));
    std::fs::write(&draft, serde_json::to_string_pretty(value)? + "\n")?;
    Ok(std::fs::rename(draft, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::takes_tokens(true, true)]
    #[case::takes_a_secret(false, false)]
    fn who_cannot_show_a_token_is_told_that_it_is_one(#[case] takes_tokens: bool, #[case] told: bool) {
        let error = unanswered(("UPSTREAM_UNREACHABLE", "did not greet: 401".into()), takes_tokens);
        assert_eq!((error.code.as_str(), error.hint.is_some()), ("UPSTREAM_UNREACHABLE", told));
    }
}
