//! One trace a dispatch, made from its life: admit, queue, the phases of the start, the run, its calls, its end. Pure,
//! and every id is a function of the dispatch, so that sending a trace again after a crash changes nothing. Names and
//! attributes follow the OpenTelemetry GenAI conventions. Must never hold a person's id or a text of an agent.

use crate::life::{Call, Called, End, Life};
use custody_contracts::events::StopReason;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The order of phases; a name that is not here comes after, by its letters.
const PHASES: [&str; 6] = ["claim", "create", "mount", "boot", "first_frame", "first_byte"];

/// What a span is to the one that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work of our own.
    Internal,
    /// A call to the outside.
    Client,
    /// Work that somebody asked for.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Int(u64),
}

/// One span, as it will be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// 16 bytes.
    pub trace: [u8; 16],
    /// 8 bytes.
    pub id: [u8; 8],
    /// The span it belongs to.
    pub parent: Option<[u8; 8]>,
    /// For example `dispatch custody-agent`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Milliseconds since the epoch.
    pub start_ms: u64,
    /// Milliseconds since the epoch, not before the start.
    pub end_ms: u64,
    /// Attributes.
    pub attributes: Vec<(&'static str, Value)>,
    /// What went wrong, when something did.
    pub error: Option<String>,
}

/// Trace and parent span of a `traceparent`. Source: W3C Trace Context, section 3.2: all zeroes are no id.
pub fn trace_context(text: &str) -> Option<([u8; 16], [u8; 8])> {
    let mut parts = text.split('-');
    let (_version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let trace = <[u8; 16]>::try_from(custody_contracts::canonical::unhex(trace)?).ok()?;
    let span = <[u8; 8]>::try_from(custody_contracts::canonical::unhex(span)?).ok()?;
    (trace != [0; 16] && span != [0; 8]).then_some((trace, span))
}

fn hash(parts: &[&str]) -> [u8; 32] {
    Sha256::digest(parts.join("\u{0}")).into()
}

fn first<const N: usize>(bytes: [u8; 32]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[..N]);
    out
}

/// The trace of a dispatch that has ended; nothing for one that has not.
pub fn spans(life: &Life) -> Vec<Span> {
    let Some(end) = life.end else { return Vec::new() };
    let given = life.traceparent.as_deref().and_then(trace_context);
    let trace = given.map_or_else(|| first(hash(&["custody-trace", &life.dispatch])), |(trace, _)| trace);
    let root_id = first(hash(&[&life.dispatch, "dispatch"]));
    let asked = life.stored_ms.filter(|stored| *stored <= life.admitted_ms);
    let admit =
        asked.map_or_else(|| life.phases_ms.get("admit").copied().unwrap_or_default(), |s| life.admitted_ms - s);
    let mut made = vec![Span {
        trace,
        id: root_id,
        parent: given.map(|(_, parent)| parent),
        name: ["dispatch ", &life.runner].concat(),
        kind: Kind::Consumer,
        start_ms: life.admitted_ms.saturating_sub(admit),
        end_ms: end.recorded_ms.max(life.admitted_ms),
        attributes: root_attributes(life, &end),
        error: failure(end.reason),
    }];
    let mut add = |name: String, key: String, kind, from: u64, to: u64, attributes, error| {
        let id = first(hash(&[&life.dispatch, &key]));
        made.push(Span {
            trace,
            id,
            parent: Some(root_id),
            name,
            kind,
            start_ms: from,
            end_ms: to.max(from),
            attributes,
            error,
        });
    };
    let mut step = |name: &str, from: u64, to: u64| {
        add(name.to_owned(), name.to_owned(), Kind::Internal, from, to, Vec::new(), None);
    };
    step("admit", life.admitted_ms.saturating_sub(admit), life.admitted_ms);
    if let Some((claimed_ms, _)) = life.claimed {
        step("queue", life.admitted_ms, claimed_ms);
        let mut at = claimed_ms;
        for (name, took) in ordered(&life.phases_ms) {
            step(name, at, at + took);
            at += took;
        }
    }
    if let Some(started) = life.started_ms {
        step("run", started, end.at_ms);
        let mut at = started;
        for (name, took) in ordered(&life.spoke_ms) {
            step(name, at, at + took);
            at += took;
        }
    }
    step("finish", end.at_ms, end.recorded_ms);
    for call in &life.calls {
        let (name, kind, attributes) = told(call);
        let from = call.end_ms.saturating_sub(call.duration_ms);
        let error = (!call.ok).then(|| "the call failed".to_owned());
        add(name, format!("call-{}", call.seq), kind, from, call.end_ms, attributes, error);
    }
    made
}

/// Phases in their order. `admit` and `queue` have spans of their own.
fn ordered(phases: &BTreeMap<String, u64>) -> Vec<(&str, u64)> {
    let place = |name: &str| PHASES.iter().position(|p| *p == name).unwrap_or(PHASES.len());
    let named = phases.iter().map(|(name, ms)| (name.as_str(), *ms));
    let mut found: Vec<(&str, u64)> = named.filter(|(name, _)| !["admit", "queue"].contains(name)).collect();
    found.sort_by_key(|(name, _)| (place(name), *name));
    found
}

fn root_attributes(life: &Life, end: &End) -> Vec<(&'static str, Value)> {
    vec![
        ("gen_ai.operation.name", Value::Text("invoke_agent".into())),
        ("gen_ai.agent.name", Value::Text(life.runner.clone())),
        ("gen_ai.conversation.id", Value::Text(life.session.clone())),
        ("custody.dispatch", Value::Text(life.dispatch.clone())),
        ("custody.launcher", Value::Text(life.launcher.clone())),
        ("custody.stop_reason", Value::Text(end.reason.as_str().into())),
        ("custody.ledger_seq", Value::Int(end.seq)),
    ]
}

fn told(call: &Call) -> (String, Kind, Vec<(&'static str, Value)>) {
    match &call.what {
        Called::Model { provider, answered, input_tokens, output_tokens } => {
            let mut attributes = vec![
                ("gen_ai.operation.name", Value::Text("chat".into())),
                ("gen_ai.provider.name", Value::Text(provider.clone())),
                ("gen_ai.request.model", Value::Text(call.name.clone())),
                ("gen_ai.usage.input_tokens", Value::Int(*input_tokens)),
                ("gen_ai.usage.output_tokens", Value::Int(*output_tokens)),
                ("custody.ledger_seq", Value::Int(call.seq)),
            ];
            attributes.extend(answered.clone().map(|model| ("gen_ai.response.model", Value::Text(model))));
            (["chat ", &call.name].concat(), Kind::Client, attributes)
        }
        Called::Tool => (
            ["execute_tool ", &call.name].concat(),
            Kind::Client,
            vec![
                ("gen_ai.operation.name", Value::Text("execute_tool".into())),
                ("gen_ai.tool.name", Value::Text(call.name.clone())),
                ("custody.ledger_seq", Value::Int(call.seq)),
            ],
        ),
    }
}

/// Whether an end is an error. Somebody's stop is not one.
fn failure(reason: StopReason) -> Option<String> {
    match reason {
        StopReason::Completed | StopReason::Stopped => None,
        StopReason::IdleTimeout
        | StopReason::Failed
        | StopReason::Oom
        | StopReason::StartFailed
        | StopReason::MaxLifetime
        | StopReason::Revoked
        | StopReason::Budget => Some(reason.as_str().into()),
    }
}

#[cfg(test)]
mod tests;
