//! The runtime role: claims admitted dispatches, starts one container for each, watches it by asking the engine, records
//! how it ended, removes it. The only role behind the container port.
//!
//! The queue is the ledger itself: a fold knows what is admitted and unclaimed, so a restart forgets nothing and a
//! redelivery cannot happen. A claim is an append under an expected sequence: of two runtimes one appends, the other
//! sees that it lost.

mod collect;
mod drive;
mod plan;
mod reap;
#[cfg(test)]
mod tests;
mod view;

use crate::follow::{follow, read_or_note};
use custody_contracts::unit::Limits;
use custody_ledger::{Log, LogError, Seq, Sign};
use custody_ports::blobs::Blobs;
use custody_ports::clock::Clock;
use custody_ports::containers::Containers;
use custody_ports::output::Output;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use drive::socket_path;
pub(crate) use plan::workspace_path;
pub use plan::{RuntimeLimits, box_spec};
pub use view::View;

/// How often the engine is listed.
pub const RECONCILE_EVERY: Duration = Duration::from_secs(10);

/// What an operator decides about a runtime.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// This installation's name; containers of other instances are never touched.
    pub instance: String,
    /// One folder per run in here: the socket's and the session's.
    pub runs: PathBuf,
    /// One folder per workspace in here.
    pub workspaces: PathBuf,
    /// How many boxes run at once.
    pub running_max: usize,
    /// Limits of a box.
    pub limits: RuntimeLimits,
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
    /// Session files.
    pub blobs: Arc<dyn Blobs>,
    /// Output topics.
    pub output: Arc<dyn Output>,
    /// Settings.
    pub config: RuntimeConfig,
}

/// What the loop and its runs share.
struct Shared {
    view: Mutex<View>,
    changed: Notify,
    /// Highest sequence folded.
    seq: watch::Sender<u64>,
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
    let shared = Arc::new(Shared { view: Mutex::default(), changed: Notify::new(), seq: watch::channel(0).0 });
    let folding = {
        let shared = shared.clone();
        follow(runtime.log.clone(), Seq(0), cancel.clone(), move |stored| {
            shared.with(|view| read_or_note(&stored).iter().for_each(|r| view.apply(r)));
            shared.seq.send_replace(stored.seq.0);
            if stored.seq >= last {
                shared.changed.notify_one();
            }
        })
    };
    let scheduling = schedule(runtime, shared, last, cancel);
    tokio::select! {
        result = folding => result,
        () = scheduling => Ok(()),
    }
}

async fn schedule(runtime: Runtime, shared: Arc<Shared>, last: Seq, cancel: CancellationToken) {
    let mut seq = shared.seq.subscribe();
    if seq.wait_for(|s| *s >= last.0).await.is_err() {
        return;
    }
    tracing::info!(seq = last.0, "runtime has read the ledger");
    let tasks = TaskTracker::new();
    let running: Arc<Mutex<BTreeMap<String, ()>>> = Arc::default();
    let mut reconcile = tokio::time::interval(RECONCILE_EVERY);
    loop {
        // Open claims of this runtime come first: they hold a box or are about to.
        let next = {
            let running = running.lock().unwrap_or_else(PoisonError::into_inner);
            shared.with(|view| view.next(&runtime.config.instance, &running, runtime.config.running_max))
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
