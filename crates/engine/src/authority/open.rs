//! Dispatches that have not ended, as authority sees them: a fold that follows the ledger, so that deciding whether one
//! more may come in costs no read. It also holds a place for what this process is just deciding, so that the most that
//! may wait holds also while many are decided at once. With several authorities each counts its own undecided ones
//! alone: together they may be over by those. Must never decide anything itself.

use custody_contracts::events::{DispatchAdmitted, DispatchEvent, LedgerEvent, RunEvent};
use custody_domain::admission::Refusal;
use custody_domain::queue::{Load, Rules, room, superseded};
use custody_ledger::{Recorded, Stored};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One dispatch that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDispatch {
    /// Sequence of its admission; 0 while it is being decided.
    pub seq: u64,
    /// The person.
    pub subject: String,
    /// The launcher.
    pub launcher: String,
    /// The most turns that its box takes.
    pub turns: Option<u64>,
    /// Whether a runtime has it.
    pub claimed: bool,
    /// Whether a stop was asked for.
    pub stopping: bool,
}

impl OpenDispatch {
    fn of(admitted: &DispatchAdmitted, seq: u64) -> OpenDispatch {
        OpenDispatch {
            seq,
            subject: admitted.unit.identity.subject.to_string(),
            launcher: admitted.launch.launcher.to_string(),
            turns: admitted.unit.limits.as_ref().and_then(|l| l.turns),
            claimed: false,
            stopping: false,
        }
    }
}

/// The rows, and how many of them there are by what is asked.
#[derive(Debug, Default)]
struct Rows {
    by_id: BTreeMap<String, OpenDispatch>,
    waiting: usize,
    waiting_of_launcher: BTreeMap<String, usize>,
    of_subject: BTreeMap<String, usize>,
    of_launcher: BTreeMap<String, usize>,
}

fn less(counts: &mut BTreeMap<String, usize>, key: &str) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Rows {
    fn insert(&mut self, id: &str, row: OpenDispatch) {
        if let Some(known) = self.by_id.get_mut(id) {
            known.seq = row.seq;
            return;
        }
        *self.of_subject.entry(row.subject.clone()).or_default() += 1;
        *self.of_launcher.entry(row.launcher.clone()).or_default() += 1;
        *self.waiting_of_launcher.entry(row.launcher.clone()).or_default() += 1;
        self.waiting += 1;
        self.by_id.insert(id.to_owned(), row);
    }

    fn waits_no_more(&mut self, launcher: &str) {
        self.waiting -= 1;
        less(&mut self.waiting_of_launcher, launcher);
    }

    fn claim(&mut self, id: &str) {
        let Some(row) = self.by_id.get_mut(id).filter(|row| !row.claimed) else { return };
        row.claimed = true;
        let launcher = row.launcher.clone();
        self.waits_no_more(&launcher);
    }

    fn remove(&mut self, id: &str) {
        let Some(row) = self.by_id.remove(id) else { return };
        if !row.claimed {
            self.waits_no_more(&row.launcher);
        }
        less(&mut self.of_subject, &row.subject);
        less(&mut self.of_launcher, &row.launcher);
    }

    fn load(&self, subject: &str, launcher: &str) -> Load {
        let count = |counts: &BTreeMap<String, usize>, key: &str| counts.get(key).copied().unwrap_or_default();
        Load {
            waiting: self.waiting,
            waiting_of_launcher: count(&self.waiting_of_launcher, launcher),
            open_of_subject: count(&self.of_subject, subject),
            open_of_launcher: count(&self.of_launcher, launcher),
        }
    }
}

/// Dispatches that have not ended, by id. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct OpenDispatches(Arc<Mutex<Rows>>);

impl OpenDispatches {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in one stored message.
    pub fn take_in(&self, stored: &Stored) {
        if stored.log_subject.starts_with("ledger.dispatch.") || stored.log_subject.starts_with("ledger.run.") {
            crate::follow::read_or_note(stored).iter().for_each(|recorded| self.apply(recorded));
        }
    }

    fn apply(&self, recorded: &Recorded) {
        let mut rows = self.rows();
        match &recorded.event {
            Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => {
                rows.insert(e.dispatch.as_str(), OpenDispatch::of(e, recorded.seq.0));
            }
            Some(LedgerEvent::Dispatch(DispatchEvent::StopRequested(e))) => {
                if let Some(row) = rows.by_id.get_mut(e.dispatch.as_str()) {
                    row.stopping = true;
                }
            }
            Some(LedgerEvent::Run(RunEvent::Claimed(e))) => rows.claim(e.dispatch.as_str()),
            Some(LedgerEvent::Run(RunEvent::Finished(e))) => rows.remove(e.dispatch.as_str()),
            Some(
                LedgerEvent::Dispatch(
                    DispatchEvent::Refused(_) | DispatchEvent::FollowUpAccepted(_) | DispatchEvent::FollowUpRefused(_),
                )
                | LedgerEvent::Run(RunEvent::Started(_))
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

    /// Takes a place for a dispatch that is about to be admitted. One that has a place already keeps it.
    ///
    /// # Errors
    /// The refusal when there is none.
    pub fn reserve(&self, admitted: &DispatchAdmitted, rules: &Rules) -> Result<(), Refusal> {
        let mut rows = self.rows();
        let id = admitted.dispatch.as_str();
        if rows.by_id.contains_key(id) {
            return Ok(());
        }
        let row = OpenDispatch::of(admitted, 0);
        room(&rows.load(&row.subject, &row.launcher), rules)?;
        rows.insert(id, row);
        Ok(())
    }

    /// Says where a dispatch was admitted. Nothing when it has ended meanwhile.
    pub fn admitted(&self, id: &str, seq: u64) {
        if let Some(row) = self.rows().by_id.get_mut(id).filter(|row| row.seq == 0) {
            row.seq = seq;
        }
    }

    /// Gives a reserved place back: the dispatch was not admitted now.
    pub fn release(&self, id: &str) {
        let mut rows = self.rows();
        if rows.by_id.get(id).is_some_and(|row| row.seq == 0) {
            rows.remove(id);
        }
    }

    /// One that has not ended.
    pub fn get(&self, id: &str) -> Option<OpenDispatch> {
        self.rows().by_id.get(id).cloned()
    }

    /// Ids of those that a launcher began.
    pub fn of_launcher(&self, launcher: &str) -> Vec<String> {
        let rows = self.rows();
        rows.by_id
            .iter()
            .filter(|(_, row)| row.launcher == launcher && !row.stopping)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Those that give way to the newest of a person and a launcher.
    pub fn superseded(&self, subject: &str, launcher: &str, rules: &Rules) -> Vec<String> {
        let rows = self.rows();
        let of = |wanted: &dyn Fn(&OpenDispatch) -> bool| -> Vec<(u64, String)> {
            let of = rows.by_id.iter().filter(|(_, row)| wanted(row) && !row.stopping && row.seq > 0);
            of.map(|(id, row)| (row.seq, id.clone())).collect()
        };
        let mut out = Vec::new();
        for (open, cap) in [
            (of(&|row| row.subject == subject), rules.caps.per_subject),
            (of(&|row| row.launcher == launcher), rules.caps.per_launcher),
        ] {
            let open: Vec<(u64, &str)> = open.iter().map(|(seq, id)| (*seq, id.as_str())).collect();
            out.extend(superseded(&open, cap, rules).into_iter().map(str::to_owned));
        }
        out.sort();
        out.dedup();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use custody_contracts::events::TYPES;
    use custody_domain::queue::{Caps, Policy};
    use serde_json::json;

    const RULES: Rules = Rules {
        caps: Caps { per_subject: Some(1), per_launcher: None },
        policy: Policy::CancelOld,
        waiting_max: 3,
        waiting_per_launcher_max: 2,
    };

    fn admitted(id: &str, launcher: &str) -> DispatchAdmitted {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/ledger.v2/golden/DispatchAdmitted.minimal.json");
        let mut data: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        data["dispatch"] = json!(id);
        data["launch"]["launcher"] = json!(launcher);
        assert_eq!(TYPES[0].1, "DispatchAdmitted");
        serde_json::from_value(data).unwrap()
    }

    #[test]
    fn places_are_held_while_deciding_and_given_back() {
        let open = OpenDispatches::default();
        open.reserve(&admitted("d-1", "web"), &RULES).unwrap();
        open.reserve(&admitted("d-1", "web"), &RULES).unwrap();
        open.reserve(&admitted("d-2", "web"), &RULES).unwrap();
        let full = open.reserve(&admitted("d-3", "web"), &RULES).unwrap_err();
        assert_eq!(full.code, "QUEUE_FULL");
        open.reserve(&admitted("d-4", "mail"), &RULES).unwrap();
        assert!(open.reserve(&admitted("d-5", "mail"), &RULES).unwrap_err().detail.starts_with("3 dispatches wait,"));
        open.admitted("d-1", 7);
        open.release("d-1");
        assert_eq!(open.get("d-1").map(|row| row.seq), Some(7), "what is admitted is not given back");
        open.release("d-2");
        open.reserve(&admitted("d-3", "web"), &RULES).unwrap();
    }

    #[test]
    fn the_oldest_gives_way_once() {
        let open = OpenDispatches::default();
        for (seq, id) in [(7, "d-1"), (8, "d-2")] {
            open.reserve(&admitted(id, "web"), &RULES).unwrap();
            open.admitted(id, seq);
        }
        let subject = open.get("d-1").unwrap().subject;
        assert_eq!(open.superseded(&subject, "web", &RULES), ["d-1"]);
        open.rows().by_id.get_mut("d-1").unwrap().stopping = true;
        assert!(open.superseded(&subject, "web", &RULES).is_empty());
        let mut rows = open.rows();
        rows.claim("d-1");
        rows.claim("d-1");
        rows.remove("d-1");
        rows.remove("d-1");
        assert_eq!(
            rows.load(&subject, "web"),
            Load { waiting: 1, waiting_of_launcher: 1, open_of_subject: 1, open_of_launcher: 1 }
        );
    }
}
