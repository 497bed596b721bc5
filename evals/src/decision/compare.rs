//! One decision taken again, beside the one that was recorded.

use super::{Divergence, divergence};
use crate::diff::fields;
use crate::slice::Event;
use custody_contracts::events::LedgerEvent;
use custody_ledger::Decider;
use serde_json::{Map, Value, json};
use std::fmt::Display;

/// Decides one command and compares entity, type, data and the named envelope fields with what was recorded.
pub(super) fn compare<D>(
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
