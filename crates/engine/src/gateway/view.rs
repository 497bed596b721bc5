//! What the gateway must know of the ledger: runs that are claimed and have not ended.

use super::Change;
use custody_contracts::events::{DispatchAdmitted, DispatchEvent, LedgerEvent, RunClaimed, RunEvent};
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
}

#[derive(Debug)]
struct Waiting {
    seq: Seq,
    admitted: DispatchAdmitted,
    traceparent: Option<String>,
}

/// The fold.
#[derive(Debug, Default)]
pub(crate) struct View {
    waiting: BTreeMap<String, Waiting>,
    open: BTreeMap<String, Claimed>,
    agent_sessions: BTreeMap<String, String>,
}

impl View {
    pub(crate) fn apply(&mut self, recorded: &Recorded, instance: &str) -> Option<Change> {
        match &recorded.event {
            Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => {
                let traceparent = recorded.envelope.traceparent.clone();
                let waiting = Waiting { seq: recorded.seq, admitted: (**e).clone(), traceparent };
                self.waiting.insert(e.dispatch.to_string(), waiting);
                None
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
                };
                self.open.insert(e.dispatch.to_string(), claimed.clone());
                Some(Change::Open(Box::new(claimed)))
            }
            Some(LedgerEvent::Run(RunEvent::Finished(e))) => {
                if let (Some(file), Some(own)) = (&e.session, &e.agent_session) {
                    self.agent_sessions.insert(file.id.to_string(), own.clone());
                }
                self.waiting.remove(e.dispatch.as_str());
                self.open.remove(e.dispatch.as_str())?;
                Some(Change::Close(e.dispatch.to_string()))
            }
            Some(
                LedgerEvent::Dispatch(DispatchEvent::Refused(_) | DispatchEvent::StopRequested(_))
                | LedgerEvent::Run(RunEvent::Started(_))
                | LedgerEvent::Effect(_)
                | LedgerEvent::Launcher(_)
                | LedgerEvent::Key(_)
                | LedgerEvent::Checkpoint(_),
            )
            | None => None,
        }
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = Claimed> {
        self.open.values().cloned()
    }
}
