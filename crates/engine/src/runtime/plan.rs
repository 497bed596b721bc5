//! Pure: what box a dispatch gets.

use super::isolation::{Class, ClassMissing, Classes};
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::events::{DispatchAdmitted, RunClaimed, RunnerRef};
use custody_contracts::ids::UnixMillis;
use custody_contracts::isolation::Sockets;
use custody_contracts::unit::Mode;
use custody_contracts::workspace::MountBase;
use custody_domain::run::container_name;
use custody_ports::containers::{BoxMount, BoxSpec, SCRATCH_BYTES};
use std::collections::BTreeMap;
use std::path::Path;

/// What a box may use, unless its dispatch asks for less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeLimits {
    /// Milliseconds from start to a forced end.
    pub wall_ms: u64,
    /// Milliseconds without output.
    pub idle_ms: u64,
    /// Milliseconds between TERM and KILL.
    pub grace_ms: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Billionths of a processor.
    pub nano_cpus: u64,
    /// Processes.
    pub pids: u64,
    /// Bytes of output that are kept.
    pub output_bytes: u64,
    /// The largest session file.
    pub session_bytes: u64,
    /// Bytes that a run may add to what it may write.
    pub disk_bytes: u64,
    /// The least sockets of every box: a self-test watches with more than a runner asks for.
    pub sockets: Sockets,
    /// The most that a runner's document may raise its boxes' limits to.
    pub most: Room,
}

/// Room in a box: what a runner's document may ask more of than boxes have anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Processes.
    pub pids: u64,
    /// Bytes of `/tmp`.
    pub tmp_bytes: u64,
    /// Bytes of the home folder.
    pub home_bytes: u64,
}

/// The room of a runner's boxes: what the installation gives everybody, or what its document asks for where that is
/// more. A document lowers nothing: it says the least that its agent needs.
///
/// # Errors
/// What it asks for beyond the most that the operator allows, as a sentence with a stable code first.
pub(crate) fn room(runner: &RunnerRef, limits: &RuntimeLimits) -> Result<Room, String> {
    let base = ordinary(limits);
    let asked = runner.resources.unwrap_or_default();
    let one = |what: &str, asked: Option<u64>, base: u64, most: u64| match asked {
        Some(asked) if asked > base.max(most) => Err(format!(
            "RESOURCES_UNAVAILABLE: runner {} needs {what} {asked}, the most here is {} (runtime.most.{what})",
            runner.name,
            base.max(most)
        )),
        asked => Ok(asked.unwrap_or(0).max(base)),
    };
    Ok(Room {
        memory_bytes: one("memory_bytes", asked.memory_bytes, base.memory_bytes, limits.most.memory_bytes)?,
        pids: one("pids", asked.pids, base.pids, limits.most.pids)?,
        tmp_bytes: one("tmp_bytes", asked.tmp_bytes, base.tmp_bytes, limits.most.tmp_bytes)?,
        home_bytes: one("home_bytes", asked.home_bytes, base.home_bytes, limits.most.home_bytes)?,
    })
}

/// What every box has.
fn ordinary(limits: &RuntimeLimits) -> Room {
    Room { memory_bytes: limits.memory_bytes, pids: limits.pids, tmp_bytes: SCRATCH_BYTES, home_bytes: SCRATCH_BYTES }
}

/// Label of the installation.
pub(crate) const LABEL_INSTANCE: &str = "custody.instance";
/// Label of the dispatch.
pub(crate) const LABEL_DISPATCH: &str = "custody.dispatch";

/// The box of a dispatch, in the engine's own runtime. The same dispatch, attempt and settings give the same box.
pub fn box_spec(
    instance: &str,
    admitted: &DispatchAdmitted,
    attempt: u32,
    deadline_at: UnixMillis,
    run_folder: &Path,
    limits: &RuntimeLimits,
) -> BoxSpec {
    let dispatch = admitted.dispatch.as_str();
    let mut labels = BTreeMap::new();
    labels.insert(LABEL_INSTANCE.to_owned(), instance.to_owned());
    labels.insert(LABEL_DISPATCH.to_owned(), dispatch.to_owned());
    labels.insert("custody.attempt".to_owned(), attempt.to_string());
    labels.insert("custody.deadline".to_owned(), deadline_at.0.to_string());
    let mount = |source: std::path::PathBuf, target: String, read_only| BoxMount { source, target, read_only };
    let mut mounts = vec![
        mount(run_folder.join("gw"), "/run/gw".into(), true),
        mount(run_folder.join("session"), "/session".into(), false),
    ];
    for (index, workspace) in admitted.unit.workspaces.iter().enumerate() {
        let target = workspace_path(index, workspace.id.as_str());
        let copy = super::workspaces::copy_of(run_folder, workspace.id.as_str());
        // A proposal is written into a copy too: what becomes of it is decided when the run has ended.
        mounts.push(mount(copy, target, workspace.mode == Mode::Ro));
    }
    // One that asks for too much never starts; `bring_up` says why.
    let room = room(&admitted.runner, limits).unwrap_or_else(|_| ordinary(limits));
    BoxSpec {
        name: container_name(dispatch, attempt),
        image: admitted.runner.image.clone(),
        labels,
        env: BTreeMap::new(),
        mounts,
        memory_bytes: room.memory_bytes,
        nano_cpus: limits.nano_cpus,
        pids: room.pids,
        tmp_bytes: room.tmp_bytes,
        home_bytes: room.home_bytes,
        sockets: sockets(&admitted.runner).max(limits.sockets),
        runtime: None,
        slots: false,
    }
}

/// Which sockets a runner's boxes may make, as it was pinned at admission.
pub(crate) fn sockets(runner: &RunnerRef) -> Sockets {
    if runner.loopback == Some(true) { Sockets::Loopback } else { Sockets::Unix }
}

/// The isolation that a runner gets, as it was pinned at admission.
pub(crate) fn class(classes: &Classes, runner: &RunnerRef) -> Result<Class, ClassMissing> {
    classes.choose(runner.isolation)
}

/// Where a workspace is mounted: the first one at `/workspace`, others beside it by id.
pub(crate) fn workspace_path(index: usize, id: &str) -> String {
    if index == 0 { "/workspace".into() } else { ["/workspaces/", id].concat() }
}

/// Digest over everything that the engine is asked for.
pub(crate) fn spec_digest(spec: &BoxSpec) -> String {
    let value = serde_json::to_value(spec).unwrap_or_default();
    digest(canonical(&value).as_bytes())
}

/// The claim of a dispatch.
pub(crate) fn claim(
    instance: &str,
    admitted: &DispatchAdmitted,
    spec: &BoxSpec,
    resume_digest: Option<String>,
    deadline_at: UnixMillis,
    mounts: Vec<MountBase>,
) -> RunClaimed {
    RunClaimed {
        dispatch: admitted.dispatch.clone(),
        attempt: 1,
        runtime: instance.to_owned(),
        image: admitted.runner.image.clone(),
        container_name: spec.name.clone(),
        spec_digest: spec_digest(spec),
        session: admitted.session.clone(),
        resume_digest,
        deadline_at,
        warm: super::pool::is_warm(&spec.name).then_some(true),
        mounts,
    }
}
