//! `custody runner`: the agents that this installation can run, and a test of one by two turns of a real session.

use super::Ctx;
use super::run::{LaunchRequest, launch, own_subject, refused, unit, wait_end};
use crate::client::{Operator, Target};
use crate::error::{CliError, CliResult, exit};
use crate::render::{Format, Render, col, line, notice, wide};
use crate::server::local::CLI_LAUNCHER;
use custody_contracts::runner::{Inference, Runner};
use custody_contracts::unit::{Entrypoint, SessionStart, Start};
use custody_docker::{Docker, Profile};
use custody_engine::runners::{RunnerError, Runners, read_document};
use custody_ports::containers::{BoxError, Containers};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the engine may take to say whether it has an image.
const ENGINE_WAIT: Duration = Duration::from_secs(5);
/// How long one turn of a test may take when `--timeout` says nothing.
const TURN_WAIT: Duration = Duration::from_secs(300);

/// Runners: ls, get, verify.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RunnerCommand {
    /// Every installed runner, and whether its image is on this machine
    #[command(visible_alias = "list", after_help = "Examples:\n  custody runner ls\n  custody runner ls -o name")]
    Ls,
    /// A runner's document, agent-runner.v1
    #[command(
        visible_alias = "show",
        after_help = "Examples:\n  custody runner get custody-agent\n  custody runner get custody-agent | custody contract validate agent-runner.v1 -"
    )]
    Get {
        /// Its name
        name: String,
    },
    /// Check a runner by two turns of one session through the running installation
    #[command(
        after_help = "Launches two real dispatches with the configured model. The second must resume, in another container, from the file\nthat the first left.\n\nExamples:\n  custody runner verify custody-agent\n  custody runner verify custody-agent -o json --timeout 2m\n\nExit codes: 0 all passed, 3 no such runner, 10 a check failed."
    )]
    Verify {
        /// Its name
        name: String,
    },
}

pub(crate) async fn run(ctx: &Ctx, command: RunnerCommand) -> CliResult {
    let target = ctx.target()?;
    match command {
        RunnerCommand::Ls => ls(ctx, &target).await,
        RunnerCommand::Get { name } => get(ctx, &target, &name),
        RunnerCommand::Verify { name } => verify(ctx, &target, &name).await,
    }
}

fn broken(error: RunnerError) -> CliError {
    CliError::new(exit::FAILED, "RUNNER_INVALID", error).hint("custody contract validate agent-runner.v1 FILE")
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
        notice(format!("no runner is installed in {}: ops/up builds custody-agent", folder.display()));
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
        Some(_) => ctx.render.one("agent-runner.v1", "name", &document),
    }
}

/// One check of a runner.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
struct Check {
    check: &'static str,
    status: &'static str,
    detail: String,
}

fn check(name: &'static str, passed: bool, detail: impl Into<String>) -> Check {
    Check { check: name, status: if passed { "pass" } else { "fail" }, detail: detail.into() }
}

async fn verify(ctx: &Ctx, target: &Target, name: &str) -> CliResult {
    let (path, runner) = find(&target.config.runners_folder(), name)?;
    let mut checks = Vec::new();
    match runner {
        Err(error) => checks.push(check("document", false, error.to_string())),
        Ok(runner) => {
            checks.push(check("document", true, format!("{} is a valid agent-runner.v1", path.display())));
            let (present, why) = image_present(&runner.image).await;
            let detail = why
                .unwrap_or_else(|| format!("{} is {}here", runner.image, if present == "yes" { "" } else { "not " }));
            checks.push(check("image", present == "yes", detail));
            if present == "yes" {
                let limit = ctx.global.timeout.unwrap_or(TURN_WAIT);
                checks.extend(session(target, &runner, limit).await?);
            }
        }
    }
    print(ctx, name, &checks)?;
    match checks.iter().any(|c| c.status == "fail") {
        true => Err(CliError::exit_only(exit::ENDED_FAILED)),
        false => Ok(()),
    }
}

fn print(ctx: &Ctx, runner: &str, checks: &[Check]) -> CliResult {
    let rows = checks.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    if ctx.render.is_json() {
        return ctx.render.one("runner-verified.v1", "runner", &json!({ "runner": runner, "checks": rows }));
    }
    let columns = [col("CHECK", "check"), col("STATUS", "status"), col("DETAIL", "detail")];
    let render = Render { no_trunc: true, ..ctx.render.clone() };
    render.list("runner-verified.v1", "check", &columns, &rows)
}

/// Two turns of one session.
async fn session(target: &Target, runner: &Runner, limit: Duration) -> CliResult<Vec<Check>> {
    let operator = target.operator().await?;
    let prompt = "Answer with one short sentence: what is the capital of France?".to_owned();
    let first = turn(target, &operator, runner, Start::Entrypoint(Entrypoint::Inline(prompt)), limit).await?;
    let mut checks = first_turn(runner, &first);
    let session = first.get("session").and_then(Value::as_str).unwrap_or_default().to_owned();
    if runner.session.resume_argv.is_empty() || first.get("session_digest").is_none_or(Value::is_null) {
        return Ok(checks);
    }
    let inline = Some("Repeat your last answer in one short sentence.".to_owned());
    let start = Start::Session(SessionStart { reference: session, inline });
    let second = turn(target, &operator, runner, start, limit).await?;
    checks.extend(second_turn(&first, &second));
    Ok(checks)
}

async fn turn(
    target: &Target,
    operator: &Operator,
    runner: &Runner,
    start: Start,
    limit: Duration,
) -> CliResult<Value> {
    let unit = unit(CLI_LAUNCHER, &own_subject(), runner.name.as_str(), &[], start, None)?;
    let reply = launch(target, LaunchRequest { launcher: CLI_LAUNCHER.into(), id: None, unit }).await?;
    if let Some(error) = refused(&reply) {
        return Err(error);
    }
    notice(format!("dispatch {} runs", reply.dispatch));
    wait_end(operator, &reply.dispatch, limit).await
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn number(row: &Value, pointer: &str) -> u64 {
    row.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

fn ended(row: &Value) -> (bool, String) {
    let detail = row.get("detail").and_then(Value::as_str).map_or_else(String::new, |d| format!(": {d}"));
    let said =
        format!("{} {} after {} ms{detail}", text(row, "dispatch"), text(row, "reason"), number(row, "/usage/wall_ms"));
    (text(row, "status") == "completed", said)
}

fn one_end(name: &'static str, row: &Value) -> Check {
    let ends = number(row, "/terminal_events");
    check(name, ends == 1, format!("{ends} terminal events"))
}

/// What the record of a first turn must show.
fn first_turn(runner: &Runner, row: &Value) -> Vec<Check> {
    let (completed, said) = ended(row);
    let container = text(row, "container");
    let frames = number(row, "/output/frames");
    let calls = number(row, "/usage/model_calls");
    let mut checks = vec![
        check("first turn completes", completed, said),
        check("in a container", container.len() == 64, container),
        check("streams output", frames > 0, format!("{frames} frames, {} bytes", number(row, "/output/bytes"))),
        one_end("ends once", row),
    ];
    if runner.inference != Inference::None {
        checks.push(check("calls the model through the gateway", calls > 0, format!("{calls} calls")));
    }
    if !runner.session.resume_argv.is_empty() {
        let left = text(row, "session_digest");
        checks.push(check("leaves a session file", !left.is_empty(), left));
    }
    checks
}

/// What the record of a second turn must show beside the first.
fn second_turn(first: &Value, second: &Value) -> Vec<Check> {
    let (completed, said) = ended(second);
    let (before, after) = (text(first, "container"), text(second, "container"));
    let (left, resumed) = (text(first, "session_digest"), text(second, "resume_digest"));
    let grown = text(second, "session_digest");
    vec![
        check("second turn completes", completed, said),
        check("in another container", after.len() == 64 && after != before, after),
        check("resumes from that file", !resumed.is_empty() && resumed == left, resumed),
        check("the session goes on", !grown.is_empty() && grown != left, grown),
        one_end("second turn ends once", second),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn row(container: char, resumed: Option<&str>, left: &str) -> Value {
        json!({
            "dispatch": "d-a", "status": "completed", "reason": "completed", "container": container.to_string().repeat(64),
            "terminal_events": 1, "resume_digest": resumed, "session_digest": left,
            "output": { "frames": 3, "bytes": 20 }, "usage": { "wall_ms": 5, "model_calls": 1 },
        })
    }

    fn failed(checks: &[Check]) -> Vec<&'static str> {
        checks.iter().filter(|c| c.status == "fail").map(|c| c.check).collect()
    }

    fn change(mut row: Value, field: &str, value: Value) -> Value {
        row[field] = value;
        row
    }

    #[rstest]
    #[case::good(row('b', Some("sha256:one"), "sha256:two"), &[])]
    #[case::the_same_container(row('a', Some("sha256:one"), "sha256:two"), &["in another container"])]
    #[case::from_nothing(row('b', None, "sha256:two"), &["resumes from that file"])]
    #[case::from_elsewhere(row('b', Some("sha256:x"), "sha256:two"), &["resumes from that file"])]
    #[case::nothing_added(row('b', Some("sha256:one"), "sha256:one"), &["the session goes on"])]
    #[case::two_ends(change(row('b', Some("sha256:one"), "sha256:two"), "terminal_events", json!(2)), &["second turn ends once"])]
    #[case::failed(change(row('b', Some("sha256:one"), "sha256:two"), "status", json!("ended")), &["second turn completes"])]
    fn a_second_turn(#[case] second: Value, #[case] wrong: &[&str]) {
        let first = row('a', None, "sha256:one");
        assert_eq!(failed(&second_turn(&first, &second)), wrong);
    }

    fn sample() -> Runner {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/agent-runner.v1/golden");
        let files = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path());
        let mut all = files.filter_map(|f| read_document(&f).ok());
        all.find(|r| r.inference != Inference::None && !r.session.resume_argv.is_empty()).unwrap()
    }

    #[rstest]
    #[case::good(row('a', None, "sha256:one"), &[])]
    #[case::no_container(change(row('a', None, "sha256:one"), "container", Value::Null), &["in a container"])]
    #[case::silent(change(row('a', None, "sha256:one"), "output", json!({ "frames": 0 })), &["streams output"])]
    #[case::no_model(change(row('a', None, "sha256:one"), "usage", json!({})), &["calls the model through the gateway"])]
    #[case::no_session(change(row('a', None, "sha256:one"), "session_digest", Value::Null), &["leaves a session file"])]
    fn a_first_turn(#[case] row: Value, #[case] wrong: &[&str]) {
        assert_eq!(failed(&first_turn(&sample(), &row)), wrong);
    }

    #[test]
    fn a_broken_document_is_found_by_its_files_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine.runner.json"), "{}").unwrap();
        assert!(find(folder.path(), "mine").unwrap().1.is_err());
        assert_eq!(find(folder.path(), "other").unwrap_err().exit, exit::NOT_FOUND);
        assert_eq!(find(&folder.path().join("none"), "mine").unwrap_err().exit, exit::NOT_FOUND);
    }
}
