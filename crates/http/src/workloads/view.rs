//! Workloads as the ledger tells them: a pure fold, bounded. Every dispatch is one: those posted here under the id that
//! they were posted with, all others under their dispatch id. Must never forget one that has not ended.

use super::LAUNCHER;
use custody_contracts::events::{DispatchEvent, LedgerEvent, RunEvent, StopReason};
use custody_contracts::ids::UnixMillis;
use custody_contracts::workload::{Backend, RuntimeEvent, WorkloadState, WorkloadStatus};
use custody_ledger::Recorded;
use std::collections::BTreeMap;

/// Ended workloads that are kept for lists; older ones are read from the ledger when somebody asks for one by its id.
pub const ENDED_MAX: usize = 10_000;

/// One change, with its place in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub seq: u64,
    /// What.
    pub event: RuntimeEvent,
}

/// One workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its id here.
    pub id: String,
    /// Its dispatch.
    pub dispatch: String,
    /// Whose it is.
    pub subject: String,
    /// Its runner.
    pub profile: String,
    /// Digest of its specification, when it was posted here.
    pub digest: Option<String>,
    /// The container that was claimed for it.
    pub container: Option<String>,
    /// Where it is, as far as the ledger says.
    pub state: WorkloadState,
    /// When its process started.
    pub started_at: Option<UnixMillis>,
    /// When its process ended.
    pub stopped_at: Option<UnixMillis>,
    /// How.
    pub exit_code: Option<i64>,
    /// Why.
    pub stop_reason: Option<StopReason>,
    /// Every change so far.
    pub changes: Vec<Change>,
}

impl Workload {
    /// As runtime.v1 says it. `gone` is the engine's word that there is no container.
    pub fn status(&self, backend: Backend, node: &str, gone: bool) -> WorkloadStatus {
        let destroyed = self.state == WorkloadState::Stopped && gone;
        let never_ran = self.stop_reason == Some(StopReason::StartFailed);
        WorkloadStatus {
            workload_id: self.id.clone(),
            profile: self.profile.clone(),
            state: if destroyed { WorkloadState::Destroyed } else { self.state },
            started_at: self.started_at.map(UnixMillis::rfc3339),
            stopped_at: self.stopped_at.filter(|_| !never_ran).map(UnixMillis::rfc3339),
            exit_code: self.exit_code,
            stop_reason: self.stop_reason,
            backend,
            node: self.container.as_ref().map(|_| node.to_owned()),
        }
    }

    /// The change that follows when its container is gone; it is no event of the ledger and has no place there.
    pub fn destroyed(&self, at: UnixMillis) -> RuntimeEvent {
        RuntimeEvent {
            workload_id: self.id.clone(),
            state: WorkloadState::Destroyed,
            at: at.rfc3339(),
            exit_code: self.exit_code,
            stop_reason: self.stop_reason,
        }
    }

    fn change(&mut self, seq: u64, state: WorkloadState, at: String) {
        // A stop that is asked for after the end changes nothing: states go one way.
        if state <= self.state && !self.changes.is_empty() {
            return;
        }
        self.state = state;
        let event = RuntimeEvent {
            workload_id: self.id.clone(),
            state,
            at,
            exit_code: self.exit_code,
            stop_reason: self.stop_reason,
        };
        self.changes.push(Change { seq, event });
    }
}

/// The fold.
#[derive(Debug, Default)]
pub struct View {
    by_dispatch: BTreeMap<String, Workload>,
    posted: BTreeMap<String, String>,
    /// Ended ones by the sequence of their end.
    ended: BTreeMap<u64, String>,
}

impl View {
    /// Takes in one event.
    pub fn apply(&mut self, recorded: &Recorded) {
        let (seq, at) = (recorded.seq.0, &recorded.envelope.time);
        match &recorded.event {
            Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => {
                let posted = e.launch.launcher.as_str() == LAUNCHER;
                let reference = e.unit.context.as_ref().and_then(|c| c.reference.as_ref());
                let own = e.launch.event_id.as_ref().filter(|_| posted);
                let mut workload = Workload {
                    id: own.cloned().unwrap_or_else(|| e.dispatch.to_string()),
                    dispatch: e.dispatch.to_string(),
                    subject: e.unit.identity.subject.to_string(),
                    profile: e.runner.name.to_string(),
                    digest: reference.filter(|_| posted).and_then(|r| r.etag.clone()),
                    container: None,
                    state: WorkloadState::Starting,
                    started_at: None,
                    stopped_at: None,
                    exit_code: None,
                    stop_reason: None,
                    changes: Vec::new(),
                };
                workload.change(seq, WorkloadState::Starting, at.clone());
                if own.is_some() {
                    self.posted.insert(workload.id.clone(), workload.dispatch.clone());
                }
                self.by_dispatch.insert(workload.dispatch.clone(), workload);
            }
            Some(LedgerEvent::Dispatch(DispatchEvent::StopRequested(e))) => {
                if let Some(workload) = self.by_dispatch.get_mut(e.dispatch.as_str()) {
                    workload.change(seq, WorkloadState::Stopping, at.clone());
                }
            }
            Some(LedgerEvent::Run(event)) => self.apply_run(seq, at, event),
            Some(
                LedgerEvent::Dispatch(
                    DispatchEvent::Refused(_) | DispatchEvent::FollowUpAccepted(_) | DispatchEvent::FollowUpRefused(_),
                )
                | LedgerEvent::Effect(_)
                | LedgerEvent::Launcher(_)
                | LedgerEvent::Key(_)
                | LedgerEvent::Checkpoint(_)
                | LedgerEvent::Workspace(_)
                | LedgerEvent::Grant(_)
                | LedgerEvent::Approval(_)
                | LedgerEvent::Token(_),
            )
            | None => {}
        }
    }

    fn apply_run(&mut self, seq: u64, at: &str, event: &RunEvent) {
        match event {
            RunEvent::Claimed(e) => {
                if let Some(workload) = self.by_dispatch.get_mut(e.dispatch.as_str()) {
                    workload.container = Some(e.container_name.clone());
                }
            }
            RunEvent::Started(e) => {
                if let Some(workload) = self.by_dispatch.get_mut(e.dispatch.as_str()) {
                    workload.started_at = Some(e.started_at);
                    workload.change(seq, WorkloadState::Running, at.to_owned());
                }
            }
            RunEvent::Finished(e) => {
                let Some(workload) = self.by_dispatch.get_mut(e.dispatch.as_str()) else { return };
                workload.started_at = workload.started_at.or(e.started_at);
                workload.stopped_at = Some(e.finished_at);
                workload.exit_code = e.exit_code;
                workload.stop_reason = Some(e.reason);
                workload.change(seq, WorkloadState::Stopped, at.to_owned());
                self.ended.insert(seq, e.dispatch.to_string());
                self.trim();
            }
        }
    }

    fn trim(&mut self) {
        while self.ended.len() > ENDED_MAX {
            let Some((_, dispatch)) = self.ended.pop_first() else { return };
            if let Some(old) = self.by_dispatch.remove(&dispatch) {
                self.posted.remove(&old.id);
            }
        }
    }

    /// One by the id that it has here.
    pub fn get(&self, id: &str) -> Option<&Workload> {
        let dispatch = self.posted.get(id).map_or(id, String::as_str);
        self.by_dispatch.get(dispatch)
    }

    /// Those of one person, newest first.
    pub fn of<'a>(&'a self, subject: &'a str) -> impl Iterator<Item = &'a Workload> {
        let mut found: Vec<&Workload> = self.by_dispatch.values().filter(|w| w.subject == subject).collect();
        found.sort_by_key(|w| std::cmp::Reverse(w.changes.first().map(|c| c.seq)));
        found.into_iter()
    }
}

#[cfg(test)]
mod tests;
