//! Workspaces as the authority's own process sees them: a fold that follows the ledger, so that judging a launch costs no
//! read; and the reactor that records each proposal that a run has left, once.

use crate::follow::{follow, read_or_note};
use custody_contracts::canonical::derived_id;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{Kind, LedgerEvent, RunEvent};
use custody_contracts::ids::{Subject, WorkspaceId};
use custody_contracts::workspace::{CommitOutcome, WorkspaceEvent, WorkspaceProposalOpened};
use custody_domain::workspace::{WorkspaceCommand, WorkspaceState, Workspaces, system};
use custody_ledger::{Command, Entity, Log, LogError, Outcome, Recorded, Seq, Sign, Stored, handle};
use custody_ports::clock::Clock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two tries to record a proposal.
const RETRY: Duration = Duration::from_secs(1);

/// A proposal that a run left and that is not recorded yet.
#[derive(Debug, Clone)]
struct Pending {
    opened: WorkspaceProposalOpened,
    meta: Meta,
}

#[derive(Debug, Default)]
struct Known {
    by_id: BTreeMap<String, WorkspaceState>,
    pending: BTreeMap<(String, String), Pending>,
}

/// Workspaces by id.
#[derive(Debug, Clone)]
pub struct WorkspaceBook {
    known: Arc<Mutex<Known>>,
    changed: watch::Sender<u64>,
}

impl Default for WorkspaceBook {
    fn default() -> Self {
        WorkspaceBook { known: Arc::default(), changed: watch::channel(0).0 }
    }
}

impl WorkspaceBook {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of one; the default state when it was never registered.
    pub fn get(&self, id: &str) -> WorkspaceState {
        self.lock().by_id.get(id).cloned().unwrap_or_default()
    }

    /// The states of those that are registered among these.
    pub fn of<'a>(&self, ids: impl Iterator<Item = &'a str>) -> BTreeMap<String, WorkspaceState> {
        let known = self.lock();
        ids.filter_map(|id| Some((id.to_owned(), known.by_id.get(id)?.clone()))).collect()
    }

    /// Takes in one stored message.
    pub fn take_in(&self, stored: &Stored) {
        for recorded in read_or_note(stored) {
            match &recorded.event {
                Some(LedgerEvent::Workspace(event)) => self.on_workspace(event),
                Some(LedgerEvent::Run(RunEvent::Finished(_))) => self.on_finished(&recorded),
                _ => {}
            }
        }
    }

    fn on_workspace(&self, event: &WorkspaceEvent) {
        let id = event.workspace().to_string();
        let mut known = self.lock();
        if let WorkspaceEvent::ProposalOpened(e) = event {
            known.pending.remove(&(id.clone(), e.proposal.to_string()));
        }
        let state = known.by_id.remove(&id).unwrap_or_default().after(event);
        known.by_id.insert(id, state);
    }

    fn on_finished(&self, recorded: &Recorded) {
        let Some(LedgerEvent::Run(RunEvent::Finished(e))) = &recorded.event else { return };
        let subject = recorded.envelope.subject.as_deref().and_then(|s| Subject::parse(s).ok());
        for commit in e.commits.iter().filter(|c| c.outcome == CommitOutcome::Proposed) {
            let (Some(subject), Some(id)) = (&subject, &commit.commit) else { continue };
            if system::is_system(commit.workspace.as_str()) {
                continue;
            }
            let opened = WorkspaceProposalOpened {
                workspace: commit.workspace.clone(),
                proposal: e.dispatch.clone(),
                subject: subject.clone(),
                base: commit.base.clone(),
                commit: id.clone(),
                reason: commit.reason.clone(),
            };
            let meta = Meta {
                subject: Some(subject.to_string()),
                causation: Some(format!("ledger/{}", recorded.seq)),
                correlation: Some(e.dispatch.to_string()),
                launcher: recorded.envelope.launcher.clone(),
                traceparent: recorded.envelope.traceparent.clone(),
                ..Meta::default()
            };
            let key = (commit.workspace.to_string(), e.dispatch.to_string());
            let mut known = self.lock();
            let recorded_before =
                known.by_id.get(&key.0).is_some_and(|s| s.proposals().contains_key(e.dispatch.as_str()));
            if !recorded_before {
                known.pending.insert(key, Pending { opened, meta });
                drop(known);
                self.changed.send_modify(|n| *n += 1);
            }
        }
    }

    /// Replaces one entity's state by its history, read from the leader.
    pub fn replace(&self, id: &str, history: &[Stored]) {
        self.lock().by_id.remove(id);
        history.iter().for_each(|stored| self.take_in(stored));
    }

    /// Follows the ledger from the start until cancelled; `caught_up` is told once everything that existed at the
    /// call has been taken in.
    ///
    /// # Errors
    /// [`LogError`] when the log is broken.
    pub async fn run(
        self,
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
        follow(log, Seq(0), cancel, move |stored| {
            if stored.log_subject.starts_with("ledger.workspace.") || stored.log_subject.starts_with("ledger.run.") {
                self.take_in(&stored);
            }
            tell(stored.seq);
        })
        .await
    }

    /// Records every proposal that a run has left, until cancelled. Begin it when the book has caught up: what was
    /// recorded before is not pending then, and if it were, the decider finds it and nothing follows.
    pub async fn open_proposals(
        self,
        log: Arc<dyn Log>,
        signer: Arc<dyn Sign>,
        clock: Arc<dyn Clock>,
        cancel: CancellationToken,
    ) {
        let mut changed = self.changed.subscribe();
        loop {
            let pending: Vec<Pending> = self.lock().pending.values().cloned().collect();
            let mut failed = false;
            for one in pending {
                let (workspace, proposal) = (one.opened.workspace.clone(), one.opened.proposal.clone());
                match open_one(log.as_ref(), signer.as_ref(), clock.as_ref(), one).await {
                    Ok(()) => drop(self.lock().pending.remove(&(workspace.to_string(), proposal.to_string()))),
                    Err(why) => {
                        tracing::warn!(why, %workspace, %proposal, "proposal not recorded; trying again");
                        failed = true;
                    }
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                result = changed.changed() => if result.is_err() { return },
                () = tokio::time::sleep(RETRY), if failed => {}
            }
        }
    }
}

async fn open_one(log: &dyn Log, signer: &dyn Sign, clock: &dyn Clock, one: Pending) -> Result<(), String> {
    let (workspace, proposal): (&WorkspaceId, _) = (&one.opened.workspace, &one.opened.proposal);
    let Some(entity) = Entity::new(Kind::Workspace, workspace.as_str()) else { return Ok(()) };
    let id = derived_id("prop-", &[workspace.as_str().as_bytes(), proposal.as_str().as_bytes()]);
    let meta = Meta { time: clock.now().rfc3339(), ..one.meta.clone() };
    let command = Command { id, entity, meta, body: WorkspaceCommand::OpenProposal(one.opened.clone()) };
    match handle::<Workspaces>(log, signer, command).await {
        Ok(Outcome::Refused(refusal)) => {
            // Its commit stands in the bucket's head and in the run's last event: nothing is lost, it is only not listed.
            tracing::error!(%refusal, %workspace, %proposal, "proposal not recorded");
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
