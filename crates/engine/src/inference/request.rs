//! The agent's request: read within bounds, checked, and rewritten as little as possible when both sides speak one
//! format. Must never reorder or reformat what it does not own: the upstream's prompt cache sees the same bytes.

use super::Api;
use super::errors::Told;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::fmt;

/// How much of a body that is too large is read and thrown away, so that its sender reads the refusal instead of a
/// broken connection.
const DRAIN_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads a body of at most `max` bytes.
pub(super) async fn read_body<B>(mut body: B, max: u64) -> Result<Bytes, Told>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut whole = BytesMut::new();
    let mut seen: u64 = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Told::new(400, "body_broken", "the request's body broke off"));
        };
        let Some(data) = frame.data_ref() else { continue };
        seen = seen.saturating_add(data.len() as u64);
        if seen <= max {
            whole.extend_from_slice(data);
        } else if seen > max.saturating_add(DRAIN_BYTES_MAX) {
            break;
        }
    }
    match seen <= max {
        true => Ok(whole.freeze()),
        false => Err(too_large(max)),
    }
}

/// What an agent is told of a request that is too large.
pub(super) fn too_large(max: u64) -> Told {
    let words = "send less context (the operator's limit is model.request_bytes_max)";
    Told::new(413, "request_too_large", format!("the request is larger than {max} bytes; {words}"))
}

/// A JSON object whose members keep their order and their exact text.
#[derive(Debug)]
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members, M::Error> {
                let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    // Two members of one name mean different things to different parsers.
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(M::Error::custom("a member occurs twice"));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        d.deserialize_map(Reader)
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A request that was read.
#[derive(Debug)]
pub(super) struct AgentRequest {
    members: Members,
    /// Whether the agent wants its answer streamed.
    pub(super) stream: bool,
}

impl AgentRequest {
    /// Reads a body.
    pub(super) fn parse(body: &[u8]) -> Result<AgentRequest, Told> {
        let bad = |why: String| Told::new(400, "invalid_json", why);
        let members: Members =
            serde_json::from_slice(body).map_err(|why| bad(format!("the request is not one JSON object: {why}")))?;
        let stream = match members.0.iter().find(|(name, _)| name == "stream").map(|(_, value)| value.get().trim()) {
            None | Some("null" | "false") => false,
            Some("true") => true,
            Some(_) => return Err(bad("`stream` is neither true nor false".to_owned())),
        };
        Ok(AgentRequest { members, stream })
    }

    /// The model that the agent asks for.
    pub(super) fn model(&self) -> Option<String> {
        let (_, value) = self.members.0.iter().find(|(name, _)| name == "model")?;
        serde_json::from_str(value.get()).ok()
    }

    /// The same request for another model; a streamed chat request also asks for its usage. Nothing else changes.
    pub(super) fn pass_through(mut self, api: Api, model: &str) -> Result<Bytes, Told> {
        self.set("model", &json!(model))?;
        if api == Api::OpenaiChat && self.stream {
            let mut options = match self.member("stream_options")? {
                Value::Object(options) => options,
                Value::Null => serde_json::Map::new(),
                _ => return Err(Told::new(400, "invalid_request", "`stream_options` is not an object")),
            };
            options.insert("include_usage".to_owned(), Value::Bool(true));
            self.set("stream_options", &Value::Object(options))?;
        }
        serde_json::to_vec(&self.members).map(Bytes::from).map_err(unwritable)
    }

    /// The whole request as a document, for a translation.
    pub(super) fn document(&self) -> Result<Value, Told> {
        let mut map = serde_json::Map::new();
        for (name, value) in &self.members.0 {
            map.insert(name.clone(), parse(value)?);
        }
        Ok(Value::Object(map))
    }

    fn member(&self, name: &str) -> Result<Value, Told> {
        match self.members.0.iter().find(|(known, _)| known == name) {
            Some((_, value)) => parse(value),
            None => Ok(Value::Null),
        }
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), Told> {
        let raw = serde_json::value::to_raw_value(value).map_err(unwritable)?;
        match self.members.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, place)) => *place = raw,
            None => self.members.0.push((name.to_owned(), raw)),
        }
        Ok(())
    }
}

fn parse(value: &RawValue) -> Result<Value, Told> {
    serde_json::from_str(value.get())
        .map_err(|why| Told::new(400, "invalid_json", format!("the request cannot be read: {why}")))
}

fn unwritable(why: serde_json::Error) -> Told {
    Told::new(400, "invalid_json", format!("the request cannot be written again: {why}"))
}
