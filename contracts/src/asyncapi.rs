//! The AsyncAPI 3.1 description of every subject, generated from the schemas and the code and never edited. What only a
//! stream's definition knows comes in as [`ChannelFacts`]. Must never name a server's address.

use crate::bundle::{Place, closure, key};
use crate::catalogue;
use crate::envelope::MESSAGE_BYTES_MAX;
use crate::events::{Kind, TYPES};
use crate::launch;
use serde::Serialize;
use serde_json::{Map, Value, json};

pub use crate::bundle::schemas;

/// What the code that keeps streams and serves verbs knows of some subjects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelFacts {
    /// Subject filters, `ledger.*.*` or `query.>`.
    pub subjects: Vec<String>,
    /// The stream that captures them; `None` for plain request and reply.
    pub stream: Option<StreamFacts>,
    /// The verbs that are served, for a channel whose last part is one.
    pub verbs: Vec<String>,
}

/// What JetStream does with the messages of a stream. Source: JetStream stream configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamFacts {
    /// Its name.
    pub stream: String,
    /// `limits`, `interest` or `workqueue`.
    pub retention: String,
    /// What a full stream does: `new` refuses, `old` drops the oldest.
    pub discard: String,
    /// Milliseconds in which a message id is recognised again.
    pub duplicate_window_ms: u64,
    /// Milliseconds that a message is kept; `None` is for ever.
    pub max_age_ms: Option<u64>,
    /// Bytes of one message with its headers; `None` is the server's own limit.
    pub max_message_bytes: Option<u64>,
    /// Bytes of the whole stream; `None` is no limit.
    pub max_bytes: Option<u64>,
    /// Whether no message can be deleted.
    pub deny_delete: bool,
    /// Whether the stream cannot be purged.
    pub deny_purge: bool,
}

/// (verb, shape of ledger.v2 that is the request's body) of every command.
pub const COMMANDS: [(&str, &str); 14] = [
    ("launcher.register", "LauncherRegistered"),
    ("launcher.rotate", "LauncherRotated"),
    ("launcher.disable", "LauncherDisabled"),
    ("dispatch.stop", "DispatchStopRequested"),
    ("key.introduce", "KeyIntroduced"),
    ("key.retire", "KeyRetired"),
    ("workspace.register", "WorkspaceRegistered"),
    ("workspace.rotate", "WorkspaceKeyRotated"),
    ("workspace.import", "WorkspaceImported"),
    ("workspace.accept", "WorkspaceProposalAccepted"),
    ("workspace.landed", "WorkspaceProposalLanded"),
    ("workspace.reject", "WorkspaceProposalRejected"),
    ("grant.request", "GrantRequested"),
    ("grant.revoke", "GrantRevoked"),
];

const SCHEMAS: &str = "#/components/schemas/";

/// Everything that the description gathers.
struct Draft<'a> {
    facts: &'a [ChannelFacts],
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
    roots: Vec<Place>,
}

/// The whole description.
pub fn document(facts: &[ChannelFacts]) -> Value {
    let mut draft =
        Draft { facts, channels: Map::new(), operations: Map::new(), messages: Map::new(), roots: Vec::new() };
    draft.launches();
    draft.ledger();
    draft.topics();
    draft.requests();
    let schemas: Map<String, Value> = closure(&draft.roots, SCHEMAS).into_iter().collect();
    json!({
        "asyncapi": "3.1.0",
        "info": {
            "title": "Custody",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every subject on which Custody says or hears something. Generated: the contracts are the source.",
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "channels": draft.channels,
        "operations": draft.operations,
        "components": { "messages": draft.messages, "schemas": schemas },
    })
}

impl Draft<'_> {
    fn launches(&mut self) {
        let data = self.schema("unit.v1", "Invocation");
        self.message("Launch", launch::TYPE, "A launcher asks for a dispatch.", launch_event(&data));
        self.channel("launch", "launch.{launcher}.dispatch", "What launchers ask for.", &["Launch"]);
        self.operation("launch", "receive", "authority", &["Launch"], None);
        let reply = self.schema("reply.v1", "Reply");
        self.message("Reply", "reply.v1", "What became of a launch.", reply);
        self.channel(
            "reply",
            "reply.{launcher}.{dispatch}",
            "Answers to launchers. Not kept: the ledger is.",
            &["Reply"],
        );
        self.operation("reply", "send", "authority", &["Reply"], None);
    }

    fn ledger(&mut self) {
        for kind in Kind::ALL {
            let kind_part = ["custody.", kind.as_str(), "."].concat();
            let writer = kind.writer().as_str();
            let mut names = Vec::new();
            for (event_type, shape) in TYPES.iter().filter(|(event_type, _)| event_type.starts_with(&kind_part)) {
                let data = self.schema("ledger.v2", shape);
                let payload = ledger_event(event_type, shape, writer, &data);
                self.message(shape, event_type, &description("ledger.v2", shape), payload);
                names.push(*shape);
            }
            let id = ["ledger.", kind.as_str()].concat();
            let about = format!(
                "Events of kind {}. One message is one decision: an event, or an array of several. At most {MESSAGE_BYTES_MAX} bytes.",
                kind.as_str()
            );
            self.channel(&id, &[id.as_str(), ".{id}"].concat(), &about, &names);
            self.operation(&id, "send", writer, &names, None);
        }
    }

    fn topics(&mut self) {
        let chunk = self.schema("output.v2", "Chunk");
        self.message("Chunk", "output.v2", "Consecutive frames of one dispatch.", chunk);
        self.channel(
            "unit.out",
            "unit.{dispatch}.out",
            "What a dispatch says. In prose unit:{dispatch}:out.",
            &["Chunk"],
        );
        self.operation("unit.out", "send", "gateway", &["Chunk"], None);
        self.channel(
            "unit.in",
            "unit.{dispatch}.in",
            "Reserved for follow-ups: no message is defined, nobody reads it.",
            &[],
        );
        let mut names = Vec::new();
        for shape in ["SessionStart", "Transcription", "SessionEnd"] {
            let payload = self.schema("transcript.v1", shape);
            self.message(shape, "transcript.v1", &description("transcript.v1", shape), payload);
            names.push(shape);
        }
        self.channel("transcript", "transcript.{meeting}", "What is said in a meeting.", &names);
    }

    fn requests(&mut self) {
        let error = self.schema("error.v1", "Error");
        self.message("Error", "error.v1", "What was wrong, and a way out.", error);
        let done = json!({
            "type": "object", "additionalProperties": false, "required": ["ok"],
            "properties": { "ok": {
                "type": "object", "additionalProperties": false, "required": ["seq", "changed"],
                "properties": {
                    "seq": { "description": "Sequence of the entity's last message.", "type": "integer", "minimum": 0 },
                    "changed": { "description": "False: it stood so before.", "type": "boolean" },
                },
            } },
        });
        self.message("Done", "answer", "A command was carried out.", done);
        let rows = json!({
            "type": "object", "additionalProperties": false, "required": ["ok"],
            "properties": { "ok": { "description": "A projection's rows; not a contract.", "type": "object" } },
        });
        self.message("Rows", "answer", "What was asked for.", rows);
        self.answers("command.answer", &["Done", "Error"]);
        self.answers("query.answer", &["Rows", "Error"]);
        for (verb, shape) in COMMANDS {
            let id = ["command.", verb].concat();
            let name = ["command.", verb].concat();
            let body = self.schema("ledger.v2", shape);
            self.message(&name, verb, &description("ledger.v2", shape), body);
            self.channel(&id, &id, "A request of an operator.", &[name.as_str()]);
            self.operation(&id, "receive", "authority", &[name.as_str()], Some("command.answer"));
        }
        let query = json!({
            "type": "object", "additionalProperties": false,
            "properties": {
                "min_seq": { "description": "Wait until this sequence is folded.", "type": "integer", "minimum": 0 },
                "id": { "description": "An id, a unique prefix of one, or last.", "type": ["string", "null"] },
                "status": { "description": "Only these states.", "type": "array", "items": { "type": "string" } },
                "subject": { "description": "Only this person.", "type": ["string", "null"] },
                "launcher": { "description": "Only this launcher.", "type": ["string", "null"] },
                "limit": { "description": "At most so many rows, newest first.", "type": ["integer", "null"], "minimum": 0 },
                "before_seq": { "description": "The next page.", "type": ["integer", "null"], "minimum": 0 },
            },
        });
        self.message("Query", "query", "A question to the projector. An empty body is an empty object.", query);
        self.channel("query", "query.{verb}", "Questions to the projector.", &["Query"]);
        self.operation("query", "receive", "projector", &["Query"], Some("query.answer"));
        let content = json!({
            "type": "object", "additionalProperties": false, "required": ["workspace"],
            "properties": {
                "workspace": { "description": "A registered workspace.", "type": "string" },
                "commit": { "description": "A commit; the newest when there is none.", "type": ["string", "null"] },
                "proposal": { "description": "The waiting proposal that it belongs to.", "type": ["string", "null"] },
                "limit": { "description": "At most so many rows.", "type": ["integer", "null"], "minimum": 0 },
            },
        });
        let about = "A question about what a workspace holds. Who may see it is the asker's to know.";
        self.message("Content", "content", about, content);
        self.channel("content", "content.{verb}", "Questions to the runtime, which has the buckets.", &["Content"]);
        self.operation("content", "receive", "runtime", &["Content"], Some("query.answer"));
    }

    /// A reference to a shape, which is bundled.
    fn schema(&mut self, contract: &str, shape: &str) -> Value {
        self.roots.push((contract.to_owned(), shape.to_owned()));
        json!({ "$ref": format!("{SCHEMAS}{}", key(contract, shape)) })
    }

    fn message(&mut self, name: &str, title: &str, about: &str, payload: Value) {
        let message = json!({
            "name": name, "title": title, "summary": about, "contentType": "application/json", "payload": payload,
        });
        self.messages.insert(name.to_owned(), message);
    }

    fn channel(&mut self, id: &str, address: &str, about: &str, messages: &[&str]) {
        let facts = self.facts.iter().find(|f| f.subjects.iter().any(|filter| covers(filter, address)));
        let mut channel = json!({ "address": address, "description": about });
        if !messages.is_empty() {
            channel["messages"] = messages.iter().map(|name| ((*name).to_owned(), component(name))).collect();
        }
        let parameters: Map<String, Value> = parameters(address)
            .map(|name| {
                let verbs = facts.filter(|f| name == "verb" && !f.verbs.is_empty()).map(|f| &f.verbs);
                let about = json!({ "description": parameter(name) });
                let about = verbs.map_or(about, |v| json!({ "description": parameter(name), "enum": v }));
                (name.to_owned(), about)
            })
            .collect();
        if !parameters.is_empty() {
            channel["parameters"] = Value::Object(parameters);
        }
        if let Some(stream) = facts.and_then(|f| f.stream.as_ref()) {
            channel["x-jetstream"] = serde_json::to_value(stream).unwrap_or_default();
        }
        self.channels.insert(id.to_owned(), channel);
    }

    /// A channel without an address of its own: the requester names where the answer goes.
    fn answers(&mut self, id: &str, messages: &[&str]) {
        let messages: Map<String, Value> = messages.iter().map(|n| ((*n).to_owned(), component(n))).collect();
        let about = "Where the request's reply subject says.";
        self.channels.insert(id.to_owned(), json!({ "address": null, "description": about, "messages": messages }));
    }

    fn operation(&mut self, channel: &str, action: &str, role: &str, messages: &[&str], answer: Option<&str>) {
        let in_channel = |channel: &str, name: &str| json!({ "$ref": format!("#/channels/{channel}/messages/{name}") });
        let mut operation = json!({
            "action": action,
            "channel": { "$ref": format!("#/channels/{channel}") },
            "messages": messages.iter().map(|name| in_channel(channel, name)).collect::<Vec<_>>(),
            "x-role": role,
        });
        if let Some(answer) = answer {
            operation["reply"] = json!({ "channel": { "$ref": format!("#/channels/{answer}") } });
        }
        self.operations.insert(channel.to_owned(), operation);
    }
}

fn component(name: &str) -> Value {
    json!({ "$ref": format!("#/components/messages/{name}") })
}

/// The names in braces of an address.
fn parameters(address: &str) -> impl Iterator<Item = &str> {
    address.split('.').filter_map(|token| token.strip_prefix('{')?.strip_suffix('}'))
}

fn parameter(name: &str) -> &'static str {
    match name {
        "launcher" => "The launcher's id: 1 to 63 of [a-z0-9_-].",
        "dispatch" => "The dispatch's id: 1 to 64 of [a-z0-9_-].",
        "id" => "The entity's id: 1 to 80 of [a-z0-9_-].",
        "meeting" => "The meeting's id as a token.",
        "verb" => "What is asked: 1 to 4 words with dots between.",
        _ => "A token.",
    }
}

/// Whether a subject filter captures every subject of an address. Source: NATS subject-based messaging, wildcards.
fn covers(filter: &str, address: &str) -> bool {
    let (mut wanted, mut given) = (filter.split('.'), address.split('.'));
    loop {
        match (wanted.next(), given.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// The description that a contract gives one of its shapes.
fn description(contract: &str, shape: &str) -> String {
    let schema = catalogue::find(contract).ok().and_then(|c| serde_json::from_str::<Value>(c.schema).ok());
    let text = schema.as_ref().and_then(|s| s.get("$defs")?.get(shape)?.get("description")?.as_str());
    text.unwrap_or_default().to_owned()
}

/// The structured CloudEvent of a ledger event, as [`crate::envelope`] writes it.
fn ledger_event(event_type: &str, shape: &str, writer: &str, data: &Value) -> Value {
    let text = |about: &str| json!({ "description": about, "type": "string" });
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["specversion", "id", "source", "type", "time", "datacontenttype", "dataschema", "keyid", "signature", "data"],
        "properties": {
            "specversion": { "const": "1.0" },
            "id": text("Derived from the command: a retry is the same event."),
            "source": { "const": format!("custody/{writer}") },
            "type": { "const": event_type },
            "time": text("RFC 3339, milliseconds, UTC. From the command."),
            "subject": text("The person."),
            "datacontenttype": { "const": "application/json" },
            "dataschema": { "const": format!("custody:ledger.v2#/$defs/{shape}") },
            "causation": text("Id of what caused it."),
            "correlation": text("What it belongs to: the dispatch, or the entity."),
            "launcher": text("The launcher."),
            "grant": text("The grant."),
            "traceparent": text("W3C trace context."),
            "keyid": text("The key that signed."),
            "signature": {
                "description": "Ed25519 over the canonical JSON of the event without this field, in hexadecimal.",
                "type": "string", "pattern": "^[0-9a-f]{128}$",
            },
            "data": data,
        },
    })
}

/// The structured CloudEvent of a launch, as [`crate::launch`] writes it. Extensions of others are let through unread.
fn launch_event(data: &Value) -> Value {
    let text = |about: &str| json!({ "description": about, "type": "string" });
    json!({
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": { "const": "1.0" },
            "id": {
                "description": "The launcher's own id of it: the same one again is the same launch.",
                "type": "string", "minLength": 1, "maxLength": 256,
            },
            "source": text("As the launcher says it; the account boundary decides who published."),
            "type": { "const": launch::TYPE },
            "time": text("RFC 3339; at most ten minutes from the server's clock."),
            "datacontenttype": { "const": "application/json" },
            "dataschema": { "const": "custody:unit.v1#/$defs/Invocation" },
            "keyid": text("The launcher's public nkey, with a signature."),
            "signature": text("Ed25519 over the canonical JSON of the event without this field, in hexadecimal."),
            "traceparent": text("W3C trace context."),
            "data": data,
        },
        "patternProperties": { "^[a-z0-9]+$": true },
        "additionalProperties": false,
    })
}
