//! `custody runner verify`: a self-test of runners through the whole platform, against a scripted model. It has an
//! installation of its own in a folder of its own, so that nobody else's dispatch ever meets that model, and so that it
//! works when nothing runs here. Must never leave a box, a server or a folder behind.

use super::super::Ctx;
use super::super::run::{LaunchRequest, launch, own_subject, refused, unit, wait_end};
use super::judge::{Check, Seen, Status, Turn, checks};
use super::model::Model;
use super::script::{Plan, Step};
use super::{find, image_present};
use crate::client::{Operator, Target};
use crate::config::{Config, LocalModelConfig, RunnersConfig};
use crate::config_runtime::{PoolSection, RuntimeSection};
use crate::error::{CliError, CliResult, exit};
use crate::private::{self, Private};
use crate::render::{Render, col, notice};
use crate::server::local::CLI_LAUNCHER;
use custody_contracts::box_protocol::FrameBody;
use custody_contracts::canonical::hex;
use custody_contracts::events::{EffectEvent, Kind, LedgerEvent, RunEvent, ToolPhase};
use custody_contracts::isolation::Sockets;
use custody_contracts::messages::Chunk;
use custody_contracts::runner::{Inference, Runner};
use custody_contracts::unit::{Entrypoint, Limits, SessionStart, Start};
use custody_contracts::workspace::RunCommit;
use custody_engine::inference::{ModelConfig, RunnerModels};
use custody_engine::runners::Runners;
use custody_ledger::{Entity, Log, Recorded};
use custody_ports::output::Output;
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long one turn may take when `--timeout` says nothing.
const TURN_WAIT: Duration = Duration::from_secs(120);
/// The most calls of the MCP door that are looked for: the script makes one a turn.
const DOOR_CALLS_MAX: u32 = 8;
/// The tools that a runner with MCP is given.
const TOOLS: [&str; 3] = ["workspace_list", "workspace_read", "workspace_write"];

/// What `runner verify` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Five dispatches of each runner through an installation of its own, with a model that follows a script: a turn that\nwrites a file with a tool, a second turn in another container, a turn that the model refuses, and a turn in a box that\nlets every attempt at a network happen and counts it. Needs the container engine; nothing else has to run.\n\nExamples:\n  custody runner verify custody-agent\n  custody runner verify --all\n  custody runner verify custody-agent -o json | jq '.checks[]|select(.status!=\"pass\")'\n\nExit codes: 0 all passed, 3 no such runner, 8 no container engine, 10 a check failed."
)]
pub(crate) struct VerifyArgs {
    /// Its name
    #[arg(required_unless_present = "all")]
    name: Option<String>,
    /// Every installed runner that uses a model
    #[arg(long, conflicts_with = "name")]
    all: bool,
}

/// What came of one runner.
struct Verified {
    name: String,
    version: String,
    image: String,
    checks: Vec<Check>,
}

/// A runner to be tested.
struct Candidate {
    runner: Runner,
    plan: Plan,
    seen: Seen,
    before: Vec<Check>,
}

pub(super) async fn run(ctx: &Ctx, args: VerifyArgs) -> CliResult {
    let target = ctx.target()?;
    let folder = target.config.runners_folder();
    let mut verified = Vec::new();
    let mut candidates = Vec::new();
    for name in names(&args, &folder)? {
        let (path, document) = find(&folder, &name)?;
        let runner = match document {
            Ok(runner) => runner,
            Err(error) => {
                let checks = vec![Check::new("document", "document", Err(error.to_string()))];
                verified.push(Verified { name, version: String::new(), image: String::new(), checks });
                continue;
            }
        };
        if runner.inference == Inference::None {
            return Err(CliError::new(
                exit::USAGE,
                "RUNNER_USES_NO_MODEL",
                format!("{name} uses no model, and the self-test leads a runner by what its model says"),
            )
            .hint("custody run --runner shows what it does; custody doctor --sandbox runs the probe"));
        }
        let mut before =
            vec![Check::new("document", "document", Ok(format!("{} is a valid agent-runner.v2", path.display())))];
        match image_present(&runner.image).await {
            ("yes", _) => {
                before.push(Check::new("image", "image", Ok(runner.image.clone())));
                candidates.push(Candidate { runner, plan: plan()?, seen: Seen::default(), before });
            }
            ("no", _) => {
                let why = format!("{} is not on this machine: custody runner build {name}", runner.image);
                before.push(Check::new("image", "image", Err(why)));
                let (version, image) = (runner.version, runner.image);
                verified.push(Verified { name, version, image, checks: before });
            }
            (_, why) => {
                let why = why.unwrap_or_else(|| "it did not say why".to_owned());
                return Err(CliError::new(exit::UNREACHABLE, "ENGINE_UNREACHABLE", why)
                    .hint("ops/docker start; or name the engine in DOCKER_HOST"));
            }
        }
    }
    if !candidates.is_empty() {
        let limit = ctx.global.timeout.unwrap_or(TURN_WAIT);
        verified.extend(Box::pin(tested(&target.config, candidates, limit)).await?);
    }
    verified.sort_by(|a, b| a.name.cmp(&b.name));
    print(ctx, args.all, &verified)?;
    let failed = verified.iter().flat_map(|one| &one.checks).any(|check| check.status == Status::Fail);
    if failed { Err(CliError::exit_only(exit::ENDED_FAILED)) } else { Ok(()) }
}

fn names(args: &VerifyArgs, folder: &Path) -> CliResult<Vec<String>> {
    if let Some(name) = &args.name {
        return Ok(vec![name.clone()]);
    }
    let all = Runners::read(folder).map_err(super::broken)?.all();
    let (with, without): (Vec<_>, Vec<_>) = all.into_iter().partition(|r| r.inference != Inference::None);
    if !without.is_empty() {
        let names: Vec<String> = without.iter().map(|r| r.name.to_string()).collect();
        notice(format!("left out, for they use no model: {}", names.join(", ")));
    }
    if with.is_empty() {
        return Err(CliError::new(
            exit::NOT_FOUND,
            "NO_RUNNER",
            format!("no runner is installed in {}", folder.display()),
        )
        .hint("custody runner build custody-agent"));
    }
    Ok(with.into_iter().map(|r| r.name.to_string()).collect())
}

fn plan() -> CliResult<Plan> {
    Ok(Plan {
        key: hex(&crate::home::random::<6>()?),
        word: ["cedar-", &hex(&crate::home::random::<6>()?)].concat(),
        text: ["birch-", &hex(&crate::home::random::<6>()?)].concat(),
    })
}

/// Runs the tests, and clears up whatever happens.
async fn tested(config: &Config, candidates: Vec<Candidate>, limit: Duration) -> CliResult<Vec<Verified>> {
    let folder = std::env::temp_dir().join(["custody-verify-", &hex(&crate::home::random::<6>()?)].concat());
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let mut term = signal(SignalKind::terminate())?;
    let result = tokio::select! {
        result = Box::pin(test(&folder, config, candidates, limit)) => result,
        _ = tokio::signal::ctrl_c() => Err(CliError::exit_only(exit::INTERRUPTED)),
        _ = term.recv() => Err(CliError::exit_only(exit::INTERRUPTED)),
    };
    private::sweep(&folder).await;
    let kept = result.is_err() && std::env::var_os("CUSTODY_KEEP").is_some();
    if !kept && let Err(error) = std::fs::remove_dir_all(&folder) {
        notice(format!("{} not removed: {error}", folder.display()));
    }
    result
}

async fn test(folder: &Path, config: &Config, mut all: Vec<Candidate>, limit: Duration) -> CliResult<Vec<Verified>> {
    let socket = folder.join("model.sock");
    let model = Model::listen(&socket)?;
    std::fs::create_dir(folder.join("runners"))?;
    for one in &all {
        let file = folder.join("runners").join(format!("{}.runner.json", one.runner.name));
        std::fs::write(file, serde_json::to_vec(&one.runner)?)?;
        model.play(one.plan.clone());
    }
    let begun = private(folder, config, &all, &socket, Sockets::Unix).await?;
    let operator = begun.target.operator().await?;
    for one in &mut all {
        let Candidate { runner, plan, seen, .. } = one;
        let mut test = Test { target: &begun.target, operator: &operator, model: &model, runner, plan, limit };
        let first = test.turn(Step::First, None).await?;
        let session = first.row["session"].as_str().filter(|_| !first.row["session_digest"].is_null());
        if let Some(session) = session.filter(|_| !runner.session.resume_argv.is_empty()) {
            seen.second = Some(test.turn(Step::Second, Some(session)).await?);
        }
        seen.first = Some(first);
        seen.refused = Some(test.turn(Step::Refused, None).await?);
    }
    begun.stop().await?;
    let watching = private(folder, config, &all, &socket, Sockets::Watched).await?;
    let operator = watching.target.operator().await?;
    for one in &mut all {
        let Candidate { runner, plan, seen, .. } = one;
        let mut test = Test { target: &watching.target, operator: &operator, model: &model, runner, plan, limit };
        seen.watched = Some(test.turn(Step::Watched, None).await?);
    }
    watching.stop().await?;
    let verified = all.into_iter().map(|one| {
        let mut all = one.before;
        all.extend(checks(&one.runner, &one.plan, &one.seen));
        let Runner { name, version, image, .. } = one.runner;
        Verified { name: name.to_string(), version, image, checks: all }
    });
    Ok(verified.collect())
}

/// An installation with the settings of this one's boxes, and nothing else of it.
async fn private(
    folder: &Path,
    config: &Config,
    all: &[Candidate],
    socket: &Path,
    sockets: Sockets,
) -> CliResult<Private> {
    let file = folder.join(format!("{}.toml", sockets.as_str()));
    let names = all.iter().map(|one| (one.runner.name.to_string(), one.runner.inference));
    std::fs::write(&file, configuration(folder, config, names.collect(), socket, sockets)?)?;
    notice(match sockets {
        Sockets::Watched => "the same in boxes that let every attempt at a network happen and count it",
        Sockets::Unix | Sockets::Loopback => "starting an installation of its own for the test",
    });
    Private::start(folder, &file).await
}

fn configuration(
    folder: &Path,
    config: &Config,
    runners: Vec<(String, Inference)>,
    socket: &Path,
    sockets: Sockets,
) -> CliResult<String> {
    let upstream = |api: &str| -> CliResult<ModelConfig> {
        let url = format!("unix:{}", socket.display());
        Ok(serde_json::from_value(
            json!({ "name": "scripted", "url": url, "api": api, "model": "scripted", "max_retries": 0 }),
        )?)
    };
    let mut models = BTreeMap::new();
    for api in ["anthropic", "openai-responses"] {
        models.insert(api.to_owned(), upstream(api)?);
    }
    let own = |(name, inference): (String, Inference)| {
        let model = match inference {
            Inference::Anthropic => Some("anthropic".to_owned()),
            Inference::OpenaiResponses => Some("openai-responses".to_owned()),
            Inference::OpenaiChat | Inference::None => None,
        };
        (name, RunnerModels { model, names: BTreeMap::new() })
    };
    let private = Config {
        model: Some(upstream("openai-chat")?),
        models,
        local_model: LocalModelConfig { enabled: false, ..LocalModelConfig::default() },
        runners: RunnersConfig {
            folder: Some(folder.join("runners")),
            by_name: runners.into_iter().map(own).collect(),
        },
        runtime: RuntimeSection {
            backend: crate::config_runtime::BackendKind::Docker,
            http: None,
            kubernetes: None,
            pool: PoolSection::default(),
            sockets,
            ..config.runtime.clone()
        },
        nats: crate::config::NatsConfig { server: config.nats.server.clone(), ..Default::default() },
        ..Config::default()
    };
    // By way of a value, which writes simple fields before tables.
    let value = toml::Value::try_from(&private).map_err(|e| CliError::new(exit::FAILED, "CONFIG", e))?;
    toml::to_string(&value).map_err(|e| CliError::new(exit::FAILED, "CONFIG", e))
}

/// One runner in one installation.
struct Test<'a> {
    target: &'a Target,
    operator: &'a Operator,
    model: &'a Model,
    runner: &'a Runner,
    plan: &'a Plan,
    limit: Duration,
}

impl Test<'_> {
    /// One dispatch. What goes wrong with it is what it shows; only a broken installation is an error.
    async fn turn(&mut self, step: Step, session: Option<&str>) -> CliResult<Turn> {
        let name = self.runner.name.as_str();
        let prompt = self.plan.prompt(step);
        let start = match session {
            None => Start::Entrypoint(Entrypoint::Inline(prompt)),
            Some(session) => Start::Session(SessionStart { reference: session.to_owned(), inline: Some(prompt) }),
        };
        let wall_ms = u64::try_from(self.limit.as_millis()).ok();
        let limits = Some(Limits { wall_ms, ..Limits::default() });
        let workspaces = ["default:rw".to_owned()];
        let mut unit = unit(CLI_LAUNCHER, &own_subject(), name, &workspaces, start, limits)?;
        if self.runner.mcp.is_some() {
            unit.tools = TOOLS.map(str::to_owned).to_vec();
        }
        let reply = launch(self.target, LaunchRequest { launcher: CLI_LAUNCHER.into(), id: None, unit }).await?;
        if let Some(error) = refused(&reply) {
            let row = json!({ "dispatch": reply.dispatch, "status": "refused", "reason": error.code, "detail": error.message });
            return Ok(Turn { row, ..Turn::default() });
        }
        let dispatch = reply.dispatch.to_string();
        notice(format!("{name}: {} is dispatch {dispatch}", step.title()));
        let output = self.target.output(&self.operator.connection);
        let row = tokio::select! {
            row = wait_end(self.operator, &dispatch, self.limit + Duration::from_secs(30)) => row,
            never = self.pace(&output, &dispatch, step) => match never {},
        };
        let row = match row {
            Ok(row) => row,
            Err(error) if error.exit == exit::TIMED_OUT => {
                json!({ "dispatch": dispatch, "status": "running", "reason": "timed_out", "detail": error.message })
            }
            Err(error) => return Err(error),
        };
        Ok(Turn {
            row,
            frames: frames(&output, &dispatch).await?,
            commits: self.commits(&dispatch).await?,
            door_calls: self.door_calls(&dispatch).await?,
            heard: self.model.heard(self.plan, step),
        })
    }

    /// Tells the model when the first words of its answer have come through.
    async fn pace(&self, output: &dyn Output, dispatch: &str, step: Step) -> std::convert::Infallible {
        if let Ok(mut chunks) = output.follow(dispatch).await {
            while let Some(Ok(stored)) = chunks.next().await {
                let Ok(chunk) = serde_json::from_slice::<Chunk>(&stored.bytes) else { continue };
                if chunk.frames.iter().any(|frame| matches!(frame.body, FrameBody::Text { .. })) {
                    self.model.arrived(self.plan, step);
                    break;
                }
            }
        }
        std::future::pending().await
    }

    async fn events(&self, kind: Kind, entity: &str) -> CliResult<Vec<LedgerEvent>> {
        let entity = Entity::new(kind, entity).ok_or_else(|| CliError::new(exit::FAILED, "DISPATCH", entity))?;
        let stored = self.operator.log().await?.load(&entity).await;
        let stored = stored.map_err(|e| CliError::new(exit::UNREACHABLE, "LEDGER_UNAVAILABLE", e))?;
        let recorded = stored.iter().flat_map(|stored| Recorded::read(stored).unwrap_or_default());
        Ok(recorded.filter_map(|recorded| recorded.event).collect())
    }

    async fn commits(&self, dispatch: &str) -> CliResult<Vec<RunCommit>> {
        let events = self.events(Kind::Run, dispatch).await?;
        Ok(events
            .into_iter()
            .filter_map(|event| match event {
                LedgerEvent::Run(RunEvent::Finished(finished)) => Some(finished.commits),
                _ => None,
            })
            .flatten()
            .collect())
    }

    async fn door_calls(&self, dispatch: &str) -> CliResult<u32> {
        let mut found = 0;
        for n in 1..=DOOR_CALLS_MAX {
            let events = self.events(Kind::Effect, &format!("{dispatch}-t{n}")).await?;
            if events.is_empty() {
                break;
            }
            let done = |event: &LedgerEvent| matches!(event, LedgerEvent::Effect(EffectEvent::ToolFinished(e)) if e.phase == ToolPhase::Succeeded);
            found += u32::from(events.iter().any(done));
        }
        Ok(found)
    }
}

async fn frames(output: &dyn Output, dispatch: &str) -> CliResult<Vec<FrameBody>> {
    let stored = output.all(dispatch).await.map_err(|e| CliError::new(exit::UNREACHABLE, "OUTPUT_UNAVAILABLE", e))?;
    let mut all = Vec::new();
    for chunk in stored {
        let chunk: Chunk = serde_json::from_slice(&chunk.bytes)?;
        all.extend(chunk.frames.into_iter().map(|frame| frame.body));
    }
    Ok(all)
}

fn value(one: &Verified) -> CliResult<Value> {
    let mut row = json!({ "runner": one.name, "version": one.version, "image": one.image });
    row["passed"] = json!(one.checks.iter().all(|check| check.status != Status::Fail));
    row["checks"] = serde_json::to_value(&one.checks)?;
    Ok(row)
}

fn print(ctx: &Ctx, all: bool, verified: &[Verified]) -> CliResult {
    let rows = verified.iter().map(value).collect::<CliResult<Vec<_>>>()?;
    let whole = Render { no_trunc: true, ..ctx.render.clone() };
    if !all && let [row] = rows.as_slice() {
        if ctx.render.is_json() {
            return ctx.render.one("runner-verified.v1", "runner", row);
        }
        let checks = row["checks"].as_array().cloned().unwrap_or_default();
        let columns = [col("CAPABILITY", "capability"), col("STATUS", "status"), col("DETAIL", "detail")];
        return whole.list("runner-check.v1", "check", &columns, &checks);
    }
    if ctx.render.is_json() {
        return ctx.render.list("runner-verified.v1", "runner", &[], &rows);
    }
    let flat = rows.iter().map(|row| {
        let mut flat = json!({ "runner": row["runner"], "version": row["version"] });
        for check in row["checks"].as_array().into_iter().flatten() {
            if let Some(name) = check["check"].as_str() {
                let status = check["status"].as_str().unwrap_or_default();
                flat[name] = json!(if status == "not-declared" { "-" } else { status });
            }
        }
        flat
    });
    let columns = [
        col("RUNNER", "runner"),
        col("VERSION", "version"),
        col("IMAGE", "image"),
        col("TURN", "turn"),
        col("TEXT", "text"),
        col("TOOL-CALL", "tool_call"),
        col("TOOL-RESULT", "tool_result"),
        col("MCP", "mcp"),
        col("USAGE", "usage"),
        col("ERROR", "error"),
        col("SESSION", "session"),
        col("RESUME", "resume"),
        col("WORKSPACE", "workspace"),
        col("PACKETS", "packets"),
        col("LOOKUPS", "lookups"),
    ];
    whole.list("runner-verified.v1", "runner", &columns, &flat.collect::<Vec<_>>())?;
    for one in verified {
        for check in one.checks.iter().filter(|check| check.status == Status::Fail) {
            notice(format!("{}: {} failed: {}", one.name, check.capability, check.detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The private installation reads what was written for it, and has nothing of the person's own but how boxes are made.
    #[test]
    fn the_private_configuration_is_valid_and_has_nothing_of_the_persons_own() {
        let text = r#"
            state = "/somebody's"
            [model]
            name = "paid"
            url = "https://api.example.org"
            model = "large"
            [runtime]
            memory_bytes = 700000000
            [runtime.pool]
            size = 3
            [runtime.http]
            listen = "127.0.0.1:1"
            [telemetry]
            otlp_endpoint = "http://127.0.0.1:4318"
            [audit]
            copies = ["/copies"]
            [runners.a]
            model = "default"
        "#;
        let own: Config = toml::from_str(text).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let runners = vec![
            ("a".to_owned(), Inference::OpenaiChat),
            ("b".to_owned(), Inference::Anthropic),
            ("c".to_owned(), Inference::OpenaiResponses),
        ];
        let socket = Path::new("/x/model.sock");
        let written = configuration(folder.path(), &own, runners, socket, Sockets::Watched).unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, &written).unwrap();
        let read = Config::read(Some(&file)).unwrap();
        let models = read.models(read.default_model().cloned()).unwrap();
        models.check().unwrap();
        assert!(models.upstreams.values().all(|one| one.url == "unix:/x/model.sock"), "{written}");
        let alias = |runner| models.alias(runner, None);
        assert_eq!((alias("a"), alias("b"), alias("c")), ("default", "anthropic", "openai-responses"));
        let runtime = &read.runtime;
        assert_eq!((runtime.memory_bytes, runtime.pool.size, runtime.sockets), (700_000_000, 0, Sockets::Watched));
        assert!(
            runtime.http.is_none() && read.state.is_none() && !read.telemetry.wanted() && read.audit.copies.is_empty()
        );
    }
}
