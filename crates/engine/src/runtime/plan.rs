//! Pure: what box a dispatch gets.

use custody_contracts::canonical::{canonical, digest};
use custody_contracts::events::{DispatchAdmitted, RunClaimed};
use custody_contracts::ids::UnixMillis;
use custody_contracts::unit::Mode;
use custody_domain::run::container_name;
use custody_ports::containers::{BoxMount, BoxSpec};
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
}

/// Label of the installation.
pub(crate) const LABEL_INSTANCE: &str = "custody.instance";
/// Label of the dispatch.
pub(crate) const LABEL_DISPATCH: &str = "custody.dispatch";

/// The box of a dispatch. The same dispatch, attempt and settings give the same box.
pub fn box_spec(
    instance: &str,
    admitted: &DispatchAdmitted,
    attempt: u32,
    deadline_at: UnixMillis,
    run_folder: &Path,
    workspaces: &Path,
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
        mounts.push(mount(workspaces.join(workspace.id.as_str()), target, workspace.mode != Mode::Rw));
    }
    BoxSpec {
        name: container_name(dispatch, attempt),
        image: admitted.runner.image.clone(),
        labels,
        env: BTreeMap::new(),
        mounts,
        memory_bytes: limits.memory_bytes,
        nano_cpus: limits.nano_cpus,
        pids: limits.pids,
    }
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
    }
}
