//! `custody dispatch trace`: how long each phase of a start took and what stood around the box, from the run's events.

use crate::client::Operator;
use crate::error::{CliError, CliResult, exit};
use crate::render::{Render, col, line};
use custody_contracts::events::{InForce, Kind, LedgerEvent, RunEvent};
use custody_ledger::{Entity, Log, Recorded};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The phases in their order, with what each is.
const PHASES: [(&str, &str); 8] = [
    ("admit", "stored to decided"),
    ("queue", "decided to claimed"),
    ("claim", "the claim in the ledger"),
    ("create", "folders made, and the engine made the box"),
    ("mount", "beyond that: files, session, socket, mounts"),
    ("boot", "the engine's start call"),
    ("first_frame", "started to the worker's first frame"),
    ("first_byte", "from there to the agent's first byte"),
];

/// What a run's events say of its start.
#[derive(Debug, Default)]
pub(super) struct Trace {
    warm: Option<bool>,
    phases: BTreeMap<String, u64>,
    in_force: Option<InForce>,
}

/// Reads the run of a dispatch from the ledger.
pub(super) async fn read(operator: &Operator, dispatch: &str) -> CliResult<Trace> {
    let entity = Entity::new(Kind::Run, dispatch).ok_or_else(|| CliError::new(exit::USAGE, "DISPATCH", dispatch))?;
    let stored = operator.log().await?.load(&entity).await;
    let stored =
        stored.map_err(|e| CliError::new(exit::UNREACHABLE, "LEDGER_UNAVAILABLE", e).hint("custody doctor"))?;
    let events = stored.iter().flat_map(|stored| Recorded::read(stored).unwrap_or_default());
    Ok(events.fold(Trace::default(), |trace, recorded| match recorded.event {
        Some(LedgerEvent::Run(event)) => trace.with(event),
        _ => trace,
    }))
}

impl Trace {
    fn with(mut self, event: RunEvent) -> Trace {
        match event {
            RunEvent::Claimed(claimed) => self.warm = Some(claimed.warm == Some(true)),
            RunEvent::Started(started) => {
                self.warm = started.in_force.as_ref().map_or(self.warm, |set| Some(set.warm));
                self.phases.extend(started.phases_ms);
                self.in_force = started.in_force;
            }
            RunEvent::Finished(finished) => self.phases.extend(finished.phases_ms),
        }
        self
    }

    /// Adds it to a dispatch's row.
    pub(super) fn join(&self, row: &mut Value) {
        row["start"] = json!(self.warm.map(|warm| if warm { "warm" } else { "cold" }));
        row["phases_ms"] = json!(self.phases);
        row["in_force"] = json!(self.in_force);
    }

    /// Shows it.
    pub(super) fn show(&self, render: &Render, dispatch: &str) -> CliResult {
        if render.is_json() {
            let mut row = json!({ "dispatch": dispatch });
            self.join(&mut row);
            return render.one("dispatch-trace.v1", "dispatch", &row);
        }
        let known = PHASES.iter().filter_map(|(name, what)| {
            let took = self.phases.get(*name)?;
            Some(json!({ "phase": name, "ms": took, "what": what }))
        });
        // An older runtime's phases have other names; they are shown as they are.
        let others = self.phases.iter().filter(|(name, _)| !PHASES.iter().any(|(known, _)| known == name));
        let rows: Vec<Value> =
            known.chain(others.map(|(name, took)| json!({ "phase": name, "ms": took, "what": "" }))).collect();
        let columns = [col("PHASE", "phase"), col("MS", "ms"), col("WHAT", "what")];
        render.list("dispatch-trace.v1", "phase", &columns, &rows)?;
        match (&self.in_force, self.warm) {
            (Some(set), _) => line(format!(
                "{} start · sockets {} · isolation {} by {} · {} MiB, {} cpu, {} processes · seccomp {}",
                if set.warm { "warm" } else { "cold" },
                set.sockets.as_str(),
                set.isolation.as_str(),
                set.oci_runtime,
                set.memory_bytes >> 20,
                thousandths(set.nano_cpus),
                set.pids,
                set.seccomp_digest.chars().take(19).collect::<String>(),
            )),
            (None, Some(_)) => line("no box of it is known to have run"),
            (None, None) => line("no runtime has claimed it"),
        }
    }
}

/// Billionths as a number with three places.
fn thousandths(nano: u64) -> String {
    format!("{}.{:03}", nano / 1_000_000_000, nano % 1_000_000_000 / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_have_three_places() {
        assert_eq!(thousandths(1_000_000_000), "1.000");
        assert_eq!(thousandths(250_000_000), "0.250");
    }

    #[test]
    fn a_run_that_never_started_is_told_as_it_is() {
        let mut row = json!({});
        Trace::default().join(&mut row);
        assert_eq!(row, json!({ "start": null, "phases_ms": {}, "in_force": null }));
    }
}
