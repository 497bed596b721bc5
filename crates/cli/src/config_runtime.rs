//! `[runtime]` of the configuration file: what runs boxes, and what each may have. Must never have a maximum that means
//! "without limit" by accident.

use custody_contracts::isolation::{Isolation, Sockets};
use custody_engine::runtime::{Room, RuntimeLimits};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Containers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RuntimeSection {
    /// What runs boxes.
    pub(crate) backend: BackendKind,
    /// How many boxes run at once.
    pub(crate) running_max: usize,
    /// Another OCI runtime that the engine knows, for boxes of no class with a runtime of its own.
    pub(crate) oci_runtime: Option<String>,
    /// The least isolation of every box.
    pub(crate) isolation: Isolation,
    /// Names of the engine's runtimes, by class.
    pub(crate) classes: BTreeMap<Isolation, String>,
    /// Warm boxes.
    pub(crate) pool: PoolSection,
    /// Milliseconds from start to a forced end.
    pub(crate) wall_ms: u64,
    /// Milliseconds without output.
    pub(crate) idle_ms: u64,
    /// Milliseconds between TERM and KILL.
    pub(crate) grace_ms: u64,
    /// Bytes of memory of a box; it has no swap.
    pub(crate) memory_bytes: u64,
    /// Processors of a box.
    pub(crate) cpus: f64,
    /// Processes of a box.
    pub(crate) pids: u64,
    /// Bytes of output that are kept.
    pub(crate) output_bytes: u64,
    /// The largest session file.
    pub(crate) session_bytes: u64,
    /// The HTTP face; off unless it is there.
    pub(crate) http: Option<RuntimeHttpConfig>,
    /// The cluster, when `backend` is `kubernetes`.
    pub(crate) kubernetes: Option<KubernetesConfig>,
    /// Bytes that a run may add to what it may write before it is ended.
    pub(crate) disk_bytes: u64,
    /// The least sockets of every box.
    pub(crate) sockets: Sockets,
    /// The most that a runner's document may raise its boxes' limits to.
    pub(crate) most: MostSection,
}

/// The runtime's HTTP face.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuntimeHttpConfig {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
}

/// What runs boxes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BackendKind {
    /// A container engine on this machine.
    #[default]
    Docker,
    /// Jobs in a cluster.
    Kubernetes,
}

/// A cluster. Nothing has a default: each is somebody's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KubernetesConfig {
    /// Where boxes run.
    pub(crate) namespace: String,
    /// The service account of boxes.
    pub(crate) service_account: String,
    /// The nodes' seccomp profile, below the kubelet's folder.
    pub(crate) seccomp_profile: String,
    /// The NetworkPolicy that must be there.
    pub(crate) network_policy: String,
    /// The volume claim that boxes share with this runtime.
    pub(crate) data_claim: String,
    /// Where it is mounted here.
    pub(crate) data_root: PathBuf,
    /// A runtime class.
    #[serde(default)]
    pub(crate) runtime_class: Option<String>,
    /// Whether Pods get user namespaces.
    #[serde(default)]
    pub(crate) user_namespaces: bool,
    /// The image of custody for links, by digest.
    pub(crate) link_image: String,
    /// The gateway's link listener.
    pub(crate) link_connect: String,
    /// The name in its certificate.
    pub(crate) link_server_name: String,
    /// The Secret with the authority's certificate.
    pub(crate) link_ca_secret: String,
    /// Image id to a reference that the cluster pulls, by digest.
    pub(crate) images: BTreeMap<String, String>,
}

impl Default for RuntimeSection {
    fn default() -> Self {
        RuntimeSection {
            backend: BackendKind::Docker,
            http: None,
            kubernetes: None,
            running_max: 8,
            oci_runtime: None,
            isolation: Isolation::Standard,
            classes: BTreeMap::new(),
            pool: PoolSection::default(),
            wall_ms: 3_600_000,
            idle_ms: 600_000,
            grace_ms: 10_000,
            memory_bytes: 512 << 20,
            cpus: 1.0,
            pids: 128,
            output_bytes: 16 << 20,
            session_bytes: 16 << 20,
            disk_bytes: 2 << 30,
            sockets: Sockets::Unix,
            most: MostSection::default(),
        }
    }
}

/// The most that a runner's document may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MostSection {
    /// Bytes of memory.
    pub(crate) memory_bytes: u64,
    /// Processes.
    pub(crate) pids: u64,
    /// Bytes of `/tmp`.
    pub(crate) tmp_bytes: u64,
    /// Bytes of the home folder.
    pub(crate) home_bytes: u64,
}

impl Default for MostSection {
    fn default() -> Self {
        MostSection { memory_bytes: 2 << 30, pids: 512, tmp_bytes: 256 << 20, home_bytes: 256 << 20 }
    }
}

/// Warm boxes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PoolSection {
    /// Blank boxes that run ahead, of each kind that was used last; 0 keeps none.
    pub(crate) size: usize,
}

impl RuntimeSection {
    /// As the runtime loop takes them.
    pub(crate) fn limits(&self) -> RuntimeLimits {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to lie between 0.01 and 1024 when the file was read"
        )]
        let nano_cpus = (self.cpus * 1e9) as u64;
        RuntimeLimits {
            wall_ms: self.wall_ms,
            idle_ms: self.idle_ms,
            grace_ms: self.grace_ms,
            memory_bytes: self.memory_bytes,
            nano_cpus,
            pids: self.pids,
            output_bytes: self.output_bytes,
            session_bytes: self.session_bytes,
            disk_bytes: self.disk_bytes,
            sockets: self.sockets,
            most: Room {
                memory_bytes: self.most.memory_bytes,
                pids: self.most.pids,
                tmp_bytes: self.most.tmp_bytes,
                home_bytes: self.most.home_bytes,
            },
        }
    }
}
