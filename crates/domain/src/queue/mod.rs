//! Which dispatch gets a box next, and whether one more may wait at all. Pure: the same fold of the ledger gives every
//! runtime the same order. Must never hold state of its own and never look at a clock: "how long" is counted in ledger
//! sequences.
//!
//! Fair means round robin: first among persons, then among the launchers of the chosen person, and first come first
//! served within one launcher. Nobody who floods the queue takes another one's turn, and nobody who is new to it takes
//! the turn of one who waits.

mod fair;
mod room;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use fair::{holds_place, next, waits_for};
pub use room::{Load, room, superseded};

/// One dispatch that has not ended, as the queue sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry<'a> {
    /// Sequence of its admission.
    pub seq: u64,
    /// The dispatch.
    pub id: &'a str,
    /// The person.
    pub subject: &'a str,
    /// The launcher.
    pub launcher: &'a str,
    /// The session: its turns run one after another.
    pub session: &'a str,
}

/// A dispatch that a runtime has claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The dispatch.
    pub entry: Entry<'a>,
    /// Sequence of the claim: of two claims for one place the earlier has it.
    pub claimed: u64,
}

/// When a person, and a launcher for a person, had their last turn: sequences of claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    subjects: BTreeMap<String, u64>,
    launchers: BTreeMap<(String, String), u64>,
}

impl Served {
    /// Notes a claim; in any order.
    pub fn note(&mut self, subject: &str, launcher: &str, claimed: u64) {
        let of_subject = self.subjects.entry(subject.to_owned()).or_default();
        *of_subject = claimed.max(*of_subject);
        let of_launcher = self.launchers.entry((subject.to_owned(), launcher.to_owned())).or_default();
        *of_launcher = claimed.max(*of_launcher);
    }

    fn subject(&self, subject: &str) -> u64 {
        self.subjects.get(subject).copied().unwrap_or_default()
    }

    fn launcher(&self, subject: &str, launcher: &str) -> u64 {
        self.launchers.get(&(subject.to_owned(), launcher.to_owned())).copied().unwrap_or_default()
    }
}

/// The most boxes at once. `None` is no limit but the machine's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// Of one person.
    pub per_subject: Option<usize>,
    /// Of one launcher.
    pub per_launcher: Option<usize>,
}

/// What becomes of a launch when its person or launcher has all the boxes that it may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// It waits.
    #[default]
    Queue,
    /// It is refused.
    Reject,
    /// It is admitted, and the oldest one is stopped.
    CancelOld,
}

/// What an operator decides about the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Boxes at once.
    pub caps: Caps,
    /// What happens at a cap.
    pub policy: Policy,
    /// The most that wait in all.
    pub waiting_max: usize,
    /// The most that wait of one launcher.
    pub waiting_per_launcher_max: usize,
}

/// Why a dispatch has no box yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor<'a> {
    /// An earlier turn of its session, which is this dispatch.
    Turn(&'a str),
    /// A box of its person: so many run.
    Subject(usize),
    /// A box of its launcher: so many run.
    Launcher(usize),
    /// Its turn: 1 is next.
    Place(usize),
}
