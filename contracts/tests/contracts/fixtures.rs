//! The documents of every contract, and the serde type of each shape that has one.

use custody_contracts::box_protocol::{Frame, GatewayMessage, Job, WorkerMessage};
use custody_contracts::catalogue::ALL;
use custody_contracts::events::{LedgerEvent, TYPES};
use custody_contracts::launch::FollowUp;
use custody_contracts::messages::{AuditRow, Chunk, ErrorDoc, Reply};
use custody_contracts::runner::Runner;
use custody_contracts::token::{AssertionClaims, DispatchClaims, ToolClaims};
use custody_contracts::unit::Invocation;
use custody_contracts::ws::{ClientFrame, ServerFrame};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;
use std::path::Path;

/// One golden or reject.
pub(crate) struct Document {
    pub(crate) contract: &'static str,
    pub(crate) shape: String,
    /// `minimal`, or for a reject the keyword that it must fail by.
    pub(crate) says: String,
    pub(crate) place: String,
    pub(crate) value: Value,
}

pub(crate) fn goldens() -> Vec<Document> {
    read("golden")
}

pub(crate) fn rejects() -> Vec<Document> {
    read("reject")
}

fn read(folder: &str) -> Vec<Document> {
    let mut found = Vec::new();
    for contract in ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(contract.name).join(folder);
        let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            let parts: Vec<&str> = file.strip_suffix(".json").unwrap().split('.').collect();
            found.push(Document {
                contract: contract.name,
                shape: parts[0].to_owned(),
                says: (*parts.last().unwrap()).to_owned(),
                place: format!("{}/{file}", contract.name),
                value: serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap(),
            });
        }
    }
    found
}

/// A decoded document: how it shows itself, and how it is written again.
pub(crate) type Decoded = (String, Value);
pub(crate) type Decode = Box<dyn Fn(&Value) -> Result<Decoded, String>>;

/// How documents of a shape are decoded, when a serde type is that shape.
pub(crate) fn decoder(contract: &str, shape: &str) -> Option<Decode> {
    Some(match (contract, shape) {
        ("unit.v1", "Invocation") => Box::new(via::<Invocation>),
        ("agent-runner.v1" | "agent-runner.v2", "Runner") => Box::new(via::<Runner>),
        ("box.v1" | "box.v2", "WorkerMessage") => Box::new(via::<WorkerMessage>),
        ("box.v1" | "box.v2", "GatewayMessage") => Box::new(via::<GatewayMessage>),
        ("box.v1" | "box.v2", "Frame") => Box::new(via::<Frame>),
        ("box.v1" | "box.v2", "Job") => Box::new(via::<Job>),
        ("token.v1", "DispatchClaims") => Box::new(via::<DispatchClaims>),
        ("token.v1", "ToolClaims") => Box::new(via::<ToolClaims>),
        ("token.v1", "AssertionClaims") => Box::new(via::<AssertionClaims>),
        ("input.v1", "FollowUp") => Box::new(via::<FollowUp>),
        ("reply.v1", "Reply") => Box::new(via::<Reply>),
        ("error.v1", "Error") => Box::new(via::<ErrorDoc>),
        ("audit.v1", "Row") => Box::new(via::<AuditRow>),
        ("output.v1" | "output.v2", "Chunk") => Box::new(via::<Chunk>),
        ("ws.v1", "ClientFrame") => Box::new(via::<ClientFrame>),
        ("ws.v1", "ServerFrame") => Box::new(via::<ServerFrame>),
        ("ledger.v1" | "ledger.v2", shape) => {
            let event_type = TYPES.iter().find(|(_, s)| *s == shape)?.0;
            Box::new(move |value| {
                let event = LedgerEvent::decode(event_type, &value.to_string()).map_err(|e| e.to_string())?;
                Ok((format!("{event:?}"), event.to_value().map_err(|e| e.to_string())?))
            })
        }
        _ => return None,
    })
}

fn via<T: Serialize + DeserializeOwned + Debug>(value: &Value) -> Result<Decoded, String> {
    // From text, as it comes over the wire: reading from a `Value` accepts less.
    let decoded: T = serde_json::from_str(&value.to_string()).map_err(|e| e.to_string())?;
    Ok((format!("{decoded:?}"), serde_json::to_value(&decoded).map_err(|e| e.to_string())?))
}

/// Every place in a document, root first, as JSON pointers.
pub(crate) fn pointers(value: &Value) -> Vec<String> {
    let mut found = vec![String::new()];
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.replace('~', "~0").replace('/', "~1"), v)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in inner {
        found.extend(pointers(value).into_iter().map(|rest| format!("/{name}{rest}")));
    }
    found
}

/// The document with another value at a place.
pub(crate) fn with(document: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = document.clone();
    *changed.pointer_mut(pointer).unwrap() = value;
    changed
}

/// The document without a property; `None` when the place is no property of an object.
pub(crate) fn without(document: &Value, pointer: &str) -> Option<Value> {
    let (parent, name) = pointer.rsplit_once('/')?;
    let mut changed = document.clone();
    let object = changed.pointer_mut(parent)?.as_object_mut()?;
    object.remove(&name.replace("~1", "/").replace("~0", "~"))?;
    Some(changed)
}

/// A pointer with numbers and the names of free maps made alike, for lists of exceptions: `/files/*/path`.
pub(crate) fn pattern(pointer: &str) -> String {
    let tokens =
        pointer.split('/').map(|t| if !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()) { "*" } else { t });
    tokens.collect::<Vec<_>>().join("/")
}
