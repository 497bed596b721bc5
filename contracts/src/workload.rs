//! runtime.v1: workloads as the runtime's HTTP face takes and tells them. Must never hold a credential: what stands in
//! `env` reaches a box.

use crate::events::StopReason;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The launcher that posted workloads come through.
pub const LAUNCHER: &str = "runtime-http";
/// The prompt.
pub const PROMPT: &str = "CUSTODY_PROMPT";
/// A file of the first workspace that holds the prompt.
pub const PROMPT_PATH: &str = "CUSTODY_PROMPT_PATH";
/// The session that this is the next turn of.
pub const SESSION: &str = "CUSTODY_SESSION";
/// Workspaces as `id:mode`, separated by commas; `default:rw` when absent.
pub const WORKSPACES: &str = "CUSTODY_WORKSPACES";
/// Tools, separated by commas.
pub const TOOLS: &str = "CUSTODY_TOOLS";
/// What set it off: `message` (the default), `scheduled`, `event` or `transcription`; the last two are not trusted.
pub const TRIGGER: &str = "CUSTODY_TRIGGER";
/// Variables that say what to run: they become parts of the unit and do not reach the box as variables.
pub const SAYING: [&str; 6] = [PROMPT, PROMPT_PATH, SESSION, WORKSPACES, TOOLS, TRIGGER];

/// How the unit of a posted workload names its specification; `etag` beside it is the digest of the blob that holds it.
pub fn uri(id: &str) -> String {
    [URI, id].concat()
}

/// Whether a unit's reference names a posted specification.
pub fn is_uri(text: &str) -> bool {
    text.starts_with(URI)
}

const URI: &str = "urn:custody:workload:";

/// What to run. The same id twice is the same workload. Source: contract runtime.v1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSpec {
    /// Chosen by the caller; 1 to 64 of `[a-z0-9_-]`.
    pub workload_id: String,
    /// The kind of workload: a runner's name.
    pub profile: String,
    /// Settings for the worker; at most 128.
    pub env: BTreeMap<String, String>,
    /// Ceilings of the container; an absent one is the runtime's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Seconds without a sign of life; 0 is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_sec: Option<u64>,
    /// Seconds from start to a forced end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lifetime_sec: Option<u64>,
    /// What runs it; absent is what the runtime is set up for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
}

/// Ceilings of one container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// Cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// MiB; no swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
}

/// What runs a workload. Running in the server's own process does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A local container engine.
    Docker,
    /// A Job in a Kubernetes cluster.
    K8s,
}

/// Where a workload is; from top to bottom and never back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadState {
    /// Admitted; queued or coming up.
    Starting,
    /// Its process runs.
    Running,
    /// A stop was asked for.
    Stopping,
    /// Its process has ended.
    Stopped,
    /// Its container is gone too.
    Destroyed,
}

impl WorkloadState {
    /// Every state, in order.
    pub const ALL: [WorkloadState; 5] = [
        WorkloadState::Starting,
        WorkloadState::Running,
        WorkloadState::Stopping,
        WorkloadState::Stopped,
        WorkloadState::Destroyed,
    ];

    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkloadState::Starting => "starting",
            WorkloadState::Running => "running",
            WorkloadState::Stopping => "stopping",
            WorkloadState::Stopped => "stopped",
            WorkloadState::Destroyed => "destroyed",
        }
    }

    /// The state of a word.
    pub fn parse(text: &str) -> Option<WorkloadState> {
        WorkloadState::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// What the runtime knows of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadStatus {
    /// Which one.
    pub workload_id: String,
    /// Its runner.
    pub profile: String,
    /// Where it is.
    pub state: WorkloadState,
    /// When its process started, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When its process ended, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<String>,
    /// How its process ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<StopReason>,
    /// What runs it.
    pub backend: Backend,
    /// The machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// One change of a workload's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuntimeEvent {
    /// Which one.
    pub workload_id: String,
    /// The state it is in now.
    pub state: WorkloadState,
    /// When it changed, RFC 3339.
    pub at: String,
    /// How its process ended, when it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Why it ended, when it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<StopReason>,
}
