//! What the routes share: the fold, the keys, the ports. One task follows the ledger; handlers only read. Must never
//! hold the fold's lock across an await.

use super::routes;
use super::view::{View, Workload};
use crate::problem::{Code, Problem};
use crate::workloads::LAUNCHER;
use crate::workloads::spec::Ceilings;
use custody_contracts::events::Kind;
use custody_contracts::workload::{Backend, WorkloadStatus};
use custody_domain::admission::dispatch_id;
use custody_engine::follow::{follow, read_or_note};
use custody_ledger::{Entity, Log, LogError, Seq, Stored};
use custody_ports::asks::{Asks, Launcher};
use custody_ports::blobs::Blobs;
use custody_ports::clock::Clock;
use custody_ports::containers::Containers;
use custody_trust::Keyring;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// How long an answer may wait for the fold to have read what it is about.
const SEEN_MAX: Duration = Duration::from_secs(5);
/// How long open requests have when the role ends.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// What an operator decides.
#[derive(Debug, Clone, PartialEq)]
pub struct FaceSettings {
    /// This installation's name, which its containers carry.
    pub instance: String,
    /// What runs boxes here.
    pub backend: Backend,
    /// This machine's name.
    pub node: String,
    /// The most that a box may have.
    pub ceilings: Ceilings,
    /// Milliseconds between TERM and KILL of a stop.
    pub grace_ms: u64,
}

/// Called with the code of every refusal, to count it.
pub type Refused = Arc<dyn Fn(&str) + Send + Sync>;

/// Everything the face needs.
#[derive(Clone)]
pub struct Face {
    /// The ledger.
    pub log: Arc<dyn Log>,
    /// Specifications, by digest.
    pub blobs: Arc<dyn Blobs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The engine, only to ask whether a container is gone.
    pub containers: Arc<dyn Containers>,
    /// The launcher that posted workloads come through.
    pub launcher: Arc<dyn Launcher>,
    /// Authority, for stops.
    pub asks: Arc<dyn Asks>,
    /// Counts refusals.
    pub refused: Refused,
    /// Settings.
    pub settings: FaceSettings,
    pub(super) streams: Arc<Semaphore>,
    pub(super) requests: Arc<Semaphore>,
    shared: Arc<Shared>,
}

/// The ports of a face.
pub struct Ports {
    /// The ledger.
    pub log: Arc<dyn Log>,
    /// Specifications, by digest.
    pub blobs: Arc<dyn Blobs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The engine.
    pub containers: Arc<dyn Containers>,
    /// The launcher.
    pub launcher: Arc<dyn Launcher>,
    /// Authority.
    pub asks: Arc<dyn Asks>,
    /// Counts refusals.
    pub refused: Refused,
}

struct Shared {
    folded: Mutex<Folded>,
    seq: watch::Sender<u64>,
}

#[derive(Default)]
struct Folded {
    view: View,
    keys: Keyring,
}

impl Folded {
    fn apply(&mut self, stored: &Stored) {
        // Keys are checked when they come in: only the ledger says which of them may sign.
        if stored.log_subject.starts_with("ledger.key.")
            && let Err(error) = self.keys.admit(stored)
        {
            tracing::error!(%error, seq = stored.seq.0, "key event not taken; its key signs no token");
        }
        read_or_note(stored).iter().for_each(|recorded| self.view.apply(recorded));
    }
}

impl Face {
    /// A face that has read nothing yet.
    pub fn new(ports: Ports, settings: FaceSettings) -> Face {
        let Ports { log, blobs, clock, containers, launcher, asks, refused } = ports;
        Face {
            log,
            blobs,
            clock,
            containers,
            launcher,
            asks,
            refused,
            settings,
            streams: Arc::new(Semaphore::new(super::STREAMS_MAX)),
            requests: Arc::new(Semaphore::new(super::REQUESTS_MAX)),
            shared: Arc::new(Shared { folded: Mutex::default(), seq: watch::channel(0).0 }),
        }
    }

    fn with<T>(&self, read: impl FnOnce(&Folded) -> T) -> T {
        read(&self.shared.folded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keys of the ledger so far.
    pub(super) fn keys<T>(&self, read: impl FnOnce(&Keyring) -> T) -> T {
        self.with(|folded| read(&folded.keys))
    }

    /// The workloads so far.
    pub(super) fn view<T>(&self, read: impl FnOnce(&View) -> T) -> T {
        self.with(|folded| read(&folded.view))
    }

    /// Told of every message that was folded.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.seq.subscribe()
    }

    /// Waits until the fold has read so far, for a bounded time: then an answer may be older than its question.
    pub(super) async fn seen(&self, seq: u64) {
        let mut changes = self.changes();
        let _late = tokio::time::timeout(SEEN_MAX, changes.wait_for(|at| *at >= seq)).await;
    }

    /// One workload of a person. One that ended long ago is read from the ledger; somebody else's is not there.
    pub(super) async fn find(&self, id: &str, subject: &str) -> Result<Workload, Problem> {
        let found = match self.view(|view| view.get(id).cloned()) {
            Some(found) => Some(found),
            None => self.load(id).await?,
        };
        found.filter(|w| w.subject == subject).ok_or_else(Problem::not_found)
    }

    /// Reads a workload's own entities: what the fold does not hold any more.
    pub(super) async fn load(&self, id: &str) -> Result<Option<Workload>, Problem> {
        let launcher = custody_contracts::ids::LauncherId::parse(LAUNCHER);
        let launcher = launcher.map_err(|e| Problem::new(Code::Internal, e))?;
        let posted = dispatch_id(&launcher, Some(id), &[]);
        for dispatch in [posted.as_str(), id] {
            let mut view = View::default();
            for kind in [Kind::Dispatch, Kind::Run] {
                let Some(entity) = Entity::new(kind, dispatch) else { continue };
                let history = self.log.load(&entity).await;
                let history = history.map_err(|_| Problem::new(Code::Unavailable, "the ledger does not answer"))?;
                history.iter().flat_map(read_or_note).for_each(|recorded| view.apply(&recorded));
            }
            if let Some(found) = view.get(id) {
                return Ok(Some(found.clone()));
            }
        }
        Ok(None)
    }

    /// A workload as it is told: the ledger's word, and for one that ended the engine's.
    pub(super) async fn status(&self, workload: &Workload) -> WorkloadStatus {
        let gone = workload.stopped_at.is_some() && self.gone(workload).await;
        workload.status(self.settings.backend, &self.settings.node, gone)
    }

    /// Whether its container is gone. An engine that does not answer has not said so.
    pub(super) async fn gone(&self, workload: &Workload) -> bool {
        let Some(name) = &workload.container else { return true };
        match self.containers.inspect(name).await {
            Ok(None) => true,
            Ok(Some(status)) => status.labels.get("custody.instance") != Some(&self.settings.instance),
            Err(_) => false,
        }
    }

    /// Names of the containers of this installation that are there.
    pub(super) async fn containers_there(&self) -> Option<Vec<String>> {
        let labels = BTreeMap::from([("custody.instance".to_owned(), self.settings.instance.clone())]);
        let listed = self.containers.list(&labels).await.ok()?;
        Some(listed.into_iter().map(|status| status.name).collect())
    }

    /// Serves until cancelled.
    ///
    /// # Errors
    /// [`LogError`] when the log is broken, or the socket failed.
    pub async fn run(self, listener: TcpListener, cancel: CancellationToken) -> Result<(), LogError> {
        let shared = self.shared.clone();
        let folding = follow(self.log.clone(), Seq(0), cancel.clone(), move |stored| {
            shared.folded.lock().unwrap_or_else(PoisonError::into_inner).apply(&stored);
            shared.seq.send_replace(stored.seq.0);
        });
        let last = self.log.last_seq().await?;
        let stop = cancel.clone();
        let face = self.clone();
        let mut serving = tokio::spawn(async move {
            // Nothing is answered out of half a ledger.
            let mut changes = face.changes();
            if last.0 > 0 && changes.wait_for(|seq| *seq >= last.0).await.is_err() {
                return Ok(());
            }
            let app = routes::app(face);
            axum::serve(listener, app).with_graceful_shutdown(async move { stop.cancelled().await }).await
        });
        let ended = tokio::select! {
            ended = folding => ended,
            served = &mut serving => {
                let why = served.map_err(std::io::Error::other).and_then(|r| r).map_or_else(|e| e.to_string(), |()| "it ended".into());
                return Err(LogError::Unavailable(format!("the runtime's HTTP face: {why}")));
            }
        };
        let _drained = tokio::time::timeout(DRAIN_MAX, &mut serving).await;
        serving.abort();
        ended
    }
}
