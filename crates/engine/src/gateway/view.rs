//! What the gateway must know of the ledger: runs that are claimed and have not ended.

use super::Change;
use custody_contracts::approval::{ApprovalEvent, Choice, ToolAwaiting};
use custody_contracts::envelope::Meta;
use custody_contracts::events::{
    DispatchAdmitted, DispatchEvent, EffectEvent, FollowUpAccepted, LedgerEvent, RunClaimed, RunEvent, ToolIntended,
};
use custody_ledger::{Recorded, Seq};
use std::collections::BTreeMap;

/// A claimed run.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    /// Where it was admitted.
    pub(crate) seq: Seq,
    /// The admission.
    pub(crate) admitted: DispatchAdmitted,
    /// The claim.
    pub(crate) claim: RunClaimed,
    /// The agent's own id of the session, when an earlier turn told it.
    pub(crate) agent_session: Option<String>,
    /// The traceparent of its launch.
    pub(crate) traceparent: Option<String>,
    /// What was said to it so far, in order.
    pub(crate) said: Vec<FollowUpAccepted>,
    /// The engine's id of its container, once that runs.
    pub(crate) container: Option<String>,
}

impl Claimed {
    /// The envelope of an event that the gateway writes for this dispatch.
    pub(crate) fn meta(&self, time: String) -> Meta {
        Meta {
            time,
            subject: Some(self.admitted.unit.identity.subject.to_string()),
            causation: Some(format!("ledger/{}", self.seq)),
            correlation: Some(self.admitted.dispatch.to_string()),
            launcher: Some(self.admitted.launch.launcher.to_string()),
            grant: self.admitted.grant.id().map(ToString::to_string),
            traceparent: self.traceparent.clone(),
        }
    }
}

#[derive(Debug)]
struct Waiting {
    seq: Seq,
    admitted: DispatchAdmitted,
    traceparent: Option<String>,
    said: Vec<FollowUpAccepted>,
}

/// The fold.
#[derive(Debug, Default)]
pub(crate) struct View {
    waiting: BTreeMap<String, Waiting>,
    open: BTreeMap<String, Claimed>,
    agent_sessions: BTreeMap<String, String>,
    /// Tool calls of own runs that wait for a person, by card, and whether the card has ended.
    waiting_calls: BTreeMap<String, (Claimed, ToolAwaiting, bool)>,
    /// Tool calls of own runs that were intended and have no outcome, by entity.
    intended: BTreeMap<String, (Claimed, ToolIntended)>,
}

impl View {
    pub(crate) fn apply(&mut self, recorded: &Recorded, instance: &str) -> Option<Change> {
        match &recorded.event {
            Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => {
                let traceparent = recorded.envelope.traceparent.clone();
                let waiting = Waiting { seq: recorded.seq, admitted: (**e).clone(), traceparent, said: Vec::new() };
                self.waiting.insert(e.dispatch.to_string(), waiting);
                None
            }
            Some(LedgerEvent::Dispatch(DispatchEvent::FollowUpAccepted(e))) => {
                if let Some(waiting) = self.waiting.get_mut(e.dispatch.as_str()) {
                    waiting.said.push(e.clone());
                    return None;
                }
                self.open.get_mut(e.dispatch.as_str())?.said.push(e.clone());
                Some(Change::Say(e.clone()))
            }
            Some(LedgerEvent::Run(RunEvent::Claimed(e))) => {
                let waiting = self.waiting.remove(e.dispatch.as_str())?;
                if e.runtime != instance {
                    return None;
                }
                let claimed = Claimed {
                    seq: waiting.seq,
                    agent_session: self.agent_sessions.get(e.session.as_str()).cloned(),
                    admitted: waiting.admitted,
                    claim: e.clone(),
                    traceparent: waiting.traceparent,
                    said: waiting.said,
                    container: None,
                };
                self.open.insert(e.dispatch.to_string(), claimed.clone());
                Some(Change::Open(Box::new(claimed)))
            }
            Some(LedgerEvent::Run(RunEvent::Started(e))) => {
                let claimed = self.open.get_mut(e.dispatch.as_str()).filter(|c| c.claim.attempt == e.attempt)?;
                claimed.container = Some(e.container.clone());
                Some(Change::Started { dispatch: e.dispatch.to_string(), container: e.container.clone() })
            }
            Some(LedgerEvent::Run(RunEvent::Finished(e))) => {
                if let (Some(file), Some(own)) = (&e.session, &e.agent_session) {
                    self.agent_sessions.insert(file.id.to_string(), own.clone());
                }
                self.waiting.remove(e.dispatch.as_str());
                self.open.remove(e.dispatch.as_str())?;
                Some(Change::Close(e.dispatch.to_string()))
            }
            Some(LedgerEvent::Effect(effect)) => {
                self.on_effect(effect);
                None
            }
            Some(
                LedgerEvent::Dispatch(
                    DispatchEvent::Refused(_) | DispatchEvent::StopRequested(_) | DispatchEvent::FollowUpRefused(_),
                )
                | LedgerEvent::Launcher(_)
                | LedgerEvent::Key(_)
                | LedgerEvent::Checkpoint(_)
                | LedgerEvent::Workspace(_)
                | LedgerEvent::Grant(_)
                | LedgerEvent::Token(_),
            )
            | None => None,
            Some(LedgerEvent::Approval(event)) => {
                let ends = match event {
                    ApprovalEvent::Expired(_) => true,
                    ApprovalEvent::Decided(e) => matches!(e.decision, Choice::Approve | Choice::Reject),
                };
                let (claimed, awaiting, ended) = self.waiting_calls.get_mut(event.card()).filter(|_| ends)?;
                *ended = true;
                Some(Change::Release(Box::new((claimed.clone(), awaiting.clone()))))
            }
        }
    }

    fn on_effect(&mut self, effect: &EffectEvent) {
        match effect {
            EffectEvent::ToolIntended(e) => {
                // A call that waited may be made after its run has ended.
                let waited = self.waiting_calls.remove(&effect.entity_id()).map(|(claimed, ..)| claimed);
                if let Some(claimed) = waited.or_else(|| self.open.get(e.dispatch.as_str()).cloned()) {
                    self.intended.insert(effect.entity_id(), (claimed, e.clone()));
                }
            }
            EffectEvent::ToolAwaiting(e) => {
                if let Some(claimed) = self.open.get(e.dispatch.as_str()) {
                    self.waiting_calls.insert(e.card(), (claimed.clone(), (**e).clone(), false));
                }
            }
            EffectEvent::ToolRefused(_) => {
                self.waiting_calls.remove(&effect.entity_id());
            }
            EffectEvent::ToolFinished(_) => {
                self.intended.remove(&effect.entity_id());
            }
            EffectEvent::ModelCalled(_) | EffectEvent::BudgetWarned(_) | EffectEvent::BudgetExhausted(_) => {}
        }
    }

    /// Tool calls of which nobody knows how they ended: for the time when history has been read.
    pub(crate) fn take_doubtful(&mut self) -> impl Iterator<Item = (Claimed, ToolIntended)> {
        std::mem::take(&mut self.intended).into_values()
    }

    /// Calls that wait though their card has ended: for the time when history has been read.
    pub(crate) fn take_ended(&mut self) -> impl Iterator<Item = (Claimed, ToolAwaiting)> {
        let ended = self.waiting_calls.values().filter(|(.., ended)| *ended);
        ended.map(|(claimed, awaiting, _)| (claimed.clone(), awaiting.clone())).collect::<Vec<_>>().into_iter()
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = Claimed> {
        self.open.values().cloned()
    }
}
