//! `custody runner`: the agents that this installation can run, how their images are made, and a self-test.

mod build;
mod judge;
mod model;
mod script;
mod verify;
mod wire;

use super::Ctx;
use crate::client::Target;
use crate::error::{CliError, CliResult, exit};
use crate::render::{Format, col, line, notice, wide};
use custody_contracts::runner::Runner;
use custody_docker::{Docker, Profile};
use custody_engine::runners::{RunnerError, Runners, read_document};
use custody_ports::containers::{BoxError, Containers};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the engine may take to say whether it has an image.
const ENGINE_WAIT: Duration = Duration::from_secs(5);

/// Runners: ls, get, build, verify.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RunnerCommand {
    /// Every installed runner, and whether its image is on this machine
    #[command(visible_alias = "list", after_help = "Examples:\n  custody runner ls\n  custody runner ls -o name")]
    Ls,
    /// A runner's document, agent-runner.v2
    #[command(
        visible_alias = "show",
        after_help = "Examples:\n  custody runner get custody-agent\n  custody runner get custody-agent | custody contract validate agent-runner.v2 -"
    )]
    Get {
        /// Its name
        name: String,
    },
    /// Make a runner's image from its recipe and give it to the container engine
    Build(build::BuildArgs),
    /// Test each capability of a runner through the whole platform, against a model that follows a script
    Verify(verify::VerifyArgs),
}

pub(crate) async fn run(ctx: &Ctx, command: RunnerCommand) -> CliResult {
    match command {
        RunnerCommand::Ls => ls(ctx, &ctx.target()?).await,
        RunnerCommand::Get { name } => get(ctx, &ctx.target()?, &name),
        RunnerCommand::Build(args) => build::run(ctx, args).await,
        RunnerCommand::Verify(args) => Box::pin(verify::run(ctx, args)).await,
    }
}

fn broken(error: RunnerError) -> CliError {
    CliError::new(exit::FAILED, "RUNNER_INVALID", error).hint("custody contract validate agent-runner.v2 FILE")
}

/// The engine, to be asked about images only.
pub(crate) fn engine() -> Result<Docker, BoxError> {
    Docker::from_env(Profile { mount_roots: Vec::new(), runtime: None })
}

/// `yes`, `no` or `unknown`, and why it is unknown.
pub(crate) async fn image_present(image: &str) -> (&'static str, Option<String>) {
    let engine = match engine() {
        Ok(engine) => engine,
        Err(error) => return ("unknown", Some(error.to_string())),
    };
    match tokio::time::timeout(ENGINE_WAIT, engine.has_image(image)).await {
        Ok(Ok(true)) => ("yes", None),
        Ok(Ok(false)) => ("no", None),
        Ok(Err(error)) => ("unknown", Some(error.to_string())),
        Err(_) => ("unknown", Some(format!("no answer in {} s", ENGINE_WAIT.as_secs()))),
    }
}

async fn ls(ctx: &Ctx, target: &Target) -> CliResult {
    let folder = target.config.runners_folder();
    let runners = Runners::read(&folder).map_err(broken)?.all();
    if runners.is_empty() {
        notice(format!("no runner is installed in {}: custody runner build custody-agent", folder.display()));
    }
    let mut rows = Vec::new();
    let mut told = false;
    for runner in &runners {
        let (present, why) = image_present(&runner.image).await;
        if let Some(why) = why.filter(|_| !told) {
            notice(format!("images cannot be looked for: {why}"));
            told = true;
        }
        let mut row = serde_json::to_value(runner)?;
        row["image_present"] = present.into();
        row["resumes"] = (!runner.session.resume_argv.is_empty()).into();
        rows.push(row);
    }
    let columns = [
        col("NAME", "name"),
        col("VERSION", "version"),
        col("MODEL-API", "inference"),
        col("RESUMES", "resumes"),
        col("IMAGE-PRESENT", "image_present"),
        col("LICENCE", "licence"),
        wide("IMAGE", "image"),
        wide("HOMEPAGE", "homepage"),
    ];
    ctx.render.list("runner.v1", "name", &columns, &rows)
}

/// The document of a runner: its file, and what it says or why it cannot be read.
fn find(folder: &Path, name: &str) -> CliResult<(PathBuf, Result<Runner, RunnerError>)> {
    let mut files: Vec<PathBuf> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|e| Some(e.ok()?.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    files.retain(|f| f.extension().is_some_and(|e| e == "json"));
    files.sort();
    let mut named = None;
    for file in files {
        let read = read_document(&file);
        if read.as_ref().is_ok_and(|r| r.name.as_str() == name) {
            return Ok((file, read));
        }
        // A document that cannot be read has no name of its own; its file's name says whose it is.
        let stem = file.file_name().and_then(|f| f.to_str()).and_then(|f| f.split('.').next());
        if read.is_err() && stem == Some(name) {
            named = Some((file, read));
        }
    }
    named.ok_or_else(|| {
        CliError::new(exit::NOT_FOUND, "RUNNER_UNKNOWN", format!("no runner {name:?} in {}", folder.display()))
            .hint("custody runner ls")
    })
}

fn get(ctx: &Ctx, target: &Target, name: &str) -> CliResult {
    let (_, runner) = find(&target.config.runners_folder(), name)?;
    let document = serde_json::to_value(runner.map_err(broken)?)?;
    match ctx.render.format {
        None | Some(Format::Json | Format::Table) => line(serde_json::to_string_pretty(&document)?),
        Some(Format::Jsonl) => line(document),
        Some(_) => ctx.render.one("agent-runner.v2", "name", &document),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_document_is_found_by_its_files_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine.runner.json"), "{}").unwrap();
        assert!(find(folder.path(), "mine").unwrap().1.is_err());
        assert_eq!(find(folder.path(), "other").unwrap_err().exit, exit::NOT_FOUND);
        assert_eq!(find(&folder.path().join("none"), "mine").unwrap_err().exit, exit::NOT_FOUND);
    }
}
