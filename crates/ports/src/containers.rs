//! Containers, as the runtime loop sees them. Only the adapter behind this port touches the engine.

use custody_contracts::ids::UnixMillis;
use custody_contracts::isolation::Sockets;
use futures::future::BoxFuture;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Bytes of each scratch file system of a box that nobody raised: 16 MiB.
pub const SCRATCH_BYTES: u64 = 16 << 20;

/// What one box is. Serialised canonically, its digest is the `spec_digest` of the claim.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BoxSpec {
    /// Container name, a function of dispatch and attempt.
    pub name: String,
    /// Image id, `sha256:…`.
    pub image: String,
    /// Instance, dispatch, attempt, deadline.
    pub labels: BTreeMap<String, String>,
    /// Environment: never a credential.
    pub env: BTreeMap<String, String>,
    /// What is mounted.
    pub mounts: Vec<BoxMount>,
    /// Bytes of memory; swap is the same.
    pub memory_bytes: u64,
    /// Billionths of a processor.
    pub nano_cpus: u64,
    /// Processes.
    pub pids: u64,
    /// Bytes of `/tmp`, in memory.
    pub tmp_bytes: u64,
    /// Bytes of the home folder, in memory.
    pub home_bytes: u64,
    /// Which sockets it may make.
    pub sockets: Sockets,
    /// The engine's runtime that makes it; `None` is the engine's own.
    pub runtime: Option<String>,
    /// Whether its mounts are empty slots into which something is mounted after a claim.
    pub slots: bool,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BoxMount {
    /// On the host.
    pub source: PathBuf,
    /// In the box.
    pub target: String,
    /// Enforced by the mount.
    pub read_only: bool,
}

/// What the engine says of one container of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoxStatus {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its state.
    pub state: BoxState,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When it started.
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub finished_at: Option<UnixMillis>,
    /// What the engine says it set, read back; `None` from an engine that cannot say.
    pub set: Option<BoxSet>,
    /// Process id of the box's PID 1 on this machine, while it runs.
    pub pid: Option<u32>,
}

/// What an engine says it set for one box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BoxSet {
    /// Digest of the seccomp profile.
    pub seccomp_digest: String,
    /// The runtime that made it.
    pub runtime: String,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Billionths of a processor.
    pub nano_cpus: u64,
    /// Processes.
    pub pids: u64,
}

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoxState {
    /// Made, not started.
    Created,
    /// Runs (or is paused).
    Running,
    /// Ended.
    Exited {
        /// Exit code.
        code: i64,
        /// Whether the kernel killed something in it for memory.
        oom: bool,
        /// What the engine says went wrong, when it says anything.
        error: Option<String>,
    },
}

/// Why the engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoxError {
    /// There is no such image here, and nothing is ever pulled.
    #[error("image {0} is not on this machine")]
    ImageMissing(String),
    /// The name is taken: somebody created it before.
    #[error("container {0} exists already")]
    NameTaken(String),
    /// There is no such container.
    #[error("container {0} does not exist")]
    NoSuchBox(String),
    /// The engine refused.
    #[error("the container engine refused: {0}")]
    Refused(String),
    /// The engine is not reachable, or did not answer in time; it may have done it.
    #[error("the container engine did not answer: {0}")]
    Unavailable(String),
}

/// The engine's own facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineFacts {
    /// Its version.
    pub version: String,
    /// The API version in use.
    pub api_version: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// Whether containers survive a restart of the engine.
    pub live_restore: bool,
    /// Security options in force.
    pub security: Vec<String>,
    /// Runtimes it can make boxes with, in order.
    pub runtimes: Vec<String>,
    /// The one it uses for a box that names none.
    pub default_runtime: String,
    /// What user 0 of a box is on this machine: 0 without user namespaces.
    pub uid_offset: u32,
}

impl EngineFacts {
    /// Whether every box has user ids of its own: the whole daemon remaps, or is not root itself.
    pub fn userns(&self) -> bool {
        self.security.iter().any(|option| {
            option.split(',').any(|part| matches!(part, "name=userns" | "name=rootless" | "userns" | "rootless"))
        })
    }
}

/// Which end of a box is listened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The one to come: for a box that is made and not started. Of one that has ended already nothing is ever heard.
    Next,
    /// That it does not run, now or later: for a box that was started. One that was not is heard of at once.
    Any,
}

/// Comes to its end when a box has, or when nobody listens for that any more. May be dropped.
pub type Listening<'a> = BoxFuture<'a, ()>;

/// The container engine. Every call has a deadline of its own.
pub trait Containers: Send + Sync {
    /// Whether this image id is here.
    fn has_image<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<bool, BoxError>>;
    /// The image id of a name, when it is here.
    fn resolve_image<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<String>, BoxError>>;
    /// Creates a box and returns the engine's id.
    fn create<'a>(&'a self, spec: &'a BoxSpec) -> BoxFuture<'a, Result<String, BoxError>>;
    /// As [`Containers::create`], and begins to listen for the end to come while the box is read back; `None` where that is
    /// to be asked for by itself.
    fn create_heard<'a>(&'a self, spec: &'a BoxSpec) -> BoxFuture<'a, Result<Option<Listening<'static>>, BoxError>> {
        Box::pin(async move { self.create(spec).await.map(|_| None) })
    }
    /// Whether a box may be made while its claim is being recorded, because nothing of it runs before its start, and one
    /// that was made for nothing is removed without a trace that others see.
    fn makes_ahead(&self) -> bool {
        false
    }
    /// Starts it. Safe to call on one that runs.
    fn start<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), BoxError>>;
    /// What it is now; `None` if it does not exist.
    fn inspect<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<BoxStatus>, BoxError>>;
    /// Every container that carries these labels, in any state.
    fn list<'a>(&'a self, labels: &'a BTreeMap<String, String>) -> BoxFuture<'a, Result<Vec<BoxStatus>, BoxError>>;
    /// Listens for its end. Once this has answered, what it gave back comes to its end when the box has, however soon that
    /// is, and also when nobody listens any more (the engine went away): then look, and listen anew.
    fn listen<'a>(&'a self, name: &'a str, end: End) -> BoxFuture<'a, Result<Listening<'a>, BoxError>>;
    /// TERM, and KILL after the grace. Safe to call on one that has ended.
    fn stop<'a>(&'a self, name: &'a str, grace_ms: u64) -> BoxFuture<'a, Result<(), BoxError>>;
    /// Removes it by force. Safe to call on one that is gone.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), BoxError>>;
    /// The engine's facts.
    fn facts(&self) -> BoxFuture<'_, Result<EngineFacts, BoxError>>;
}
