//! `custody doctor --sandbox`: a probe as a dispatch through the whole platform, and beside each thing that it measures
//! from inside what the engine says it set. Must never pass a control that nobody measured: what this host cannot have is
//! a skip with its reason.

mod rows;

use super::super::Ctx;
use super::super::run::{LaunchRequest, launch, own_subject, refused, unit, wait_end};
use super::super::runner::engine as container_engine;
use crate::client::{Operator, Target};
use crate::error::{CliError, CliResult, exit};
use crate::render::{Render, col, notice, wide};
use crate::server::local::CLI_LAUNCHER;
use custody_contracts::box_protocol::FrameBody;
use custody_contracts::events::{InForce, Kind, LedgerEvent, RunClaimed, RunEvent};
use custody_contracts::isolation::Sockets;
use custody_contracts::messages::Chunk;
use custody_contracts::unit::{Entrypoint, Limits, Start};
use custody_docker::spec::sorted_json;
use custody_engine::runners::Runners;
use custody_engine::runtime::Classes;
use custody_ledger::{Entity, Log, Recorded};
use custody_ports::containers::{Containers, EngineFacts};
use custody_ports::output::Output;
use rows::{Row, Status};
use serde_json::{Value, json};
use std::time::Duration;

/// The probe's runner for each profile.
const PROBES: [(Sockets, &str); 2] = [(Sockets::Unix, "probe"), (Sockets::Loopback, "probe-loopback")];
/// How long the probe waits before it begins, so that its box can be looked at.
const HOLD: Duration = Duration::from_secs(3);
/// How long one probe may take.
const PROBE_MAX: Duration = Duration::from_secs(120);
/// How long until its claim is in the ledger.
const CLAIM_MAX: Duration = Duration::from_secs(60);
/// The deadline that a box is made to outstay.
const SHORT_LIFE: Duration = Duration::from_secs(2);

/// One probe, from outside and inside.
struct Probed {
    claimed: RunClaimed,
    in_force: Option<InForce>,
    /// The engine's inspect answer, while it ran.
    inspect: Value,
    /// The probe's lines.
    lines: Vec<Value>,
    row: Value,
}

pub(super) async fn run(ctx: &Ctx) -> CliResult {
    let target = ctx.target()?;
    let operator = target.operator().await?;
    let engine = container_engine().map_err(|e| CliError::new(exit::UNREACHABLE, "ENGINE_UNREACHABLE", e))?;
    let facts = engine.facts().await.map_err(|e| {
        CliError::new(exit::UNREACHABLE, "ENGINE_UNREACHABLE", e)
            .hint("ops/docker start; or name the engine in DOCKER_HOST")
    })?;
    let section = &target.config.runtime;
    let classes = Classes::detect(&facts, &section.classes, section.isolation);
    let mut all = rows::host(&facts, &classes, section);
    let installed =
        Runners::read(&target.config.runners_folder()).map_err(|e| CliError::new(exit::FAILED, "RUNNERS", e))?;
    for (sockets, name) in PROBES {
        if installed.get(name).is_none() {
            if sockets == Sockets::Unix {
                return Err(CliError::new(
                    exit::NOT_FOUND,
                    "PROBE_NOT_INSTALLED",
                    format!("runner {name} is not installed"),
                )
                .hint(format!("cargo xtask image {name} --load")));
            }
            let why =
                format!("runner {name} is not installed: it is the probe's document under that name, with loopback");
            all.push(Row::new("4", "own seccomp profile, loopback", Status::Skip).measured(why));
            continue;
        }
        notice(format!("probing with the profile {}", sockets.as_str()));
        let probed = Box::pin(probe(&target, &operator, name, sockets, &facts, &classes)).await?;
        all.extend(rows::of(&probed, sockets));
        if sockets == Sockets::Unix {
            notice("one box that takes too much memory, and one that outstays its deadline");
            all.push(
                misdeed(&target, &operator, name, "mode=memory", None, ("8", "memory is the end of it", "oom")).await?,
            );
            let short = Some(SHORT_LIFE);
            let row = ("27", "deadline is the end of it", "max_lifetime");
            all.push(misdeed(&target, &operator, name, "mode=sleep", short, row).await?);
        }
    }
    report(&ctx.render, &all)
}

async fn dispatch(target: &Target, runner: &str, prompt: String, wall: Option<Duration>) -> CliResult<String> {
    let start = Start::Entrypoint(Entrypoint::Inline(prompt));
    let wall_ms = wall.and_then(|wall| u64::try_from(wall.as_millis()).ok());
    let limits = wall_ms.map(|wall_ms| Limits { wall_ms: Some(wall_ms), ..Limits::default() });
    let unit = unit(CLI_LAUNCHER, &own_subject(), runner, &["default:ro".to_owned()], start, limits)?;
    let reply = launch(target, LaunchRequest { launcher: CLI_LAUNCHER.to_owned(), id: None, unit }).await?;
    match refused(&reply) {
        Some(error) => Err(error),
        None => Ok(reply.dispatch),
    }
}

/// What the probe is told: what its box was promised, and what the host's is.
fn promises(target: &Target, sockets: Sockets, facts: &EngineFacts, classes: &Classes) -> String {
    let section = &target.config.runtime;
    let limits = section.limits();
    let runtime = classes.choose(None).ok().and_then(|class| class.runtime);
    let runtime = runtime.or_else(|| section.oci_runtime.clone()).unwrap_or_else(|| facts.default_runtime.clone());
    let mut words = vec![
        format!("sockets={}", sockets.as_str()),
        format!("memory={}", limits.memory_bytes),
        format!("pids={}", limits.pids),
        format!("cpu_milli={}", limits.nano_cpus / 1_000_000),
        format!("runtime={runtime}"),
        format!("slots={}", if section.pool.size > 0 { "yes" } else { "no" }),
        "workspace=ro".to_owned(),
        format!("hold_ms={}", HOLD.as_millis()),
    ];
    for name in ["net", "pid", "mnt", "uts", "ipc", "cgroup"] {
        if let Ok(id) = std::fs::read_link(format!("/proc/self/ns/{name}")) {
            words.push(format!("ns_{name}={}", id.display()));
        }
    }
    words.join(" ")
}

async fn probe(
    target: &Target,
    operator: &Operator,
    runner: &str,
    sockets: Sockets,
    facts: &EngineFacts,
    classes: &Classes,
) -> CliResult<Probed> {
    let dispatch = dispatch(target, runner, promises(target, sockets, facts, classes), None).await?;
    let claimed = claim_of(operator, &dispatch).await?;
    let inspect = inspected(&claimed.container_name).await;
    let row = wait_end(operator, &dispatch, PROBE_MAX).await?;
    let output = target.output(&operator.connection);
    let stored = output.all(&dispatch).await.map_err(|e| CliError::new(exit::UNREACHABLE, "OUTPUT_UNAVAILABLE", e))?;
    let mut text = String::new();
    for chunk in stored {
        for frame in serde_json::from_slice::<Chunk>(&chunk.bytes)?.frames {
            match frame.body {
                FrameBody::Text { text: part } => text.push_str(&part),
                FrameBody::Log { text: part, .. } => notice(part.trim_end()),
                _ => {}
            }
        }
    }
    let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let in_force = run_events(operator, &dispatch).await?.into_iter().find_map(|event| match event {
        RunEvent::Started(started) => started.in_force,
        RunEvent::Claimed(_) | RunEvent::Finished(_) => None,
    });
    Ok(Probed { claimed, in_force, inspect, lines, row })
}

async fn run_events(operator: &Operator, dispatch: &str) -> CliResult<Vec<RunEvent>> {
    let entity = Entity::new(Kind::Run, dispatch).ok_or_else(|| CliError::new(exit::FAILED, "DISPATCH", dispatch))?;
    let stored = operator.log().await?.load(&entity).await;
    let stored = stored.map_err(|e| CliError::new(exit::UNREACHABLE, "LEDGER_UNAVAILABLE", e))?;
    let recorded = stored.iter().flat_map(|stored| Recorded::read(stored).unwrap_or_default());
    Ok(recorded.filter_map(|r| if let Some(LedgerEvent::Run(event)) = r.event { Some(event) } else { None }).collect())
}

async fn claim_of(operator: &Operator, dispatch: &str) -> CliResult<RunClaimed> {
    let until = tokio::time::Instant::now() + CLAIM_MAX;
    loop {
        for event in run_events(operator, dispatch).await? {
            if let RunEvent::Claimed(claimed) = event {
                return Ok(claimed);
            }
        }
        if tokio::time::Instant::now() >= until {
            return Err(CliError::new(
                exit::TIMED_OUT,
                "NOT_CLAIMED",
                format!("no runtime claimed dispatch {dispatch}"),
            )
            .hint("custody status"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the engine says of the box while it runs; null when it could not be looked at in time.
async fn inspected(container: &str) -> Value {
    let Ok(engine) = container_engine() else { return Value::Null };
    let until = tokio::time::Instant::now() + CLAIM_MAX;
    while tokio::time::Instant::now() < until {
        if let Ok(Some(answer)) = engine.inspect_answer(container).await {
            return sorted_json(&answer).unwrap_or_default();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Value::Null
}

/// One box that does what it must not, and how that ends.
async fn misdeed(
    target: &Target,
    operator: &Operator,
    runner: &str,
    prompt: &str,
    wall: Option<Duration>,
    (id, control, expected): (&'static str, &'static str, &'static str),
) -> CliResult<Row> {
    let dispatch = dispatch(target, runner, prompt.to_owned(), wall).await?;
    let row = wait_end(operator, &dispatch, PROBE_MAX).await?;
    let reason = row.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
    let status = if reason == expected { Status::Ok } else { Status::Fail };
    Ok(Row::new(id, control, status).set(format!("ends as {expected}")).measured(format!("ended as {reason}")))
}

fn report(render: &Render, all: &[Row]) -> CliResult {
    let values: Vec<Value> = all.iter().map(Row::value).collect();
    let count = |status: Status| all.iter().filter(|row| row.status == status).count();
    let (fails, skips) = (count(Status::Fail), count(Status::Skip));
    if render.is_json() {
        let counts = json!({ "ok": count(Status::Ok), "skip": skips, "fail": fails });
        render.one("doctor-sandbox.v1", "schema", &json!({ "controls": values, "counts": counts }))?;
    } else {
        let columns = [
            col("ROW", "row"),
            col("CONTROL", "control"),
            col("STATUS", "status"),
            col("SET", "set"),
            col("MEASURED", "measured"),
            wide("PROFILE", "profile"),
        ];
        let whole = Render { no_trunc: true, ..render.clone() };
        whole.list("doctor-sandbox.v1", "control", &columns, &values)?;
    }
    for row in all.iter().filter(|row| row.status == Status::Skip) {
        notice(format!("not in force here: {}: {}", row.control, row.measured));
    }
    notice(format!("{} controls, {} ok, {skips} skipped, {fails} failed", all.len(), count(Status::Ok)));
    if fails > 0 { Err(CliError::exit_only(exit::FAILED)) } else { Ok(()) }
}
