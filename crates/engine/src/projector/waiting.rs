//! What each dispatch without a box waits for, as the runtimes see it: the same pure rule over the same facts. A question
//! about the rows, answered when it is asked; never stored, because every event of others changes it.

use custody_domain::queue::{Caps, Entry, Served, WaitsFor, waits_for};
use custody_projections::dispatches::DispatchRow;
use serde_json::Value;
use std::collections::BTreeMap;

fn entry(row: &DispatchRow) -> Entry<'_> {
    Entry {
        seq: row.first_seq,
        id: &row.dispatch,
        subject: row.subject.as_deref().unwrap_or_default(),
        launcher: &row.launcher,
        session: row.session.as_deref().unwrap_or_default(),
    }
}

/// Dispatch to what it waits for.
pub(super) fn waiting<'a>(rows: impl Iterator<Item = &'a DispatchRow>, caps: &Caps) -> BTreeMap<&'a str, WaitsFor<'a>> {
    let (mut waiting, mut running, mut served) = (Vec::new(), Vec::new(), Served::default());
    for row in rows {
        let entry = entry(row);
        if row.claimed_seq > 0 {
            served.note(entry.subject, entry.launcher, row.claimed_seq);
        }
        match (row.status.is_terminal(), row.claimed_seq > 0) {
            (true, _) => {}
            (false, true) => running.push(entry),
            (false, false) => waiting.push(entry),
        }
    }
    if waiting.is_empty() {
        return BTreeMap::new();
    }
    waits_for(&waiting, &running, &served, caps)
}

/// A row as it is told, with what it waits for in words and, where it has one, its place.
pub(super) fn told(row: &DispatchRow, waits_for: Option<&WaitsFor<'_>>) -> Value {
    let mut value = serde_json::to_value(row).unwrap_or_default();
    let words = match waits_for {
        None => return value,
        Some(WaitsFor::Place(place)) => {
            value["position"] = Value::from(*place);
            format!("position {place}")
        }
        Some(WaitsFor::Turn(turn)) => format!("turn {turn} of its session"),
        Some(WaitsFor::Subject(running)) => {
            format!("{running} running of {}", row.subject.as_deref().unwrap_or_default())
        }
        Some(WaitsFor::Launcher(running)) => format!("{running} running of launcher {}", row.launcher),
    };
    value["waits_for"] = Value::from(words);
    value
}
