//! What a runtime must know of the ledger: dispatches that have not ended, who had the last turn, and the newest session
//! file of each session. A fold: must never ask anybody anything, so that every runtime sees the same queue.

use custody_contracts::events::{
    DispatchAdmitted, DispatchEvent, EffectEvent, LedgerEvent, RunClaimed, RunEvent, RunStarted, StopReason,
};
use custody_contracts::ids::UnixMillis;
use custody_contracts::workspace::{Workspace, WorkspaceEvent};
use custody_domain::queue::{self, Caps, Claim, Entry, Served};
use custody_ledger::{Recorded, Seq};
use std::collections::{BTreeMap, BTreeSet};

/// How many that were stopped before they began are ended at once: they need no box, only the event.
const STOPPED_AT_ONCE_MAX: usize = 32;

/// Between TERM and KILL for a run whose budget is used up.
const BUDGET_GRACE_MS: u64 = 5_000;

/// A stop that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Milliseconds between TERM and KILL.
    pub grace_ms: u64,
    /// What the terminal event will say.
    pub reason: StopReason,
    /// By whom or by what.
    pub why: String,
}

/// One dispatch that has not ended.
#[derive(Debug, Clone)]
pub struct Open {
    /// Where it was admitted: the order of the queue.
    pub seq: Seq,
    /// When the admission was decided.
    pub admitted_at: Option<UnixMillis>,
    /// The admission.
    pub admitted: Box<DispatchAdmitted>,
    /// The traceparent of its launch.
    pub traceparent: Option<String>,
    /// The claim.
    pub claimed: Option<RunClaimed>,
    /// Where it was claimed.
    pub claimed_seq: Option<Seq>,
    /// The start.
    pub started: Option<RunStarted>,
    /// A stop that was asked for.
    pub stop: Option<Stop>,
}

impl Open {
    fn entry<'a>(&'a self, id: &'a str) -> Entry<'a> {
        Entry {
            seq: self.seq.0,
            id,
            subject: self.admitted.unit.identity.subject.as_str(),
            launcher: self.admitted.launch.launcher.as_str(),
            session: self.admitted.session.as_str(),
        }
    }
}

fn entries<'a>(of: Vec<(&'a String, &'a Open)>) -> Vec<Entry<'a>> {
    of.into_iter().map(|(id, open)| open.entry(id)).collect()
}

/// The newest file of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFile {
    /// Its digest.
    pub digest: String,
    /// The person whose turn left it: nobody else goes on from it.
    pub subject: String,
    /// The agent's own id for the session.
    pub agent_session: Option<String>,
}

/// The fold.
#[derive(Debug, Default)]
pub struct View {
    open: BTreeMap<String, Open>,
    files: BTreeMap<String, LastFile>,
    workspaces: BTreeMap<String, Workspace>,
    served: Served,
}

impl View {
    /// Applies one event.
    pub fn apply(&mut self, recorded: &Recorded) {
        match &recorded.event {
            Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => {
                let open = Open {
                    seq: recorded.seq,
                    admitted_at: UnixMillis::from_rfc3339(&recorded.envelope.time),
                    admitted: e.clone(),
                    traceparent: recorded.envelope.traceparent.clone(),
                    claimed: None,
                    claimed_seq: None,
                    started: None,
                    stop: None,
                };
                self.open.insert(e.dispatch.to_string(), open);
            }
            Some(LedgerEvent::Dispatch(DispatchEvent::StopRequested(e))) => {
                let reason = e.reason.unwrap_or(StopReason::Stopped);
                let why = ["asked by ", &e.by].concat();
                self.stop(e.dispatch.as_str(), Stop { grace_ms: e.grace_ms, reason, why });
            }
            Some(LedgerEvent::Run(RunEvent::Claimed(e))) => {
                if let Some(open) = self.open.get_mut(e.dispatch.as_str()) {
                    open.claimed = Some(e.clone());
                    open.claimed_seq = Some(recorded.seq);
                    let subject = open.admitted.unit.identity.subject.as_str();
                    self.served.note(subject, open.admitted.launch.launcher.as_str(), recorded.seq.0);
                }
            }
            Some(LedgerEvent::Run(RunEvent::Started(e))) => {
                if let Some(open) = self.open.get_mut(e.dispatch.as_str()) {
                    open.started = Some(e.clone());
                }
            }
            Some(LedgerEvent::Run(RunEvent::Finished(e))) => {
                let open = self.open.remove(e.dispatch.as_str());
                if let (Some(file), Some(open)) = (&e.session, open) {
                    let last = LastFile {
                        digest: file.digest.clone(),
                        subject: open.admitted.unit.identity.subject.to_string(),
                        agent_session: e.agent_session.clone(),
                    };
                    self.files.insert(file.id.to_string(), last);
                }
            }
            Some(LedgerEvent::Effect(EffectEvent::BudgetExhausted(e))) => {
                let why = format!("{} of the {} are used up", e.measure.as_str(), e.scope.as_str());
                let stop = Stop { grace_ms: BUDGET_GRACE_MS, reason: StopReason::Budget, why };
                self.stop(e.dispatch.as_str(), stop);
            }
            Some(LedgerEvent::Workspace(event)) => self.on_workspace(event),
            Some(
                LedgerEvent::Dispatch(
                    DispatchEvent::Refused(_) | DispatchEvent::FollowUpAccepted(_) | DispatchEvent::FollowUpRefused(_),
                )
                | LedgerEvent::Effect(
                    EffectEvent::ModelCalled(_)
                    | EffectEvent::ToolIntended(_)
                    | EffectEvent::ToolFinished(_)
                    | EffectEvent::ToolRefused(_)
                    | EffectEvent::ToolAwaiting(_)
                    | EffectEvent::BudgetWarned(_),
                )
                | LedgerEvent::Launcher(_)
                | LedgerEvent::Key(_)
                | LedgerEvent::Checkpoint(_)
                | LedgerEvent::Grant(_)
                | LedgerEvent::Approval(_)
                | LedgerEvent::Token(_),
            )
            | None => {}
        }
    }

    /// Containers of open claims.
    pub fn containers(&self) -> BTreeSet<String> {
        self.open.values().filter_map(|open| Some(open.claimed.as_ref()?.container_name.clone())).collect()
    }

    fn on_workspace(&mut self, event: &WorkspaceEvent) {
        match event {
            WorkspaceEvent::Registered(e) => {
                self.workspaces.insert(e.workspace.id.to_string(), e.workspace.clone());
            }
            WorkspaceEvent::KeyRotated(e) => {
                if let Some(document) = self.workspaces.get_mut(e.workspace.as_str()) {
                    document.encryption.recipients.clone_from(&e.recipients);
                }
            }
            WorkspaceEvent::Imported(_)
            | WorkspaceEvent::ProposalOpened(_)
            | WorkspaceEvent::ProposalAccepted(_)
            | WorkspaceEvent::ProposalLanded(_)
            | WorkspaceEvent::ProposalRejected(_) => {}
        }
    }

    /// A registered workspace, with the recipients of today.
    pub fn workspace(&self, id: &str) -> Option<&Workspace> {
        self.workspaces.get(id)
    }

    /// A dispatch that has not ended.
    pub fn get(&self, dispatch: &str) -> Option<&Open> {
        self.open.get(dispatch)
    }

    /// The newest file of a session, for the person whose session it is. Somebody else's is as if it were not there.
    pub fn file(&self, session: &str, subject: &str) -> Option<&LastFile> {
        self.files.get(session).filter(|file| file.subject == subject)
    }

    /// Notes that a dispatch is to end. The first reason stays; of two graces the shorter one counts.
    pub fn stop(&mut self, dispatch: &str, stop: Stop) {
        let Some(open) = self.open.get_mut(dispatch) else { return };
        match &mut open.stop {
            Some(before) => before.grace_ms = before.grace_ms.min(stop.grace_ms),
            none => *none = Some(stop),
        }
    }

    /// The dispatch to drive next: an own claim that nobody drives, else one that was stopped before it began, else the
    /// one whose turn it is by `domain::queue`, while there is room.
    pub fn next(
        &self,
        runtime: &str,
        driven: &BTreeMap<String, ()>,
        running_max: usize,
        caps: &Caps,
    ) -> Option<String> {
        let own = |open: &Open| open.claimed.as_ref().is_some_and(|c| c.runtime == runtime);
        if let Some((id, _)) = self.open.iter().find(|(id, open)| own(open) && !driven.contains_key(*id)) {
            return Some(id.clone());
        }
        let waits = |id: &str, open: &Open| open.claimed.is_none() && !driven.contains_key(id);
        if driven.len() < running_max + STOPPED_AT_ONCE_MAX
            && let Some((id, _)) = self.open.iter().find(|(id, open)| waits(id, open) && open.stop.is_some())
        {
            return Some(id.clone());
        }
        if driven.len() >= running_max {
            return None;
        }
        let (waiting, running): (Vec<_>, Vec<_>) = self.open.iter().partition(|(id, open)| waits(id, open));
        queue::next(&entries(waiting), &entries(running), &self.served, caps).map(|entry| entry.id.to_owned())
    }

    /// Whether a claimed dispatch may have its box now. Claims count in their order in the ledger, so two runtimes that
    /// claimed at the same moment agree on who waits.
    pub fn may_start(&self, dispatch: &str, caps: &Caps) -> bool {
        let claims =
            self.open.iter().filter_map(|(id, o)| Some(Claim { claimed: o.claimed_seq?.0, entry: o.entry(id) }));
        let claims: Vec<Claim<'_>> = claims.collect();
        claims.iter().find(|c| c.entry.id == dispatch).is_some_and(|own| queue::holds_place(own, &claims, caps))
    }
}
