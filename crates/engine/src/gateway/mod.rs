//! The gateway role: one Unix socket for each running dispatch. Behind it are the worker's channel, which becomes the
//! output topic, the inference door and the MCP door. The socket is the identity: no credential is ever inside a box.
//!
//! Never touches Docker and never holds the grant key.

mod accounts;
mod budget;
mod job;
pub mod link;
mod peer;
mod record;
mod relay;
mod replayed;
mod said;
mod serve;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_approvals;
#[cfg(test)]
mod tests_doors;
mod view;

/// The most calls that are followed at once after a decision; more of them wait.
const RELEASES_MAX: usize = 32;
/// How long a call waits for a person when nobody says otherwise: a day, in milliseconds.
pub const APPROVAL_MS: u64 = 86_400_000;

pub use accounts::{Budgets, DispatchBudget, WINDOW_MS_MAX, WINDOW_MS_MIN, WindowBudget};

use crate::follow::{follow, read_or_note};
use crate::grants::Grants;
use crate::inference::Door;
use crate::presenting::Presenter;
use crate::runners::Runners;
use crate::runtime::RuntimeLimits;
use crate::tools::ToolBook;
use crate::upstream::Upstreams;
use accounts::Accounts;
use custody_contracts::approval::ToolAwaiting;
use custody_contracts::events::{FollowUpAccepted, ToolIntended};
use custody_domain::tool::Policy;
use custody_ledger::{Log, LogError, Seq, Sign};
use custody_ports::blobs::Blobs;
use custody_ports::clock::Clock;
use custody_ports::inputs::Inputs;
use custody_ports::output::Output;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use view::View;

/// Everything the gateway needs.
#[derive(Clone)]
pub struct Gateway {
    /// The ledger.
    pub log: Arc<dyn Log>,
    /// Gateway's key.
    pub signer: Arc<dyn Sign>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Output topics.
    pub output: Arc<dyn Output>,
    /// Arguments and results of tool calls.
    pub blobs: Arc<dyn Blobs>,
    /// Input topics.
    pub inputs: Arc<dyn Inputs>,
    /// Runners.
    pub runners: Runners,
    /// What tools are offered.
    pub tools: ToolBook,
    /// What is asked about every tool call.
    pub policy: Arc<dyn Policy>,
    /// The servers of tools that are not the gateway's own.
    pub upstreams: Upstreams,
    /// How long a call waits for a person, in milliseconds.
    pub approval_ms: u64,
    /// Different in every process that was ever started. It is in the command id of an approved call's intent, so that two
    /// processes at once are told apart and the intent is a lock.
    pub incarnation: String,
    /// The inference door; `None` when no model is configured.
    pub door: Option<Door>,
    /// One folder per run in here; the same as the runtime's.
    pub runs: PathBuf,
    /// This installation's name: only runs of its own runtime are served.
    pub instance: String,
    /// Limits of a box.
    pub limits: RuntimeLimits,
    /// What dispatches, persons and launchers may use.
    pub budgets: Budgets,
    /// Grants, and whether revocations arrive.
    pub grants: Grants,
    /// Tokens of dispatches; `None` where there is no token service.
    pub presenter: Option<Presenter>,
}

/// A run to serve, or one that has ended.
#[derive(Debug)]
pub(crate) enum Change {
    /// Claimed: open its socket.
    Open(Box<view::Claimed>),
    /// Its container runs.
    Started {
        /// Which.
        dispatch: String,
        /// The engine's id.
        container: String,
    },
    /// More was said to it.
    Say(FollowUpAccepted),
    /// Ended: close it.
    Close(String),
    /// The card of a call that waits has ended.
    Release(Box<(view::Claimed, ToolAwaiting)>),
    /// A tool call was intended before a restart, and nobody knows how it ended.
    Doubt(Box<(view::Claimed, ToolIntended)>),
}

/// A dispatch's socket that is open, and what its connections are told.
struct Socket {
    cancel: CancellationToken,
    said: watch::Sender<Vec<FollowUpAccepted>>,
    started: watch::Sender<Option<String>>,
}

/// Runs until cancelled.
///
/// # Errors
/// [`LogError`] when the log is broken.
pub async fn run(gateway: Gateway, cancel: CancellationToken) -> Result<(), LogError> {
    let (sender, mut changes) = mpsc::unbounded_channel();
    let last = gateway.log.last_seq().await?;
    let instance = gateway.instance.clone();
    let mut view = View::default();
    let accounts = Arc::new(Accounts::new(gateway.budgets.clone()));
    let folded = accounts.clone();
    let (grants, presenter) = (gateway.grants.clone(), gateway.presenter.clone());
    let listening = grants.clone().listen(gateway.log.clone(), cancel.clone());
    let folding = follow(gateway.log.clone(), Seq(0), cancel.clone(), move |stored| {
        grants.take_in(&stored);
        if let Some(presenter) = &presenter {
            presenter.take_in(&stored);
        }
        for recorded in read_or_note(&stored) {
            folded.apply(&recorded);
            if let Some(change) = view.apply(&recorded, &instance) {
                // History is folded in silence: only runs that are still open when it ends are served.
                if stored.seq > last {
                    let _closed = sender.send(change);
                }
            }
        }
        if stored.seq == last {
            for doubtful in view.take_doubtful() {
                let _closed = sender.send(Change::Doubt(Box::new(doubtful)));
            }
            for ended in view.take_ended() {
                let _closed = sender.send(Change::Release(Box::new(ended)));
            }
            view.open().for_each(|claimed| {
                let _closed = sender.send(Change::Open(Box::new(claimed)));
            });
        }
    });
    let serving = async {
        let mut sockets: BTreeMap<String, Socket> = BTreeMap::new();
        let room = Arc::new(Semaphore::new(RELEASES_MAX));
        while let Some(change) = changes.recv().await {
            match change {
                Change::Open(claimed) => {
                    let dispatch = claimed.admitted.dispatch.to_string();
                    let token = cancel.child_token();
                    let (said, to_say) = watch::channel(claimed.said.clone());
                    let (started, container) = watch::channel(claimed.container.clone());
                    let socket = Socket { cancel: token.clone(), said, started };
                    if let Some(before) = sockets.insert(dispatch, socket) {
                        before.cancel.cancel();
                    }
                    let heard = serve::Heard { said: to_say, container };
                    tokio::spawn(serve::serve(gateway.clone(), claimed, heard, accounts.clone(), token));
                }
                Change::Started { dispatch, container } => {
                    if let Some(socket) = sockets.get(&dispatch) {
                        socket.started.send_replace(Some(container));
                    }
                }
                Change::Say(accepted) => {
                    if let Some(socket) = sockets.get(accepted.dispatch.as_str()) {
                        socket.said.send_modify(|all| all.push(accepted));
                    }
                }
                Change::Release(ended) => {
                    let (gateway, room) = (gateway.clone(), room.clone());
                    tokio::spawn(async move {
                        let Ok(_permit) = room.acquire().await else { return };
                        let (claimed, awaiting) = *ended;
                        serve::release(&gateway, &claimed, &awaiting).await;
                    });
                }
                Change::Doubt(doubtful) => {
                    let (claimed, intended) = *doubtful;
                    record::in_doubt(&gateway, &claimed, intended).await;
                }
                Change::Close(dispatch) => {
                    if let Some(socket) = sockets.remove(&dispatch) {
                        socket.cancel.cancel();
                    }
                }
            }
        }
    };
    tokio::select! {
        result = folding => result,
        () = serving => Ok(()),
        () = listening => Ok(()),
    }
}
