//! Mode 2: every decision of the log is taken again by the deciders, from inputs that the log itself holds, and must be
//! the recorded one. A refusal, another event or another field is a divergence. Nothing is executed.

mod admission;

use crate::check::Check;
use crate::diff::{FieldDiff, fields};
use crate::slice::{Event, LaunchLine, Slice};
use custody_contracts::canonical::digest;
use custody_contracts::events::{
    CheckpointEvent, DispatchEvent, EffectEvent, KeyEvent, LaunchRef, LauncherEvent, LedgerEvent, RunEvent,
};
use custody_domain::checkpoint::{CheckpointChain, CheckpointState};
use custody_domain::dispatch::{Dispatch, DispatchCommand, DispatchState};
use custody_domain::effect::{Effect, EffectState};
use custody_domain::events::{OfCheckpoint, OfDispatch, OfEffect, OfKey, OfLauncher, OfRun};
use custody_domain::key::{Key, KeyCommand, KeyState};
use custody_domain::launcher::{Launcher, LauncherCommand, LauncherState};
use custody_domain::run::{Run, RunCommand, RunState};
use custody_ledger::Decider;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// A decision that turned round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reversal {
    /// What was refused would be allowed now. Blocks always.
    RefusalToAllowed,
    /// What was allowed would be refused now.
    AllowedToRefusal,
}

/// A decision that does not come out as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// Ledger sequence of the recorded decision.
    pub seq: u64,
    /// What came out instead, in a sentence.
    pub what: String,
    /// Field by field, recorded against computed.
    pub fields: Vec<FieldDiff>,
    /// Set when the decision turned round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reversal: Option<Reversal>,
}

/// Every decision of a log, taken again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Decisions {
    /// How many were taken.
    pub taken: u64,
    /// Those that came out otherwise, in log order.
    pub divergences: Vec<Divergence>,
    /// Dispatch and what it comes out as now: `admitted` or `refused:<CODE>`.
    pub outcomes: BTreeMap<String, String>,
    /// Launch and how many decisions name it.
    pub by_launch: BTreeMap<u64, u64>,
    /// Dispatch and digest of the message that decided it.
    decided: BTreeSet<(String, String)>,
}

impl Decisions {
    /// Whether this launch says byte for byte what another one said before: it needs no decision of its own.
    pub(crate) fn repeats(&self, launch: &LaunchLine) -> bool {
        let ids = admission::ids(launch);
        let bytes = digest(&launch.bytes);
        ids.into_iter().flatten().any(|id| self.decided.contains(&(id.to_string(), bytes.clone())))
    }

    /// All of it as one check.
    pub(crate) fn check(&self) -> Check {
        let mut check = Check::new("decision");
        check.looked_at = self.taken;
        for divergence in &self.divergences {
            let mut what = divergence.what.clone();
            for field in divergence.fields.iter().take(3) {
                what = format!("{what}; {field}");
            }
            check.fail(Some(divergence.seq), what);
        }
        check
    }
}

/// Who an event must be attributed to, as its admission says.
struct Admitted {
    subject: String,
    launcher: String,
}

#[derive(Default)]
struct States<'a> {
    launches: BTreeMap<u64, (usize, &'a LaunchLine)>,
    launchers: BTreeMap<String, LauncherState>,
    dispatches: BTreeMap<String, DispatchState>,
    admitted: BTreeMap<String, Admitted>,
    runs: BTreeMap<String, RunState>,
    effects: BTreeMap<String, EffectState>,
    keys: BTreeMap<String, KeyState>,
    checkpoints: CheckpointState,
}

/// Takes every decision of a log again.
pub(crate) fn replay(slice: &Slice) -> Decisions {
    let mut states = States::default();
    for (index, launch) in slice.launches() {
        states.launches.entry(launch.seq).or_insert((index, launch));
    }
    let mut out = Decisions::default();
    for event in &slice.events {
        let Some(known) = &event.recorded.event else { continue };
        out.taken += 1;
        if let Some(divergence) = states.again(event, known, &mut out) {
            out.divergences.push(divergence);
        }
        // What was recorded is what happened: one divergence must not make others.
        states.follow(known);
    }
    out
}

fn divergence(event: &Event, what: impl Into<String>) -> Divergence {
    Divergence { seq: event.seq(), what: what.into(), fields: Vec::new(), reversal: None }
}

impl States<'_> {
    fn again(&self, event: &Event, known: &LedgerEvent, out: &mut Decisions) -> Option<Divergence> {
        match known {
            LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => self.judged(event, known, &e.launch, out),
            LedgerEvent::Dispatch(DispatchEvent::Refused(e)) => self.judged(event, known, &e.launch, out),
            LedgerEvent::Dispatch(DispatchEvent::StopRequested(e)) => {
                let id = e.dispatch.as_str();
                let command = DispatchCommand::RequestStop(e.clone());
                compare::<Dispatch>(event, known, id, &state(&self.dispatches, id), command, &[])
            }
            LedgerEvent::Run(run) => {
                let (id, command) = match run {
                    RunEvent::Claimed(e) => (&e.dispatch, RunCommand::Claim(e.clone())),
                    RunEvent::Started(e) => (&e.dispatch, RunCommand::Start(e.clone())),
                    RunEvent::Finished(e) => (&e.dispatch, RunCommand::Finish(e.clone())),
                };
                let id = id.as_str();
                compare::<Run>(event, known, id, &state(&self.runs, id), command, &self.attribution(id))
            }
            LedgerEvent::Effect(EffectEvent::ModelCalled(e)) => {
                let id = format!("{}-m{}", e.dispatch, e.n);
                let attribution = self.attribution(e.dispatch.as_str());
                compare::<Effect>(event, known, &id, &state(&self.effects, &id), e.clone(), &attribution)
            }
            LedgerEvent::Launcher(launcher) => {
                let (id, command) = match launcher {
                    LauncherEvent::Registered(e) => (&e.launcher, LauncherCommand::Register(e.clone())),
                    LauncherEvent::Rotated(e) => (&e.launcher, LauncherCommand::Rotate(e.clone())),
                    LauncherEvent::Disabled(e) => (&e.launcher, LauncherCommand::Disable(e.clone())),
                };
                let id = id.as_str();
                compare::<Launcher>(event, known, id, &state(&self.launchers, id), command, &[])
            }
            LedgerEvent::Key(key) => {
                let (id, command) = match key {
                    KeyEvent::Introduced(e) => (&e.kid, KeyCommand::Introduce(e.clone())),
                    KeyEvent::Retired(e) => (&e.kid, KeyCommand::Retire(e.clone())),
                };
                compare::<Key>(event, known, id, &state(&self.keys, id), command, &[])
            }
            LedgerEvent::Checkpoint(CheckpointEvent::Signed(e)) => {
                compare::<CheckpointChain>(event, known, "log", &self.checkpoints, e.clone(), &[])
            }
        }
    }

    fn attribution(&self, dispatch: &str) -> Vec<(&'static str, Option<String>)> {
        let Some(admitted) = self.admitted.get(dispatch) else { return Vec::new() };
        vec![
            ("subject", Some(admitted.subject.clone())),
            ("launcher", Some(admitted.launcher.clone())),
            ("correlation", Some(dispatch.to_owned())),
        ]
    }

    /// An admission or a refusal, judged again from the bytes of its launch.
    fn judged(&self, event: &Event, known: &LedgerEvent, at: &LaunchRef, out: &mut Decisions) -> Option<Divergence> {
        *out.by_launch.entry(at.stream_seq).or_default() += 1;
        let Some((line, launch)) = self.launches.get(&at.stream_seq) else {
            return Some(divergence(event, format!("launch {}, which it decides, is not in the log", at.stream_seq)));
        };
        if *line > event.line {
            return Some(divergence(event, format!("launch {} stands after its decision", at.stream_seq)));
        }
        let judged = match admission::judge(launch, &self.launchers, &self.dispatches, known) {
            Ok(judged) => judged,
            Err(why) => return Some(divergence(event, why)),
        };
        let id = judged.dispatch.to_string();
        let admits = matches!(judged.command, DispatchCommand::Admit(_));
        let outcome = match &judged.command {
            DispatchCommand::Refuse(e) => ["refused:", &e.reason].concat(),
            DispatchCommand::Admit(_) | DispatchCommand::RequestStop(_) => "admitted".to_owned(),
        };
        out.outcomes.entry(id.clone()).or_insert(outcome);
        out.decided.insert((id.clone(), digest(&launch.bytes)));
        let attribution = [
            ("causation", Some(format!("launch/{}", launch.seq))),
            ("correlation", Some(id.clone())),
            ("launcher", Some(judged.launcher.to_string())),
            ("subject", judged.subject),
        ];
        let now = state(&self.dispatches, &id);
        let mut found = compare::<Dispatch>(event, known, &id, &now, judged.command, &attribution)?;
        let admitted = matches!(known, LedgerEvent::Dispatch(DispatchEvent::Admitted(_)));
        found.reversal = match (admitted, admits) {
            (false, true) => Some(Reversal::RefusalToAllowed),
            (true, false) => Some(Reversal::AllowedToRefusal),
            _ => None,
        };
        Some(found)
    }

    fn follow(&mut self, known: &LedgerEvent) {
        match known.clone() {
            LedgerEvent::Dispatch(e) => {
                let id = match &e {
                    DispatchEvent::Admitted(e) => {
                        let admitted = Admitted {
                            subject: e.unit.identity.subject.to_string(),
                            launcher: e.launch.launcher.to_string(),
                        };
                        self.admitted.entry(e.dispatch.to_string()).or_insert(admitted);
                        e.dispatch.to_string()
                    }
                    DispatchEvent::Refused(e) => e.dispatch.to_string(),
                    DispatchEvent::StopRequested(e) => e.dispatch.to_string(),
                };
                evolve::<Dispatch>(&mut self.dispatches, id, &OfDispatch(e));
            }
            LedgerEvent::Run(e) => {
                let id = match &e {
                    RunEvent::Claimed(e) => e.dispatch.to_string(),
                    RunEvent::Started(e) => e.dispatch.to_string(),
                    RunEvent::Finished(e) => e.dispatch.to_string(),
                };
                evolve::<Run>(&mut self.runs, id, &OfRun(e));
            }
            LedgerEvent::Effect(e) => {
                let EffectEvent::ModelCalled(call) = &e;
                let id = format!("{}-m{}", call.dispatch, call.n);
                evolve::<Effect>(&mut self.effects, id, &OfEffect(e));
            }
            LedgerEvent::Launcher(e) => {
                let id = match &e {
                    LauncherEvent::Registered(e) => e.launcher.to_string(),
                    LauncherEvent::Rotated(e) => e.launcher.to_string(),
                    LauncherEvent::Disabled(e) => e.launcher.to_string(),
                };
                evolve::<Launcher>(&mut self.launchers, id, &OfLauncher(e));
            }
            LedgerEvent::Key(e) => {
                let id = match &e {
                    KeyEvent::Introduced(e) => e.kid.clone(),
                    KeyEvent::Retired(e) => e.kid.clone(),
                };
                evolve::<Key>(&mut self.keys, id, &OfKey(e));
            }
            LedgerEvent::Checkpoint(e) => {
                self.checkpoints = CheckpointChain::evolve(std::mem::take(&mut self.checkpoints), &OfCheckpoint(e));
            }
        }
    }
}

fn state<S: Clone + Default>(states: &BTreeMap<String, S>, id: &str) -> S {
    states.get(id).cloned().unwrap_or_default()
}

fn evolve<D: Decider>(states: &mut BTreeMap<String, D::State>, id: String, event: &D::Event) {
    let before = states.remove(&id).unwrap_or_default();
    states.insert(id, D::evolve(before, event));
}

/// Decides one command and compares entity, type, data and the named envelope fields with what was recorded.
fn compare<D>(
    event: &Event,
    known: &LedgerEvent,
    entity: &str,
    state: &D::State,
    command: D::Command,
    attribution: &[(&'static str, Option<String>)],
) -> Option<Divergence>
where
    D: Decider,
    D::Event: Into<LedgerEvent>,
    D::Refusal: Display,
{
    let mut decided = match D::decide(state, command) {
        Ok(events) => events,
        Err(refusal) => return Some(divergence(event, format!("the decider refuses it now: {refusal}"))),
    };
    let computed: LedgerEvent = match (decided.pop(), decided.is_empty()) {
        (None, _) => return Some(divergence(event, "the decider finds nothing to do: it was decided before")),
        (Some(one), true) => one.into(),
        (Some(_), false) => return Some(divergence(event, format!("the decider gives {} events", decided.len() + 1))),
    };
    let kind = computed.names().0;
    let recorded_fields = attribution.iter().map(|(name, _)| (*name, text(&event.value, name)));
    let recorded = document(&event.recorded.entity.id, known, recorded_fields);
    let computed = document(entity, &computed, attribution.iter().cloned());
    if recorded == computed {
        return None;
    }
    let what = match known.names().0 == kind {
        true => format!("{kind} does not come out as recorded"),
        false => format!("{} comes out as {kind}", event.kind()),
    };
    let mut found = divergence(event, what);
    found.fields = fields(&recorded, &computed);
    Some(found)
}

fn text(event: &Value, name: &str) -> Option<String> {
    event.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn document(
    entity: &str,
    event: &LedgerEvent,
    attribution: impl Iterator<Item = (&'static str, Option<String>)>,
) -> Value {
    let mut map = Map::new();
    map.insert("entity".into(), json!(entity));
    map.insert("type".into(), json!(event.names().0));
    map.insert("data".into(), event.to_value().unwrap_or_default());
    for (name, value) in attribution {
        if let Some(value) = value {
            map.insert(name.into(), Value::String(value));
        }
    }
    Value::Object(map)
}
