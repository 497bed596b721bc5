//! CloudEvents as they come in from outside, read by the SDK. Must never accept what the SDK refuses, nor a batch.

use cloudevents::{AttributesReader, Data, Event};
use serde_json::Value;

/// A CloudEvent from a launcher, its parts that we use.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// 1 to 256 characters.
    pub id: String,
    /// As sent.
    pub source: String,
    /// As sent.
    pub kind: String,
    /// Milliseconds since the epoch, when sent.
    pub time_ms: Option<i64>,
    /// Extension `keyid`.
    pub keyid: Option<String>,
    /// Extension `signature`.
    pub signature: Option<String>,
    /// Extension `traceparent`.
    pub traceparent: Option<String>,
    /// The data.
    pub data: Value,
}

/// Why a message is not a CloudEvent that we take. Each has a stable code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IncomingError {
    /// Not JSON at all, or a member occurs twice.
    #[error("the message is not JSON: {0}")]
    NotJson(String),
    /// JSON, but no CloudEvent.
    #[error("the message is not a CloudEvent 1.0 in structured JSON: {0}")]
    NotCloudEvent(String),
    /// The id is too long or empty.
    #[error("the CloudEvent's id must have 1 to 256 characters")]
    BadId,
    /// There is no JSON data.
    #[error("the CloudEvent has no JSON data")]
    NoData,
}

/// Reads one structured CloudEvent.
///
/// # Errors
/// See [`IncomingError`].
pub fn read(bytes: &[u8]) -> Result<Incoming, IncomingError> {
    let value = crate::once::value(bytes).map_err(|e| IncomingError::NotJson(e.to_string()))?;
    let object = value.as_object().ok_or_else(|| IncomingError::NotCloudEvent("it is not one JSON object".into()))?;
    // The SDK also reads 0.3, whose attributes mean other things.
    if object.get("specversion").and_then(Value::as_str) != Some("1.0") {
        return Err(IncomingError::NotCloudEvent("its specversion is not \"1.0\"".into()));
    }
    if object.contains_key("data") && object.contains_key("data_base64") {
        return Err(IncomingError::NotCloudEvent("it has both data and data_base64".into()));
    }
    if let Some(bad) =
        object.keys().find(|k| !k.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) && *k != "data_base64")
    {
        let shown: String = bad.chars().take(40).collect();
        return Err(IncomingError::NotCloudEvent(format!(
            "attribute name {shown:?} is not lower-case letters and digits"
        )));
    }
    let event: Event =
        serde_json::from_value(value.clone()).map_err(|e| IncomingError::NotCloudEvent(e.to_string()))?;
    if event.id().is_empty() || event.id().chars().count() > 256 {
        return Err(IncomingError::BadId);
    }
    let extension = |name: &str| event.extension(name).map(|v| v.to_string());
    let data = match event.data() {
        Some(Data::Json(v)) => v.clone(),
        _ => return Err(IncomingError::NoData),
    };
    Ok(Incoming {
        id: event.id().to_owned(),
        source: event.source().to_string(),
        kind: event.ty().to_owned(),
        time_ms: event.time().map(|t| t.timestamp_millis()),
        keyid: extension("keyid"),
        signature: extension("signature"),
        traceparent: extension("traceparent"),
        data,
    })
}
