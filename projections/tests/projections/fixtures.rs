//! Events made from the goldens of ledger.v2, and stored messages made of them. Signatures are made up: folds do not
//! verify, the verifier does.

use custody_contracts::canonical::{canonical, digest};
use custody_contracts::envelope::Meta;
use custody_contracts::events::{LedgerEvent, Role, TYPES};
use custody_ledger::recorded::encode;
use custody_ledger::{Projection, Recorded, Seq, Sign, Stored};
use custody_projections::Folded;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The minimal golden of a shape, with other values at some fields; null takes a field away.
pub(crate) fn event(shape: &str, changes: &Value) -> LedgerEvent {
    let path = format!("../contracts/ledger.v2/golden/{shape}.minimal.json");
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let mut data: Map<String, Value> = serde_json::from_str(&text).unwrap();
    for (field, value) in changes.as_object().unwrap() {
        data.insert(field.clone(), value.clone());
    }
    let event_type = TYPES.iter().find(|(_, s)| *s == shape).unwrap().0;
    LedgerEvent::decode(event_type, &Value::Object(data).to_string()).unwrap()
}

struct MadeUp(Role);

impl Sign for MadeUp {
    fn kid(&self) -> &str {
        match self.0 {
            Role::Authority => "k-authority-1",
            Role::Runtime => "k-runtime-1",
            Role::Gateway => "k-gateway-1",
            Role::Api | Role::Scheduler | Role::Projector => "k-none",
        }
    }
    fn role(&self) -> Role {
        self.0
    }
    fn sign_hex(&self, bytes: &[u8]) -> String {
        digest(bytes).trim_start_matches("sha256:").repeat(2)
    }
}

/// A log in the making. Each message is one second after the one before.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) messages: Vec<Stored>,
}

impl Log {
    /// One message on `ledger.<kind>.<id>`, written by the kind's own role.
    pub(crate) fn say(&mut self, id: &str, events: &[LedgerEvent]) -> &mut Self {
        let kind = events[0].kind();
        self.say_on(&format!("ledger.{}.{id}", kind.as_str()), events)
    }

    pub(crate) fn say_on(&mut self, subject: &str, events: &[LedgerEvent]) -> &mut Self {
        let n = self.messages.len() + 1;
        let person = events[0].subject().map(ToString::to_string);
        let meta = Meta {
            time: format!("2026-11-22T21:{:02}:{:02}.000Z", n / 60, n % 60),
            subject: person,
            correlation: subject.rsplit('.').next().map(str::to_owned),
            launcher: Some("web-chat".into()),
            ..Meta::default()
        };
        let bytes = encode(&MadeUp(events[0].kind().writer()), &format!("c{n}"), events, &meta).unwrap();
        self.put(subject, bytes)
    }

    pub(crate) fn put(&mut self, subject: &str, bytes: Vec<u8>) -> &mut Self {
        let seq = Seq(self.messages.len() as u64 + 1);
        self.messages.push(Stored { seq, log_subject: subject.into(), message_id: None, bytes });
        self
    }
}

/// One line of `log.ndjson`: the event as JSON, or the bytes as text where they are none.
pub(crate) fn to_line(stored: &Stored) -> String {
    let event: Result<Value, _> = serde_json::from_slice(&stored.bytes);
    let (seq, subject) = (stored.seq.0, &stored.log_subject);
    let line = match event {
        Ok(event) => {
            assert_eq!(canonical(&event).as_bytes(), stored.bytes, "sequence {seq} would not come back as it is");
            json!({ "seq": seq, "subject": subject, "event": event })
        }
        Err(_) => json!({ "seq": seq, "subject": subject, "text": String::from_utf8(stored.bytes.clone()).unwrap() }),
    };
    canonical(&line)
}

pub(crate) fn from_line(line: &str) -> Stored {
    let value: Value = serde_json::from_str(line).unwrap();
    let bytes = match value.get("text") {
        Some(text) => text.as_str().unwrap().as_bytes().to_vec(),
        None => canonical(&value["event"]).into_bytes(),
    };
    let log_subject = value["subject"].as_str().unwrap().to_owned();
    Stored { seq: Seq(value["seq"].as_u64().unwrap()), log_subject, message_id: None, bytes }
}

/// The events of a log as folds get them: what cannot be read is left out.
pub(crate) fn recorded(messages: &[Stored]) -> Vec<Recorded> {
    messages.iter().flat_map(|m| Recorded::read(m).unwrap_or_default()).collect()
}

pub(crate) fn fold<P: Projection>(events: &[Recorded]) -> P::State {
    let mut state = P::State::default();
    events.iter().for_each(|e| P::apply(&mut state, e));
    state
}

/// Every row as its key and JSON bytes.
pub(crate) fn exported<P: Folded>(state: &P::State) -> Vec<(String, Vec<u8>)> {
    let mut rows = Vec::new();
    P::export(state, &mut |key, bytes| rows.push((key.to_owned(), bytes.to_vec())));
    rows
}
