//! What stands between a stream as it should be and as the server has it. Pure: finds and judges, changes nothing.

use crate::spec::{LEDGER, StreamSpec, TRANSCRIPT};
use serde::Serialize;
use serde_json::{Map, Value};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Which stream.
    pub stream: String,
    /// Which field of its configuration; `stream` when the whole stream is missing.
    pub field: String,
    /// What the server has; null when nothing.
    pub from: Value,
    /// What it should be.
    pub to: Value,
    /// Whether `streams apply` may do it. One forbidden change stops all of that stream.
    pub allowed: bool,
    /// Why it may or may not be done.
    pub why: String,
}

/// Fields that nothing of ours sets, and that move, copy or stop messages when somebody else does.
pub const FOREIGN_FIELDS: [&str; 9] = [
    "mirror",
    "sources",
    "republish",
    "subject_transform",
    "sealed",
    "no_ack",
    "discard_new_per_subject",
    "subject_delete_marker_ttl",
    "allow_batched",
];

/// The differences between a desired stream and the server's configuration of it (`None`: there is no such stream).
pub fn diff(desired: &StreamSpec, actual: Option<&Value>) -> Vec<Change> {
    let Some(actual) = actual else {
        return vec![Change {
            stream: desired.name.clone(),
            field: "stream".to_owned(),
            from: Value::Null,
            to: Value::String(desired.subjects.join(" ")),
            allowed: true,
            why: "the stream does not exist".to_owned(),
        }];
    };
    let desired_map = match serde_json::to_value(desired) {
        Ok(Value::Object(map)) => map,
        // A spec is a struct of plain fields; it always is an object.
        Ok(_) | Err(_) => Map::new(),
    };
    let mut changes = Vec::new();
    for (field, to) in &desired_map {
        let from = actual.get(field).cloned().unwrap_or(Value::Null);
        let same = if field == "metadata" { metadata_holds(&from, to) } else { same(&from, to) };
        if !same {
            changes.push(judge(desired, field, from, to.clone()));
        }
    }
    for field in FOREIGN_FIELDS {
        let from = actual.get(field).cloned().unwrap_or(Value::Null);
        if !desired_map.contains_key(field) && !is_empty(&from) {
            changes.push(judge(desired, field, from, Value::Null));
        }
    }
    changes
}

/// Whether a value is JetStream's way to say "not set".
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

fn same(from: &Value, to: &Value) -> bool {
    if from == to || (is_empty(from) && is_empty(to)) {
        return true;
    }
    // The server leaves these defaults out.
    matches!((from, to.as_str()), (Value::Null, Some("default" | "none" | "limits" | "file" | "old")))
}

fn metadata_holds(from: &Value, to: &Value) -> bool {
    let wanted = to.as_object();
    wanted.is_none_or(|wanted| wanted.iter().all(|(k, v)| from.get(k) == Some(v)))
}

fn judge(desired: &StreamSpec, field: &str, from: Value, to: Value) -> Change {
    let keeps_for_ever = desired.name == LEDGER || desired.name == TRANSCRIPT;
    let refusal = match field {
        "name" | "retention" | "storage" | "persist_mode" | "sealed" | "mirror" => {
            Some("the server cannot change it on an existing stream; make a new stream and move the messages")
        }
        "deny_delete" | "deny_purge" if to == Value::Bool(false) => Some("a denial cannot be taken back"),
        "subjects" if desired.name == LEDGER => Some("the ledger's subjects are its contract"),
        "max_bytes" | "max_msgs" | "max_msgs_per_subject" | "max_msg_size" | "max_age"
            if keeps_for_ever && lowers(&from, &to) =>
        {
            Some("lowering a limit can cut history away")
        }
        _ => None,
    };
    Change {
        stream: desired.name.clone(),
        field: field.to_owned(),
        from,
        to,
        allowed: refusal.is_none(),
        why: refusal.unwrap_or("an update of the stream does it").to_owned(),
    }
}

/// Whether a limit becomes stricter. 0 and -1 are no limit.
fn lowers(from: &Value, to: &Value) -> bool {
    let limit = |v: &Value| v.as_i64().filter(|n| *n > 0);
    match (limit(from), limit(to)) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(from), Some(to)) => to < from,
    }
}
