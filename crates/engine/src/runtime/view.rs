//! What a runtime must know of the ledger: dispatches that have not ended, and the newest session file of each session.

use custody_contracts::events::{
    DispatchAdmitted, DispatchEvent, DispatchStopRequested, LedgerEvent, RunClaimed, RunEvent, RunStarted,
};
use custody_ledger::{Recorded, Seq};
use std::collections::BTreeMap;

/// One dispatch that has not ended.
#[derive(Debug, Clone)]
pub struct Open {
    /// Where it was admitted: the order of the queue.
    pub seq: Seq,
    /// The admission.
    pub admitted: Box<DispatchAdmitted>,
    /// The traceparent of its launch.
    pub traceparent: Option<String>,
    /// The claim.
    pub claimed: Option<RunClaimed>,
    /// The start.
    pub started: Option<RunStarted>,
    /// A stop that was asked for.
    pub stop: Option<DispatchStopRequested>,
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
}

impl View {
    /// Applies one event.
    pub fn apply(&mut self, recorded: &Recorded) {
        match &recorded.event {
            Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => {
                let open = Open {
                    seq: recorded.seq,
                    admitted: e.clone(),
                    traceparent: recorded.envelope.traceparent.clone(),
                    claimed: None,
                    started: None,
                    stop: None,
                };
                self.open.insert(e.dispatch.to_string(), open);
            }
            Some(LedgerEvent::Dispatch(DispatchEvent::StopRequested(e))) => {
                if let Some(open) = self.open.get_mut(e.dispatch.as_str()) {
                    open.stop = Some(e.clone());
                }
            }
            Some(LedgerEvent::Run(RunEvent::Claimed(e))) => {
                if let Some(open) = self.open.get_mut(e.dispatch.as_str()) {
                    open.claimed = Some(e.clone());
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
            Some(
                LedgerEvent::Dispatch(DispatchEvent::Refused(_))
                | LedgerEvent::Effect(_)
                | LedgerEvent::Launcher(_)
                | LedgerEvent::Key(_)
                | LedgerEvent::Checkpoint(_),
            )
            | None => {}
        }
    }

    /// A dispatch that has not ended.
    pub fn get(&self, dispatch: &str) -> Option<&Open> {
        self.open.get(dispatch)
    }

    /// The newest file of a session, for the person whose session it is. Somebody else's is as if it were not there.
    pub fn file(&self, session: &str, subject: &str) -> Option<&LastFile> {
        self.files.get(session).filter(|file| file.subject == subject)
    }

    /// The dispatch to drive next: an own claim that nobody drives, else the oldest unclaimed one whose session has no
    /// other run, while there is room. Turns of one session run one after another.
    pub fn next(&self, runtime: &str, driven: &BTreeMap<String, ()>, running_max: usize) -> Option<String> {
        let own = |open: &Open| open.claimed.as_ref().is_some_and(|c| c.runtime == runtime);
        if let Some((id, _)) = self.open.iter().find(|(id, open)| own(open) && !driven.contains_key(*id)) {
            return Some(id.clone());
        }
        if driven.len() >= running_max {
            return None;
        }
        let busy = |open: &Open| {
            self.open.iter().any(|(id, other)| {
                other.admitted.session == open.admitted.session && (other.claimed.is_some() || driven.contains_key(id))
            })
        };
        let waiting = self.open.iter().filter(|(id, open)| open.claimed.is_none() && !driven.contains_key(*id));
        waiting.filter(|(_, open)| !busy(open)).min_by_key(|(_, open)| open.seq).map(|(id, _)| id.clone())
    }
}
