//! The CloudEvents envelope of every ledger message, in structured JSON mode. Built in one function with every
//! attribute given: nothing is filled in from a clock, a host name or a random source.

use crate::canonical::canonical;
use crate::events::{DecodeError, LedgerEvent};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The largest ledger message in bytes; more belongs into a blob named by digest.
pub const MESSAGE_BYTES_MAX: usize = 65_536;

/// A stored event's envelope, its data still raw. Source: CloudEvents 1.0.2, JSON format.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Always `1.0`.
    pub specversion: String,
    /// Derived from the command's id: a retry is the same event.
    pub id: String,
    /// `custody/<role>`.
    pub source: String,
    /// For example `custody.dispatch.admitted.v1`.
    #[serde(rename = "type")]
    pub kind: String,
    /// RFC 3339, milliseconds, UTC. From the command.
    pub time: String,
    /// The person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// `custody:ledger.v2#/$defs/<Shape>`.
    pub dataschema: String,
    /// Id of what caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation: Option<String>,
    /// The dispatch, or the entity for events outside one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// The launcher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launcher: Option<String>,
    /// The grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The key that signed.
    pub keyid: String,
    /// Ed25519 over the canonical JSON of the event without this field, 128 hexadecimal digits.
    pub signature: String,
    /// The event.
    pub data: Box<RawValue>,
}

/// What a command says about an event beside its data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// RFC 3339 time of the command.
    pub time: String,
    /// The person.
    pub subject: Option<String>,
    /// Id of what caused it.
    pub causation: Option<String>,
    /// What it belongs to.
    pub correlation: Option<String>,
    /// The launcher.
    pub launcher: Option<String>,
    /// The grant.
    pub grant: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// What can be wrong with a stored message.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not JSON of the envelope's shape.
    #[error("message is not a ledger envelope: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The data is not what the type says.
    #[error(transparent)]
    Data(#[from] DecodeError),
}

/// The event without its signature, ready to be signed.
///
/// # Errors
/// Only if the event cannot be represented as JSON, which means a bug.
pub fn unsigned(
    id: &str,
    role: &str,
    keyid: &str,
    event: &LedgerEvent,
    meta: &Meta,
) -> Result<Map<String, Value>, serde_json::Error> {
    let (kind, shape) = event.names();
    let mut map = Map::new();
    let mut put = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            map.insert(key.to_owned(), Value::String(value.to_owned()));
        }
    };
    put("specversion", Some("1.0"));
    put("id", Some(id));
    put("source", Some(&format!("custody/{role}")));
    put("type", Some(kind));
    put("time", Some(&meta.time));
    put("subject", meta.subject.as_deref());
    put("datacontenttype", Some("application/json"));
    put("dataschema", Some(&format!("custody:ledger.v2#/$defs/{shape}")));
    put("causation", meta.causation.as_deref());
    put("correlation", meta.correlation.as_deref());
    put("launcher", meta.launcher.as_deref());
    put("grant", meta.grant.as_deref());
    put("traceparent", meta.traceparent.as_deref());
    put("keyid", Some(keyid));
    map.insert("data".to_owned(), event.to_value()?);
    Ok(map)
}

/// The stored bytes of a signed event: canonical JSON, so that the same event is the same leaf everywhere.
pub fn seal(mut unsigned: Map<String, Value>, signature_hex: String) -> Vec<u8> {
    unsigned.insert("signature".to_owned(), Value::String(signature_hex));
    canonical(&Value::Object(unsigned)).into_bytes()
}

/// The bytes that a signature covers.
pub fn signed_bytes(unsigned: &Map<String, Value>) -> Vec<u8> {
    canonical(&Value::Object(unsigned.clone())).into_bytes()
}

/// The signed bytes and the signature of a stored event.
///
/// # Errors
/// [`EnvelopeError::Malformed`] when the bytes are not a JSON object with a text `signature`.
pub fn split_signature(value: Value) -> Result<(Vec<u8>, String), EnvelopeError> {
    use serde::de::Error as _;
    let Value::Object(mut map) = value else {
        return Err(serde_json::Error::custom("not an object").into());
    };
    match map.remove("signature") {
        Some(Value::String(signature)) => Ok((signed_bytes(&map), signature)),
        _ => Err(serde_json::Error::custom("no signature").into()),
    }
}

impl Envelope {
    /// The envelopes of one stored message: one event, or an array when one decision gave several.
    ///
    /// # Errors
    /// [`EnvelopeError::Malformed`] for anything else; unknown fields are refused, and so is an array of fewer than two:
    /// a message without an event would carry no signature, and one event has one form.
    pub fn read(bytes: &[u8]) -> Result<Vec<Envelope>, EnvelopeError> {
        use serde::de::Error as _;
        if bytes.first() == Some(&b'[') {
            let several: Vec<Envelope> = serde_json::from_slice(bytes)?;
            if several.len() < 2 {
                return Err(serde_json::Error::custom("an array holds at least two events").into());
            }
            return Ok(several);
        }
        Ok(vec![serde_json::from_slice(bytes)?])
    }

    /// The event inside.
    ///
    /// # Errors
    /// [`EnvelopeError::Data`] when type and data do not agree.
    pub fn event(&self) -> Result<LedgerEvent, EnvelopeError> {
        Ok(LedgerEvent::decode(&self.kind, self.data.get())?)
    }
}
