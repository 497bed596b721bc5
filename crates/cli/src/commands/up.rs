//! `custody up`: everything on this machine, in one process beside a supervised nats-server.

use super::Ctx;
use crate::client::Target;
use crate::error::{CliError, CliResult, exit};
use crate::home::{UpFile, process_started};
use crate::render::{line, notice};
use crate::server::roles::Roles;
use crate::server::{disk, local, web};
use custody_contracts::events::DispatchStopRequested;
use custody_engine::authority::commands::Commands;
use custody_ports::requests::Request;
use serde_json::json;
use std::process::Stdio;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long `--detach` waits for the new process to be ready.
const READY_WAIT: Duration = Duration::from_secs(90);
/// How long running boxes get at shutdown.
const DRAIN_WAIT: Duration = Duration::from_secs(20);

/// Start everything on this machine.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  custody up                       in the foreground, until Ctrl-C\n  custody up --detach              in the background; custody down stops it\n  custody up --model-url http://127.0.0.1:8080/v1"
)]
pub(crate) struct UpArgs {
    /// Run in the background and return when it is ready
    #[arg(long)]
    detach: bool,
    /// An OpenAI- or Anthropic-compatible endpoint instead of the configured or local model; $CUSTODY_MODEL names the
    /// model, $CUSTODY_MODEL_KEY_FILE a file with the key
    #[arg(long, env = "CUSTODY_MODEL_URL")]
    model_url: Option<String>,
}

pub(crate) async fn run(ctx: &Ctx, args: UpArgs) -> CliResult {
    let target = ctx.target()?;
    if target.config.nats.url.is_some() {
        return Err(CliError::new(exit::USAGE, "OUTSIDE_NATS", "the configuration names an outside NATS")
            .hint("custody serve --roles all"));
    }
    if let Some(up) = target.home.up() {
        if args.detach {
            notice(format!("already running (pid {})", up.pid));
            return ready(&up);
        }
        return Err(CliError::new(
            exit::CONFLICT,
            "ALREADY_RUNNING",
            format!("Custody runs here already (pid {})", up.pid),
        )
        .hint("custody status, or custody down first"));
    }
    target.home.prepare()?;
    // Before the process that goes on without a terminal: its log must not hold the key.
    if let Some((subject, key)) = web::first_user(&target)? {
        line(format!("admin key of {subject}, shown only now: {key}"))?;
    }
    if args.detach {
        return detach(&target, args).await;
    }
    Box::pin(foreground(target, args)).await
}

async fn detach(target: &Target, args: UpArgs) -> CliResult {
    let log = target.home.path("run/up.log");
    let out = std::fs::File::create(&log)?;
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.arg("up").arg("--state").arg(target.home.root());
    if let Some(url) = args.model_url {
        command.arg("--model-url").arg(url);
    }
    // The configuration file was found by the environment or its default place, which the child shares; a flag is passed on.
    if let Some(position) = std::env::args().position(|a| a == "--config")
        && let Some(path) = std::env::args().nth(position + 1)
    {
        command.arg("--config").arg(path);
    }
    let mut child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0).spawn()?;
    let until = tokio::time::Instant::now() + READY_WAIT;
    let mut told = tokio::time::Instant::now();
    loop {
        if let Some(up) = target.home.up() {
            return ready(&up);
        }
        if let Some(status) = child.try_wait()? {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let last: Vec<&str> = text.lines().rev().take(8).collect();
            for line in last.into_iter().rev() {
                notice(line);
            }
            let code = status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(exit::FAILED);
            return Err(CliError::new(code, "NOT_STARTED", format!("custody up ended before it was ready ({status})"))
                .hint(format!("the whole log is {}", log.display())));
        }
        if tokio::time::Instant::now() >= until {
            child.kill().await?;
            return Err(CliError::new(
                exit::TIMED_OUT,
                "NOT_READY",
                format!("not ready after {} s", READY_WAIT.as_secs()),
            )
            .hint(format!("the log is {}", log.display())));
        }
        if told.elapsed() > Duration::from_secs(5) {
            notice("still starting");
            told = tokio::time::Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn ready(up: &UpFile) -> CliResult {
    line(format!("Custody {} runs: NATS at {}, model {}, pid {}", up.version, up.nats_url, up.model, up.pid))?;
    match &up.http_url {
        Some(url) => line(format!("open {url}")),
        None => Ok(()),
    }
}

async fn foreground(target: Target, args: UpArgs) -> CliResult {
    init_tracing();
    let lock = std::fs::File::create(target.home.path("run/lock"))?;
    if lock.try_lock().is_err() {
        return Err(CliError::new(
            exit::CONFLICT,
            "ALREADY_RUNNING",
            "another custody up is starting in this state folder",
        )
        .hint("custody status"));
    }
    // Signals are listened to from here on: a TERM while starting stops in an orderly way too.
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let cancel = CancellationToken::new();
    let helpers = cancel.child_token();
    let server = local::start_nats(&target).await?;
    let started = async {
        local::prepare_streams(&target, &server).await?;
        let (model, child) = local::model(&target, args.model_url.clone(), &helpers).await?;
        let mut up = up_file(&server, model.as_ref().map_or("none", |m| m.model.as_str()));
        // Roles connect through the same file that clients read, so it is there before them, under another name.
        let target = Target { config: with_url(&target, server.url()), ..target.clone() };
        let models = target.config.models(model);
        let mut roles = Roles::new(target, models, cancel.clone())?;
        let authority = local::start_roles(&mut roles).await?;
        up.http_url = Some(roles.api().await?);
        Ok::<_, CliError>((up, roles, authority, child))
    };
    let outcome = tokio::select! {
        started = started => started,
        _ = term.recv() => Err(CliError::new(exit::INTERRUPTED, "INTERRUPTED", "stopped while starting")),
        _ = int.recv() => Err(CliError::new(exit::INTERRUPTED, "INTERRUPTED", "stopped while starting")),
    };
    let (up, roles, authority, model) = match outcome {
        Ok(all) => all,
        Err(error) => {
            cancel.cancel();
            server.stop().await;
            return Err(error);
        }
    };
    let accounts = tokio::spawn(local::keep_accounts(
        target.clone(),
        server.clone(),
        authority.launchers.clone(),
        helpers.clone(),
    ));
    let watching = tokio::spawn(local::watch_server(server.clone(), helpers.clone()));
    let disk = tokio::spawn(disk::watch(server.clone(), target.home.path("nats"), helpers.clone()));
    local::register_own(&target, &authority).await?;
    local::grant_own(&target, &authority).await?;
    target.home.write_up(&up)?;
    ready(&up)?;
    let commands = authority.commands.clone();
    let mut joined = tokio::spawn(roles.join());
    // A task that has been waited for must not be waited for again.
    let mut over = false;
    let result = tokio::select! {
        ended = &mut joined => {
            over = true;
            ended.map_err(|e| CliError::new(exit::FAILED, "ROLE_FAILED", e)).and_then(|r| r)
        }
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
    };
    if result.is_ok() {
        drain(&target, &commands, &mut term, &mut int).await;
    }
    target.home.clear_up();
    cancel.cancel();
    helpers.cancel();
    if !over {
        // Roles end at their next await; what they could not record is recorded by the next start.
        let _late = tokio::time::timeout(Duration::from_secs(5), &mut joined).await;
    }
    if let Some(child) = model {
        let _ended = child.await;
    }
    server.stop().await;
    let _ended = (accounts.await, watching.await, disk.await);
    drop(lock);
    result
}

fn with_url(target: &Target, url: &str) -> crate::config::Config {
    let mut config = target.config.clone();
    config.nats.url = Some(url.to_owned());
    config.nats.credentials = Some(target.home.path("users"));
    config
}

fn up_file(server: &custody_nats::server::Supervised, model: &str) -> UpFile {
    let pid = std::process::id();
    UpFile {
        pid,
        started_ticks: process_started(pid).unwrap_or_default(),
        nats_url: server.url().to_owned(),
        model: model.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        nats_pid: server.pid(),
        http_url: None,
    }
}

/// Asks every open dispatch to stop and waits for their ends to be recorded, so that nothing of ours is left running.
async fn drain(
    target: &Target,
    commands: &Commands,
    term: &mut tokio::signal::unix::Signal,
    int: &mut tokio::signal::unix::Signal,
) {
    let Ok(operator) = target.operator().await else { return };
    let open = json!({ "status": ["queued", "starting", "running", "stopping"], "limit": 500 });
    let until = tokio::time::Instant::now() + DRAIN_WAIT;
    let mut asked = std::collections::BTreeSet::new();
    while tokio::time::Instant::now() < until {
        let Ok(answer) = operator.query("dispatch.ls", open.clone()).await else { return };
        let rows = crate::client::rows(&answer);
        if rows.is_empty() {
            return;
        }
        for row in rows {
            let Some(id) = row.get("dispatch").and_then(|d| d.as_str()) else { continue };
            if asked.insert(id.to_owned()) {
                notice(format!("stopping {id}"));
                stop_one(commands, id).await;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            _ = term.recv() => return,
            _ = int.recv() => return,
        }
    }
    notice("some dispatches did not end in time; the next start takes them up");
}

async fn stop_one(commands: &Commands, id: &str) {
    let Ok(dispatch) = custody_contracts::ids::DispatchId::parse(id) else { return };
    let event = DispatchStopRequested { dispatch, by: "custody-down".into(), grace_ms: 5_000, reason: None };
    let request = Request {
        subject: "command.dispatch.stop".into(),
        bytes: serde_json::to_vec(&event).unwrap_or_default(),
        reply_to: String::new(),
    };
    if let Err(error) = commands.carry_out(&request).await {
        notice(format!("{id} not asked to stop: {}", error.message));
    }
}

/// Traces go to standard error; `CUSTODY_LOG` chooses them.
pub(crate) fn init_tracing() {
    let filter = std::env::var("CUSTODY_LOG")
        .unwrap_or_else(|_| "warn,custody=info,custody_engine=info,custody_nats=info".into());
    let filter =
        tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // A second call finds the first one's subscriber in place.
    let _again = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(crate::render::stderr_is_terminal())
        .try_init();
}
