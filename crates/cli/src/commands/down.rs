//! `custody down`: stops what `custody up` started here, and what a killed one left behind.

use super::Ctx;
use crate::error::{CliError, CliResult, exit};
use crate::home::process_started;
use crate::render::{line, notice};
use custody_ports::containers::Containers;
use custody_ports::slots::Slots;
use std::collections::BTreeMap;
use std::time::Duration;

/// Stop what `custody up` started here.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Running dispatches are asked to stop and their ends are recorded. Safe to run twice.\n\nExamples:\n  custody down"
)]
pub(crate) struct DownArgs {}

/// How long an orderly stop may take.
const STOP_WAIT: Duration = Duration::from_secs(40);

pub(crate) async fn run(ctx: &Ctx, _: DownArgs) -> CliResult {
    let target = ctx.target()?;
    match target.home.up() {
        None => notice(format!("nothing runs here (state folder {})", target.home.root().display())),
        Some(up) => {
            end(up.pid, STOP_WAIT).await?;
            notice(format!("stopped (pid {})", up.pid));
        }
    }
    if target.home.root().join("nats").is_dir() {
        custody_nats::server::end_leftover(&target.home.path("nats"))
            .await
            .map_err(|e| CliError::new(exit::FAILED, "NATS_NOT_STOPPED", e))?;
    }
    target.home.clear_up();
    containers(&target).await;
    line("down")
}

/// Boxes that a killed `up` left: removed here; the next start records their end.
async fn containers(target: &crate::client::Target) {
    let Ok(instance) = std::fs::read_to_string(target.home.path("instance")) else { return };
    let profile = custody_docker::Profile { mount_roots: Vec::new(), runtime: None };
    let Ok(docker) = custody_docker::Docker::from_env(profile) else { return };
    let labels = BTreeMap::from([("custody.instance".to_owned(), instance.trim().to_owned())]);
    let Ok(left) = docker.list(&labels).await else { return };
    for status in left {
        match docker.remove(&status.name).await {
            Ok(()) => notice(format!("removed {}", status.name)),
            Err(error) => notice(format!("{} not removed: {error}", status.name)),
        }
    }
    // Slots of warm boxes that a killed `up` left mounted.
    let slots = custody_docker::BindSlots::below(&target.home.path("pool"));
    let left = slots.all().iter().try_for_each(|slot| slots.clear(slot)).and_then(|()| slots.close());
    if let Err(error) = left {
        notice(format!("slots of warm boxes are still mounted: {error}"));
    }
}

/// Ends one process of ours: TERM, and KILL when it does not listen.
async fn end(pid: u32, wait: Duration) -> CliResult {
    let Some(started) = process_started(pid) else { return Ok(()) };
    let signal = |signal| {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        pid.map(|p| rustix::process::kill_process(p, signal))
    };
    signal(rustix::process::Signal::TERM);
    let until = tokio::time::Instant::now() + wait;
    while process_started(pid) == Some(started) {
        if tokio::time::Instant::now() >= until {
            notice(format!("pid {pid} did not stop in {} s; killing it", wait.as_secs()));
            signal(rustix::process::Signal::KILL);
            tokio::time::sleep(Duration::from_millis(200)).await;
            return match process_started(pid) == Some(started) {
                true => Err(CliError::new(exit::FAILED, "NOT_STOPPED", format!("pid {pid} cannot be ended"))),
                false => Ok(()),
            };
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
