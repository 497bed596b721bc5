//! The gateway role: one Unix socket for each running dispatch. Behind it are the worker's channel, which becomes the
//! output topic, and the inference door. The socket is the identity: no credential is ever inside a box.
//!
//! Never touches Docker and never holds the grant key.

mod job;
mod relay;
mod serve;
#[cfg(test)]
mod tests;
mod view;

use crate::follow::{follow, read_or_note};
use crate::inference::Door;
use crate::runners::Runners;
use crate::runtime::RuntimeLimits;
use custody_ledger::{Log, LogError, Seq, Sign};
use custody_ports::clock::Clock;
use custody_ports::output::Output;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;
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
    /// Runners.
    pub runners: Runners,
    /// The inference door; `None` when no model is configured.
    pub door: Option<Door>,
    /// The model's name that agents are given.
    pub model: String,
    /// One folder per run in here; the same as the runtime's.
    pub runs: PathBuf,
    /// One folder per workspace in here.
    pub workspaces: PathBuf,
    /// This installation's name: only runs of its own runtime are served.
    pub instance: String,
    /// Limits of a box.
    pub limits: RuntimeLimits,
}

/// A run to serve, or one that has ended.
#[derive(Debug)]
pub(crate) enum Change {
    /// Claimed: open its socket.
    Open(Box<view::Claimed>),
    /// Ended: close it.
    Close(String),
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
    let folding = follow(gateway.log.clone(), Seq(0), cancel.clone(), move |stored| {
        for recorded in read_or_note(&stored) {
            if let Some(change) = view.apply(&recorded, &instance) {
                // History is folded in silence: only runs that are still open when it ends are served.
                if stored.seq > last {
                    let _closed = sender.send(change);
                }
            }
        }
        if stored.seq == last {
            view.open().for_each(|claimed| {
                let _closed = sender.send(Change::Open(Box::new(claimed)));
            });
        }
    });
    let serving = async {
        let mut sockets: BTreeMap<String, CancellationToken> = BTreeMap::new();
        while let Some(change) = changes.recv().await {
            match change {
                Change::Open(claimed) => {
                    let dispatch = claimed.admitted.dispatch.to_string();
                    let token = cancel.child_token();
                    if let Some(before) = sockets.insert(dispatch, token.clone()) {
                        before.cancel();
                    }
                    tokio::spawn(serve::serve(gateway.clone(), claimed, token));
                }
                Change::Close(dispatch) => {
                    if let Some(token) = sockets.remove(&dispatch) {
                        token.cancel();
                    }
                }
            }
        }
    };
    tokio::select! {
        result = folding => result,
        () = serving => Ok(()),
    }
}
