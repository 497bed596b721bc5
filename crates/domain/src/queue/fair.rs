//! Round robin over persons, then over launchers. A person has one place in the round: it is taken when the oldest of
//! their dispatches came to wait or when they had their last turn, whichever is later, and the earliest place is next.

use super::{Caps, Claim, Entry, Served, WaitsFor};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

/// Who has how many boxes, and which sessions are busy.
#[derive(Debug, Default)]
struct Running<'a> {
    subjects: BTreeMap<&'a str, usize>,
    launchers: BTreeMap<&'a str, usize>,
    sessions: BTreeMap<&'a str, &'a str>,
}

impl<'a> Running<'a> {
    fn of(entries: &[Entry<'a>]) -> Running<'a> {
        let mut running = Running::default();
        for entry in entries {
            *running.subjects.entry(entry.subject).or_default() += 1;
            *running.launchers.entry(entry.launcher).or_default() += 1;
            running.sessions.insert(entry.session, entry.id);
        }
        running
    }

    /// Why an entry that is the first of its session may not start, whatever its place is.
    fn held_by(&self, entry: &Entry<'a>, caps: &Caps) -> Option<WaitsFor<'a>> {
        if let Some(turn) = self.sessions.get(entry.session) {
            return Some(WaitsFor::Turn(turn));
        }
        let full = |count: Option<&usize>, most: Option<usize>| {
            let count = count.copied().unwrap_or_default();
            most.is_some_and(|most| count >= most).then_some(count)
        };
        if let Some(count) = full(self.subjects.get(entry.subject), caps.per_subject) {
            return Some(WaitsFor::Subject(count));
        }
        full(self.launchers.get(entry.launcher), caps.per_launcher).map(WaitsFor::Launcher)
    }
}

/// The first waiting entry of each session.
fn first_turns<'a>(waiting: &[Entry<'a>]) -> BTreeMap<&'a str, Entry<'a>> {
    let mut first: BTreeMap<&str, Entry<'_>> = BTreeMap::new();
    for entry in waiting {
        let known = first.entry(entry.session).or_insert(*entry);
        if entry.seq < known.seq {
            *known = *entry;
        }
    }
    first
}

/// The dispatch whose turn it is; `None` when none of those that wait may start.
pub fn next<'a>(waiting: &[Entry<'a>], running: &[Entry<'a>], served: &Served, caps: &Caps) -> Option<Entry<'a>> {
    let running = Running::of(running);
    let ready = first_turns(waiting).into_values().filter(|entry| running.held_by(entry, caps).is_none());
    Round::of(ready, served).next()
}

/// Why each of those that wait does so. Places count only those that could start at once if there were boxes enough.
pub fn waits_for<'a>(
    waiting: &[Entry<'a>],
    running: &[Entry<'a>],
    served: &Served,
    caps: &Caps,
) -> BTreeMap<&'a str, WaitsFor<'a>> {
    let running = Running::of(running);
    let first = first_turns(waiting);
    let mut reasons = BTreeMap::new();
    for entry in waiting {
        let before = first.get(entry.session).filter(|f| f.id != entry.id);
        let turn = || running.sessions.get(entry.session).copied().or_else(|| before.map(|f| f.id)).map(WaitsFor::Turn);
        let reason = if before.is_some() { turn() } else { running.held_by(entry, caps) };
        if let Some(reason) = reason {
            reasons.insert(entry.id, reason);
        }
    }
    let ready: Vec<Entry<'_>> = first.into_values().filter(|entry| !reasons.contains_key(entry.id)).collect();
    for (index, entry) in Round::of(ready.into_iter(), served).enumerate() {
        reasons.insert(entry.id, WaitsFor::Place(index + 1));
    }
    reasons
}

/// Whether a claim has its place: counted in the order of claims, so that two runtimes that claimed at the same moment
/// agree on who begins and who waits for a box to end.
pub fn holds_place(own: &Claim<'_>, claims: &[Claim<'_>], caps: &Caps) -> bool {
    let before: Vec<&Claim<'_>> = claims.iter().filter(|c| c.claimed < own.claimed).collect();
    let below = |most: Option<usize>, count: usize| most.is_none_or(|most| count < most);
    let of_subject = before.iter().filter(|c| c.entry.subject == own.entry.subject).count();
    let of_launcher = before.iter().filter(|c| c.entry.launcher == own.entry.launcher).count();
    before.iter().all(|c| c.entry.session != own.entry.session)
        && below(caps.per_subject, of_subject)
        && below(caps.per_launcher, of_launcher)
}

/// One launcher's entries for one person, oldest first, and when it had its last turn.
#[derive(Debug, Default)]
struct Line<'a> {
    entries: VecDeque<Entry<'a>>,
    served: u64,
}

impl Line<'_> {
    fn place(&self) -> Option<(u64, u64)> {
        self.entries.front().map(|head| (self.served.max(head.seq), head.seq))
    }
}

/// The rest of the round, as an iterator: who comes when.
#[derive(Debug)]
struct Round<'a> {
    lines: BTreeMap<&'a str, BTreeMap<&'a str, Line<'a>>>,
    /// (place, oldest entry, person), the earliest first.
    places: BinaryHeap<Reverse<(u64, u64, &'a str)>>,
    /// The place of whoever has just had a turn: behind everybody who waits now.
    tick: u64,
}

impl<'a> Round<'a> {
    fn of(ready: impl Iterator<Item = Entry<'a>>, served: &Served) -> Round<'a> {
        let sorted: BTreeSet<Entry<'a>> = ready.collect();
        let mut lines: BTreeMap<&str, BTreeMap<&str, Line<'_>>> = BTreeMap::new();
        let mut tick = 0;
        for entry in sorted {
            let line = lines.entry(entry.subject).or_default().entry(entry.launcher).or_default();
            line.served = served.launcher(entry.subject, entry.launcher);
            line.entries.push_back(entry);
            tick = tick.max(entry.seq).max(line.served).max(served.subject(entry.subject));
        }
        let place = |(subject, lines): (&&'a str, &BTreeMap<&str, Line<'_>>)| {
            let oldest = oldest(lines)?;
            Some(Reverse((served.subject(subject).max(oldest), oldest, *subject)))
        };
        let places = lines.iter().filter_map(place).collect();
        Round { lines, places, tick }
    }
}

fn oldest(lines: &BTreeMap<&str, Line<'_>>) -> Option<u64> {
    lines.values().filter_map(|line| line.entries.front()).map(|entry| entry.seq).min()
}

impl<'a> Iterator for Round<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let Reverse((_, _, subject)) = self.places.pop()?;
        let lines = self.lines.get_mut(subject)?;
        let line = lines.values_mut().filter(|line| !line.entries.is_empty()).min_by_key(|line| line.place())?;
        let entry = line.entries.pop_front()?;
        self.tick += 1;
        line.served = self.tick;
        if let Some(oldest) = oldest(lines) {
            self.places.push(Reverse((self.tick, oldest, subject)));
        }
        Some(entry)
    }
}
