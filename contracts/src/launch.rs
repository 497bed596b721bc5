//! The message a launcher publishes: a CloudEvent of type `custody.launch.dispatch.v1` that holds a unit.v1. Must
//! never be built with a credential inside.

use crate::canonical::canonical;
use crate::ids::DispatchId;
use crate::unit::Invocation;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// CloudEvents type of a launch message.
pub const TYPE: &str = "custody.launch.dispatch.v1";
/// CloudEvents type of a follow-up's message.
pub const SAY_TYPE: &str = "custody.launch.say.v1";
/// The longest text of a follow-up in bytes of UTF-8: as a line to the worker it must fit also when every byte is escaped.
pub const SAY_BYTES_MAX: usize = 32_768;
/// The largest launch message in bytes; the LAUNCH stream refuses more.
pub const BYTES_MAX: usize = 65_536;

/// The unsigned CloudEvent of a launch.
///
/// # Errors
/// Only if the unit cannot be represented as JSON, which means a bug.
pub fn unsigned(
    id: &str,
    launcher: &str,
    time: &str,
    unit: &Invocation,
) -> Result<Map<String, Value>, serde_json::Error> {
    let value = json!({
        "specversion": "1.0", "id": id, "source": format!("launcher/{launcher}"), "type": TYPE, "time": time,
        "datacontenttype": "application/json", "dataschema": "custody:unit.v1#/$defs/Invocation",
        "data": serde_json::to_value(unit)?,
    });
    match value {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

/// More words for a dispatch that has not ended: input.v1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FollowUp {
    /// The dispatch.
    pub dispatch: DispatchId,
    /// The words.
    pub text: String,
}

/// The unsigned CloudEvent of a follow-up.
///
/// # Errors
/// Only if it cannot be represented as JSON, which means a bug.
pub fn unsigned_say(
    id: &str,
    launcher: &str,
    time: &str,
    follow_up: &FollowUp,
) -> Result<Map<String, Value>, serde_json::Error> {
    let value = json!({
        "specversion": "1.0", "id": id, "source": format!("launcher/{launcher}"), "type": SAY_TYPE, "time": time,
        "datacontenttype": "application/json", "dataschema": "custody:input.v1#/$defs/FollowUp",
        "data": serde_json::to_value(follow_up)?,
    });
    match value {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

/// The bytes that a launcher's signature covers: canonical JSON of the event with `keyid`, without `signature`.
pub fn signed_bytes(event: &Map<String, Value>) -> Vec<u8> {
    let mut map = event.clone();
    map.remove("signature");
    canonical(&Value::Object(map)).into_bytes()
}
