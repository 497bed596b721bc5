//! The life of a dispatch as its events tell it: when it was admitted, claimed, started and ended, and what it called.
//! Pure: a fold over recorded events. Must never keep more of a dispatch than it needs, nor any dispatch that ended.

use custody_contracts::events::{
    DispatchEvent, EffectEvent, EffectOutcome, LedgerEvent, RunEvent, StopReason, ToolPhase,
};
use custody_ledger::Recorded;
use std::collections::BTreeMap;

/// The most calls of one dispatch that become spans; the rest is counted.
pub const CALLS_MAX: usize = 1_000;
/// A tool whose name is not known.
pub const UNNAMED: &str = "other";

/// A call of a model or a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Model or tool.
    pub what: Called,
    /// Its name.
    pub name: String,
    /// Milliseconds since the epoch: its recorded end.
    pub end_ms: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// Whether it did what it should.
    pub ok: bool,
    /// Where it stands in the ledger.
    pub seq: u64,
}

/// What was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Called {
    /// A model.
    Model {
        /// Who runs the upstream, or the upstream's configured name.
        provider: String,
        /// The model that answered, when the upstream named it.
        answered: Option<String>,
        /// Tokens sent.
        input_tokens: u64,
        /// Tokens received.
        output_tokens: u64,
    },
    /// A tool.
    Tool,
}

/// How a dispatch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: StopReason,
    /// Milliseconds since the epoch: the process's end.
    pub at_ms: u64,
    /// When that was recorded.
    pub recorded_ms: u64,
    /// Where in the ledger.
    pub seq: u64,
}

/// One dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Its id.
    pub dispatch: String,
    /// Its session.
    pub session: String,
    /// Its runner.
    pub runner: String,
    /// Its launcher.
    pub launcher: String,
    /// W3C trace context of the launch.
    pub traceparent: Option<String>,
    /// When its launch was stored, where that is on record.
    pub stored_ms: Option<u64>,
    /// Milliseconds since the epoch.
    pub admitted_ms: u64,
    /// When a runtime claimed it, and which.
    pub claimed: Option<(u64, String)>,
    /// Whether its box is one that ran before, blank.
    pub warm: bool,
    /// When its process started.
    pub started_ms: Option<u64>,
    /// Milliseconds by phase of the start, in the order of [`crate::spans`].
    pub phases_ms: BTreeMap<String, u64>,
    /// Milliseconds by phase from the start of its process on.
    pub spoke_ms: BTreeMap<String, u64>,
    /// Its calls, the first [`CALLS_MAX`].
    pub calls: Vec<Call>,
    /// Tools of its tool calls by their number, the first [`CALLS_MAX`].
    pub tools: BTreeMap<u32, String>,
    /// How it ended.
    pub end: Option<End>,
}

/// Every dispatch that has not ended.
#[derive(Debug, Default)]
pub struct Lives {
    open: BTreeMap<String, Life>,
}

/// Milliseconds since the epoch of an event's time; 0 when it cannot be read.
pub fn millis(rfc3339: &str) -> u64 {
    rfc3339.parse::<jiff::Timestamp>().ok().and_then(|t| u64::try_from(t.as_millisecond()).ok()).unwrap_or_default()
}

impl Lives {
    /// Takes in one event. Gives back the whole life of the dispatch that it ended.
    pub fn apply(&mut self, recorded: &Recorded) -> Option<Life> {
        let at = millis(&recorded.envelope.time);
        match recorded.event.as_ref()? {
            LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => {
                let life = Life {
                    dispatch: e.dispatch.to_string(),
                    session: e.session.to_string(),
                    runner: e.runner.name.to_string(),
                    launcher: e.launch.launcher.to_string(),
                    traceparent: recorded.envelope.traceparent.clone(),
                    stored_ms: e.launch.stored_at.map(|t| t.0),
                    admitted_ms: at,
                    claimed: None,
                    warm: false,
                    started_ms: None,
                    phases_ms: BTreeMap::new(),
                    spoke_ms: BTreeMap::new(),
                    calls: Vec::new(),
                    tools: BTreeMap::new(),
                    end: None,
                };
                self.open.insert(life.dispatch.clone(), life);
                None
            }
            LedgerEvent::Run(RunEvent::Claimed(e)) => {
                let life = self.open.get_mut(e.dispatch.as_str())?;
                life.claimed = Some((at, e.runtime.clone()));
                life.warm = e.warm == Some(true);
                None
            }
            LedgerEvent::Run(RunEvent::Started(e)) => {
                let life = self.open.get_mut(e.dispatch.as_str())?;
                life.started_ms = Some(e.started_at.0);
                life.phases_ms = e.phases_ms.clone();
                None
            }
            LedgerEvent::Run(RunEvent::Finished(e)) => {
                let mut life = self.open.remove(e.dispatch.as_str())?;
                life.spoke_ms = e.phases_ms.clone();
                life.started_ms = life.started_ms.or_else(|| e.started_at.map(|t| t.0));
                let at_ms = e.finished_at.0;
                life.end = Some(End { reason: e.reason, at_ms, recorded_ms: at.max(at_ms), seq: recorded.seq.0 });
                Some(life)
            }
            LedgerEvent::Effect(event) => {
                self.called(recorded.seq.0, at, event);
                None
            }
            LedgerEvent::Dispatch(
                DispatchEvent::Refused(_)
                | DispatchEvent::StopRequested(_)
                | DispatchEvent::FollowUpAccepted(_)
                | DispatchEvent::FollowUpRefused(_),
            )
            | LedgerEvent::Launcher(_)
            | LedgerEvent::Key(_)
            | LedgerEvent::Checkpoint(_)
            | LedgerEvent::Workspace(_)
            | LedgerEvent::Grant(_)
            | LedgerEvent::Approval(_)
            | LedgerEvent::Token(_) => None,
        }
    }

    fn called(&mut self, seq: u64, end_ms: u64, event: &EffectEvent) {
        let (dispatch, call) = match event {
            EffectEvent::ModelCalled(e) => {
                let what = Called::Model {
                    provider: e.provider.clone().unwrap_or_else(|| e.upstream.clone()),
                    answered: e.response_model.clone(),
                    input_tokens: e.input_tokens,
                    output_tokens: e.output_tokens,
                };
                let ok = e.outcome == EffectOutcome::Succeeded;
                (&e.dispatch, Call { what, name: e.model.clone(), end_ms, duration_ms: e.duration_ms, ok, seq })
            }
            EffectEvent::ToolIntended(e) => {
                let life = self.open.get_mut(e.dispatch.as_str());
                if let Some(life) = life.filter(|life| life.tools.len() < CALLS_MAX) {
                    life.tools.insert(e.n, e.tool.clone());
                }
                return;
            }
            EffectEvent::ToolFinished(e) => {
                let name = self.tool(e.dispatch.as_str(), e.n).to_owned();
                let ok = e.phase == ToolPhase::Succeeded;
                (&e.dispatch, Call { what: Called::Tool, name, end_ms, duration_ms: e.duration_ms, ok, seq })
            }
            EffectEvent::ToolRefused(e) => {
                let name = e.tool.clone().unwrap_or_else(|| UNNAMED.into());
                (&e.dispatch, Call { what: Called::Tool, name, end_ms, duration_ms: 0, ok: false, seq })
            }
            EffectEvent::ToolAwaiting(_) | EffectEvent::BudgetWarned(_) | EffectEvent::BudgetExhausted(_) => return,
        };
        if let Some(life) = self.open.get_mut(dispatch.as_str()).filter(|life| life.calls.len() < CALLS_MAX) {
            life.calls.push(call);
        }
    }

    /// The tool of one of a dispatch's tool calls.
    pub fn tool(&self, dispatch: &str, n: u32) -> &str {
        self.open.get(dispatch).and_then(|life| life.tools.get(&n)).map_or(UNNAMED, String::as_str)
    }

    /// Dispatches that have not ended.
    pub fn open(&self) -> impl Iterator<Item = &Life> {
        self.open.values()
    }
}
