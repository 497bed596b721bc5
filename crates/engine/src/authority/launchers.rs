//! Launchers as the authority's own process sees them: a fold that follows the ledger, so that judging a launch costs no
//! read. It also takes in what this process has just decided, so that its own commands are seen at once.

use super::open::OpenDispatches;
use crate::follow::read_or_note;
use crate::grants::Grants;
use crate::keys::KeyBook;
use custody_contracts::events::{LauncherEvent, LedgerEvent};
use custody_domain::launcher::LauncherState;
use custody_ledger::{Log, LogError, Seq, Stored};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Launchers by id.
#[derive(Debug, Clone)]
pub struct Launchers {
    by_id: Arc<RwLock<BTreeMap<String, LauncherState>>>,
    changed: watch::Sender<u64>,
}

impl Default for Launchers {
    fn default() -> Self {
        Launchers { by_id: Arc::default(), changed: watch::channel(0).0 }
    }
}

impl Launchers {
    /// The state of one; the default state when it was never registered.
    pub fn get(&self, id: &str) -> LauncherState {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned().unwrap_or_default()
    }

    /// Id and public key of every launcher that may publish.
    pub fn enabled(&self) -> BTreeMap<String, String> {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        by_id
            .iter()
            .filter(|(_, s)| s.disabled().is_none())
            .filter_map(|(id, s)| Some((id.clone(), s.registered()?.public_key.clone())))
            .collect()
    }

    /// Told whenever a launcher changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes in one stored message.
    pub fn take_in(&self, stored: &Stored) {
        for recorded in read_or_note(stored) {
            if let Some(LedgerEvent::Launcher(event)) = recorded.event {
                let id = match &event {
                    LauncherEvent::Registered(e) => e.launcher.to_string(),
                    LauncherEvent::Rotated(e) => e.launcher.to_string(),
                    LauncherEvent::Disabled(e) => e.launcher.to_string(),
                };
                let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
                let state = by_id.remove(&id).unwrap_or_default().after(&event);
                by_id.insert(id, state);
                self.changed.send_modify(|n| *n += 1);
            }
        }
    }

    /// Replaces one entity's state by its history, read from the leader.
    pub fn replace(&self, id: &str, history: &[Stored]) {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        history.iter().for_each(|stored| self.take_in(stored));
    }

    /// Follows the ledger from the start until cancelled, for dispatches that have not ended, for grants and for keys
    /// too: one reader serves all four folds. `caught_up` is told once everything that existed at the
    /// call has been taken in.
    ///
    /// # Errors
    /// [`LogError`] when the log is broken.
    pub async fn run(
        self,
        open: OpenDispatches,
        grants: Grants,
        keys: KeyBook,
        log: Arc<dyn Log>,
        cancel: CancellationToken,
        caught_up: tokio::sync::oneshot::Sender<()>,
    ) -> Result<(), LogError> {
        let last = log.last_seq().await?;
        let mut caught_up = Some(caught_up);
        let mut tell = |seq: Seq| {
            if seq >= last
                && let Some(sender) = caught_up.take()
            {
                // The receiver may be gone when the role is shutting down.
                let _gone = sender.send(());
            }
        };
        tell(Seq(0));
        crate::follow::follow(log, Seq(0), cancel, move |stored| {
            if stored.log_subject.starts_with("ledger.launcher.") {
                self.take_in(&stored);
            }
            open.take_in(&stored);
            grants.take_in(&stored);
            keys.take_in(&stored);
            tell(stored.seq);
        })
        .await
    }
}
