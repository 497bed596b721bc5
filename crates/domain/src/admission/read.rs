//! Reading a launch message: CloudEvent, type, unit.v1 schema, types. The bytes validated are the bytes stored.

use super::Refusal;
use custody_contracts::canonical::{canonical, derived_id, digest};
use custody_contracts::catalogue::{self, CheckError};
use custody_contracts::cloudevent::{self, IncomingError};
use custody_contracts::envelope::MESSAGE_BYTES_MAX;
use custody_contracts::events::LaunchRef;
use custody_contracts::ids::{DispatchId, LauncherId};
use custody_contracts::launch::{BYTES_MAX, TYPE};
use custody_contracts::unit::Invocation;
use serde_json::{Map, Value};

/// A launch message that could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The message's own id.
    pub event_id: String,
    /// Its time in milliseconds since the epoch, when it has one.
    pub time_ms: Option<i64>,
    /// The whole event, for its signature.
    pub event: Map<String, Value>,
    /// The unit, still with its token.
    pub unit: Invocation,
    /// W3C trace context, when it is one.
    pub traceparent: Option<String>,
}

/// The largest unit in bytes of canonical JSON: with envelope, origin and signature its admission must still fit into
/// one ledger message, or the launch could be neither admitted nor refused.
pub const UNIT_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 4_352;

/// The id that a launch has or would have: the same launcher and message id always give the same one. A message that
/// has no readable id is told by its bytes.
pub fn dispatch_id(launcher: &LauncherId, event_id: Option<&str>, bytes: &[u8]) -> DispatchId {
    let own = digest(bytes);
    let (kind, id) = event_id.map_or(("bytes", own.as_str()), |id| ("id", id));
    let text = derived_id("d-", &[launcher.as_str().as_bytes(), kind.as_bytes(), id.as_bytes()]);
    DispatchId::parse(&text).unwrap_or_else(|_| unreachable!("derived ids are tokens"))
}

/// Where a message stands, for the record.
pub fn launch_ref(seq: u64, launcher: &LauncherId, event_id: Option<&str>, bytes: &[u8]) -> LaunchRef {
    let event_id = event_id.map(|id| id.chars().take(256).collect());
    LaunchRef { stream_seq: seq, launcher: launcher.clone(), event_id, digest: digest(bytes), stored_at: None }
}

/// The message's own id, if there is one to be found at all; used to answer also what cannot be admitted.
pub fn event_id(bytes: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let id = value.get("id")?.as_str()?;
    (!id.is_empty() && id.chars().count() <= 256).then(|| id.to_owned())
}

/// Reads a launch message.
///
/// # Errors
/// A [`Refusal`] that names the first thing that is wrong, with its JSON pointer where there is one.
pub fn read(bytes: &[u8]) -> Result<Asked, Refusal> {
    check_size("message", bytes.len(), BYTES_MAX)?;
    let incoming = cloudevent::read(bytes).map_err(|error| {
        let code = match error {
            IncomingError::NotJson(_) => "NOT_JSON",
            IncomingError::NotCloudEvent(_) | IncomingError::BadId => "NOT_CLOUDEVENT",
            IncomingError::NoData => "NO_DATA",
        };
        Refusal::new(
            code,
            error.to_string(),
            "publish a structured CloudEvent 1.0; `custody contract show unit.v1` has an example",
        )
    })?;
    if incoming.kind != TYPE {
        let shown: String = incoming.kind.chars().take(120).collect();
        let retired = ["custody.event.", "custody.task."].iter().any(|p| shown.starts_with(p));
        let code = if retired { "TYPE_RETIRED" } else { "TYPE_UNKNOWN" };
        return Err(Refusal::new(
            code,
            format!("type {shown:?} is not a launch"),
            format!("use type {TYPE:?} with a unit.v1"),
        ));
    }
    let Ok(Value::Object(event)) = serde_json::from_slice(bytes) else {
        return Err(Refusal::new("NOT_JSON", "the message is not one JSON object", "publish one CloudEvent"));
    };
    if let Some(schema) = event.get("dataschema").and_then(Value::as_str) {
        check_version(schema)?;
    }
    check_size("unit", canonical(&incoming.data).len(), UNIT_BYTES_MAX)?;
    catalogue::check("unit.v1", "Invocation", &incoming.data).map_err(|error| match error {
        CheckError::Invalid(violations) => {
            let first = violations.into_iter().next();
            let (pointer, keyword, message) =
                first.map_or_else(Default::default, |v| (v.pointer, v.keyword, v.message));
            Refusal::new(
                "UNIT_INVALID",
                format!("unit.v1 at \"{pointer}\" ({keyword}): {message}"),
                "check it with `custody contract validate unit.v1 FILE`",
            )
        }
        other => {
            Refusal::new("UNIT_INVALID", other.to_string(), "check the installation: the contract could not be loaded")
        }
    })?;
    let unit: Invocation = serde_json::from_value(incoming.data).map_err(|e| {
        Refusal::new("UNIT_INVALID", e.to_string(), "check it with `custody contract validate unit.v1 FILE`")
    })?;
    let traceparent = incoming.traceparent.filter(|t| is_traceparent(t));
    Ok(Asked { event_id: incoming.id, time_ms: incoming.time_ms, event, unit, traceparent })
}

fn check_size(what: &str, bytes: usize, max: usize) -> Result<(), Refusal> {
    if bytes <= max {
        return Ok(());
    }
    Err(Refusal::new(
        "MESSAGE_TOO_LARGE",
        format!("the {what} has {bytes} bytes, {max} are the most"),
        "put large input into a workspace and name its path in start.entrypoint.path",
    ))
}

/// Whether a text is a trace parent; one that is not is ignored. Source: W3C Trace Context, section 3.2.2.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|p| p.len()).collect();
    lengths == [2, 32, 16, 2] && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b) || b == b'-')
}

fn check_version(schema: &str) -> Result<(), Refusal> {
    let Some(name) = schema.strip_prefix("custody:").and_then(|s| s.split('#').next()) else {
        let shown: String = schema.chars().take(120).collect();
        return Err(Refusal::new(
            "CONTRACT_UNKNOWN",
            format!("dataschema {shown:?} is not ours"),
            "use custody:unit.v1#/$defs/Invocation or leave it out",
        ));
    };
    match catalogue::find(name) {
        Ok(contract) if contract.name == "unit.v1" => Ok(()),
        Ok(other) => Err(Refusal::new(
            "CONTRACT_UNKNOWN",
            format!("a launch holds a unit.v1, not {}", other.name),
            "use custody:unit.v1#/$defs/Invocation",
        )),
        Err(error) => {
            let code = match error {
                CheckError::Retired { .. } => "CONTRACT_RETIRED",
                CheckError::UnknownVersion { .. } => "CONTRACT_VERSION_UNKNOWN",
                _ => "CONTRACT_UNKNOWN",
            };
            Err(Refusal::new(code, error.to_string(), "use custody:unit.v1#/$defs/Invocation"))
        }
    }
}
