//! How long each phase of a start took, as the run's events tell it. Pure arithmetic over times that others read. Must
//! never be what a decision depends on.
//!
//! The phases of a start follow each other: `admit` (stored to decided), `queue` (to the claim), `claim`, `create` (to the
//! box that is made, which may be while its claim is recorded), `mount` (what workspaces' files, session file and the
//! gateway's socket took beyond that, at the same time; all of it, with its mounts, for a warm box), `boot` (the engine's
//! start call, and its turn for it). A run's end adds `first_frame` (from the engine's time of the start, or from the mounts
//! of a warm box, to the worker's first frame) and `first_byte` (from there to the first frame that the agent caused).

use custody_contracts::box_protocol::{Frame, FrameBody};
use custody_contracts::events::RunStarted;
use custody_contracts::ids::UnixMillis;
use std::collections::BTreeMap;

/// The most that one phase can take. Source: ledger.v2.
const MS_MAX: u64 = 86_400_000;

/// A stop-watch with names.
#[derive(Debug, Clone)]
pub(super) struct Phases {
    took: BTreeMap<String, u64>,
    lap: UnixMillis,
}

impl Phases {
    /// Begins at a time.
    pub(super) fn since(begun: UnixMillis) -> Phases {
        Phases { took: BTreeMap::new(), lap: begun }
    }

    /// A phase that lay between two times, where both are known.
    pub(super) fn between(&mut self, name: &str, from: Option<UnixMillis>, to: Option<UnixMillis>) {
        if let (Some(from), Some(to)) = (from, to) {
            self.took.insert(name.to_owned(), to.0.saturating_sub(from.0).min(MS_MAX));
        }
    }

    /// A phase ends now, and the next begins.
    pub(super) fn lap(&mut self, name: &str, now: UnixMillis) {
        self.took.insert(name.to_owned(), now.0.saturating_sub(self.lap.0).min(MS_MAX));
        // A box that was made ahead of its claim took no time of its own.
        self.lap = self.lap.max(now);
    }

    /// All of them.
    pub(super) fn done(self) -> BTreeMap<String, u64> {
        self.took
    }
}

/// When a box spoke first, by the clock of its worker, which is the host's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spoke {
    frame: Option<UnixMillis>,
    byte: Option<UnixMillis>,
}

impl Spoke {
    /// Takes one frame, in order.
    pub(super) fn hear(&mut self, frame: &Frame) {
        let at = UnixMillis(frame.at);
        self.frame.get_or_insert(at);
        if !matches!(frame.body, FrameBody::Started { .. } | FrameBody::Exit { .. }) {
            self.byte.get_or_insert(at);
        }
    }

    /// The phases that the start could not know. The start call of a cold box began before the engine's own time of the
    /// start; a warm one's time is that of its mounts.
    pub(super) fn phases(self, started: &RunStarted) -> BTreeMap<String, u64> {
        let mut phases = Phases::since(started.started_at);
        phases.between("first_frame", Some(started.started_at), self.frame);
        phases.between("first_byte", self.frame, self.byte);
        phases.done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_follow_each_other_and_a_clock_that_goes_back_is_nothing() {
        let mut phases = Phases::since(UnixMillis(100));
        phases.lap("claim", UnixMillis(130));
        phases.lap("mount", UnixMillis(120));
        phases.between("queue", Some(UnixMillis(90)), Some(UnixMillis(100)));
        phases.between("admit", None, Some(UnixMillis(90)));
        let expected = [("claim", 30), ("mount", 0), ("queue", 10)];
        assert_eq!(phases.done(), expected.into_iter().map(|(k, v)| (k.to_owned(), v)).collect());
    }
}
