//! The runtime role: claims admitted dispatches, starts one container for each, watches it by asking the engine, records
//! how it ended, removes it. The only role behind the container port.
//!
//! The queue is the ledger itself: a fold knows what is admitted and unclaimed, so a restart forgets nothing and a
//! redelivery cannot happen. A claim is an append under an expected sequence: of two runtimes one appends, the other
//! sees that it lost.

mod collect;
mod content;
mod drive;
mod isolation;
mod phases;
mod plan;
mod pool;
mod reap;
mod session;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod tests_start;
mod view;
mod workload;
pub(crate) mod workspaces;

use crate::follow::{follow, read_or_note};
use custody_contracts::canonical::derived_id;
use custody_contracts::events::{DispatchEvent, LedgerEvent};
use custody_contracts::ids::UnixMillis;
use custody_contracts::unit::Limits;
use custody_domain::queue::Caps;
use custody_ledger::{Log, LogError, Recorded, Seq, Sign};
use custody_ports::blobs::Blobs;
use custody_ports::clock::Clock;
use custody_ports::containers::{BoxSpec, Containers};
use custody_ports::output::Output;
use custody_ports::requests::Requests;
use custody_ports::slots::Slots;
use custody_ports::workspaces::{WorkspaceLimits, Workspaces};
use pool::{Kind, Pool};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use content::CONTENTS;
pub(crate) use drive::socket_path;
pub use isolation::{Class, ClassMissing, Classes};
pub(crate) use plan::workspace_path;
pub use plan::{Room, RuntimeLimits, box_spec};
pub use pool::{PoolConfig, SIZE_MAX as POOL_SIZE_MAX};
pub use view::{Stop, View};
pub use workspaces::SystemWorkspaces;

/// How often the engine is listed.
pub const RECONCILE_EVERY: Duration = Duration::from_secs(10);
/// How long the pool may take to remove its boxes at the end.
const EMPTY_WAIT: Duration = Duration::from_secs(4);

/// What an operator decides about a runtime.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// This installation's name; containers of other instances are never touched.
    pub instance: String,
    /// One folder per run in here: the socket's and the session's.
    pub runs: PathBuf,
    /// What a run changed and no bucket would take is moved in here.
    pub kept: PathBuf,
    /// How large things in a workspace may be.
    pub workspace_limits: WorkspaceLimits,
    /// Where session files are kept.
    pub system: SystemWorkspaces,
    /// How many boxes run at once on this runtime.
    pub running_max: usize,
    /// How many of one person and of one launcher run at once, on all runtimes together.
    pub caps: Caps,
    /// Limits of a box.
    pub limits: RuntimeLimits,
    /// Which isolation this host has.
    pub classes: Classes,
    /// Warm boxes.
    pub pool: PoolConfig,
}

/// Everything the runtime needs.
#[derive(Clone)]
pub struct Runtime {
    /// The ledger.
    pub log: Arc<dyn Log>,
    /// Runtime's key.
    pub signer: Arc<dyn Sign>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The engine.
    pub containers: Arc<dyn Containers>,
    /// Slots of warm boxes; `None` where there can be none.
    pub slots: Option<Arc<dyn Slots>>,
    /// Session files that no workspace would take.
    pub blobs: Arc<dyn Blobs>,
    /// Output topics.
    pub output: Arc<dyn Output>,
    /// Workspaces.
    pub workspaces: Arc<dyn Workspaces>,
    /// Questions about what they hold; `None` where nobody may ask.
    pub content: Option<Arc<dyn Requests>>,
    /// Settings.
    pub config: RuntimeConfig,
}

/// What the loop and its runs share.
struct Shared {
    view: Mutex<View>,
    changed: Notify,
    /// Highest sequence folded.
    seq: watch::Sender<u64>,
    /// Warm boxes.
    pool: Pool,
    /// Starts under way: the engine gets no faster by more, and each gets slower.
    starts: Semaphore,
}

impl Shared {
    fn with<T>(&self, read: impl FnOnce(&mut View) -> T) -> T {
        read(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The effective limits of a dispatch: the smaller of what it asks and what the runtime allows.
pub(crate) fn effective(limits: Option<&Limits>, runtime: &RuntimeLimits) -> (u64, u64) {
    let lower = |asked: Option<u64>, most: u64| asked.map_or(most, |a| a.min(most));
    let wall = lower(limits.and_then(|l| l.wall_ms), runtime.wall_ms);
    let idle = lower(limits.and_then(|l| l.idle_ms), runtime.idle_ms);
    (wall, idle)
}

/// Runs until cancelled. Boxes that run stay; the next runtime adopts them.
///
/// # Errors
/// [`LogError`] when the log is broken.
pub async fn run(runtime: Runtime, cancel: CancellationToken) -> Result<(), LogError> {
    let last = runtime.log.last_seq().await?;
    let shared = Arc::new(Shared {
        view: Mutex::default(),
        changed: Notify::new(),
        seq: watch::channel(0).0,
        pool: Pool::new(runtime.slots.clone(), runtime.config.pool, owner(&runtime)),
        starts: Semaphore::new(starts_max()),
    });
    let folding = {
        let (shared, config) = (shared.clone(), runtime.config.clone());
        follow(runtime.log.clone(), Seq(0), cancel.clone(), move |stored| {
            let recorded = read_or_note(&stored);
            shared.with(|view| recorded.iter().for_each(|r| view.apply(r)));
            recorded.iter().for_each(|r| keep_warm(&shared.pool, &config, r));
            shared.seq.send_replace(stored.seq.0);
            if stored.seq >= last {
                shared.changed.notify_one();
            }
        })
    };
    let scheduling = schedule(runtime, shared, last, cancel.clone());
    tokio::pin!(folding, scheduling);
    let result = tokio::select! {
        result = &mut folding => result,
        () = &mut scheduling => return Ok(()),
    };
    if result.is_ok() && cancel.is_cancelled() {
        // Blank boxes are removed and their slots given back before this ends; what is not is reaped by the next life.
        let _late = tokio::time::timeout(EMPTY_WAIT, scheduling).await;
    }
    result
}

/// Two starts for each processor. Source: runners.md 4, measured on two cores: more in flight start none the sooner.
fn starts_max() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get() * 2)
}

/// A word for this life of this runtime, part of its blank boxes' names.
fn owner(runtime: &Runtime) -> String {
    let life =
        [runtime.config.instance.as_bytes(), &runtime.clock.now().0.to_be_bytes(), &std::process::id().to_be_bytes()];
    derived_id("", &life).chars().filter(char::is_ascii_alphanumeric).take(16).collect()
}

/// Tells the pool which kind of box an admission will want.
fn keep_warm(pool: &Pool, config: &RuntimeConfig, recorded: &Recorded) {
    if let Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(admitted))) = &recorded.event
        && let Ok(class) = plan::class(&config.classes, &admitted.runner)
    {
        let (never, nowhere) = (UnixMillis::default(), Path::new(""));
        let spec = plan::box_spec(&config.instance, admitted, 1, never, nowhere, &config.limits);
        let kind = Kind::of(&BoxSpec { runtime: class.runtime, ..spec });
        pool.used(admitted.runner.name.as_str(), recorded.seq.0, kind);
    }
}

async fn schedule(runtime: Runtime, shared: Arc<Shared>, last: Seq, cancel: CancellationToken) {
    let mut seq = shared.seq.subscribe();
    if seq.wait_for(|s| *s >= last.0).await.is_err() {
        return;
    }
    tracing::info!(seq = last.0, "runtime has read the ledger");
    let tasks = TaskTracker::new();
    {
        let (runtime, shared, cancel) = (runtime.clone(), shared.clone(), cancel.clone());
        tasks.spawn(async move {
            let claimed = shared.with(|view| view.containers());
            pool::keep(&runtime, &shared.pool, &shared.starts, &claimed, cancel).await;
        });
    }
    if let Some(requests) = runtime.content.clone() {
        tasks.spawn(content::serve(runtime.clone(), shared.clone(), requests, cancel.clone()));
    }
    let running: Arc<Mutex<BTreeMap<String, ()>>> = Arc::default();
    let mut reconcile = tokio::time::interval(RECONCILE_EVERY);
    loop {
        // Open claims of this runtime come first: they hold a box or are about to.
        let next = {
            let running = running.lock().unwrap_or_else(PoisonError::into_inner);
            shared.with(|view| {
                view.next(&runtime.config.instance, &running, runtime.config.running_max, &runtime.config.caps)
            })
        };
        if let Some(dispatch) = next {
            running.lock().unwrap_or_else(PoisonError::into_inner).insert(dispatch.clone(), ());
            let (runtime, shared, running, cancel) = (runtime.clone(), shared.clone(), running.clone(), cancel.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = drive::drive(&runtime, &shared, &dispatch) => {}
                }
                running.lock().unwrap_or_else(PoisonError::into_inner).remove(&dispatch);
                shared.changed.notify_one();
            });
            continue;
        }
        tokio::select! {
            () = cancel.cancelled() => break,
            () = shared.changed.notified() => {}
            _ = reconcile.tick() => {
                let busy = running.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
                reap::reap(&runtime, &shared, busy).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}
