//! Streamed Chat Completions chunks as a streamed Messages answer: the upstream speaks OpenAI, the agent Anthropic.

use super::super::sse;
use super::{chat_answer, stop_reason};
use serde_json::{Value, json};

/// The state of one answer. Blocks of a Messages answer follow each other; at most one is open.
#[derive(Debug)]
pub(in super::super) struct ChatToMessages {
    model: String,
    id: String,
    started: bool,
    open: Option<Open>,
    /// Blocks that were started.
    blocks: u64,
    /// Tool calls that were started.
    calls: usize,
    finish: Option<String>,
    usage: Value,
    stopped: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Open {
    Text,
    /// A call: its index at the upstream and its id there, if it said one.
    Call(u64, Option<String>),
}

/// The upstream's stream cannot be followed; why, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Unfollowable(pub(in super::super) &'static str);

impl ChatToMessages {
    /// A translator for one answer.
    pub(in super::super) fn new(model: &str) -> ChatToMessages {
        ChatToMessages {
            model: model.to_owned(),
            id: "msg_0".to_owned(),
            started: false,
            open: None,
            blocks: 0,
            calls: 0,
            finish: None,
            usage: Value::Null,
            stopped: false,
        }
    }

    /// The events that one chunk becomes.
    pub(in super::super) fn chunk(&mut self, json: &Value, out: &mut String) -> Result<(), Unfollowable> {
        if self.stopped {
            return Ok(());
        }
        self.start(json, out);
        if json["usage"].is_object() {
            self.usage = json["usage"].clone();
        }
        let Some(choice) = json["choices"].get(0) else { return Ok(()) };
        let delta = &choice["delta"];
        for name in ["content", "refusal"] {
            if let Some(text) = delta[name].as_str().filter(|text| !text.is_empty()) {
                self.text(text, out);
            }
        }
        for call in delta["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default() {
            self.call(call, out)?;
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish = Some(reason.to_owned());
        }
        Ok(())
    }

    /// The events of the end: the upstream said `[DONE]`, or closed after it had said why it stopped. Safe to call twice.
    pub(in super::super) fn end(&mut self, out: &mut String) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        self.start(&Value::Null, out);
        self.close(out);
        let reason = stop_reason(self.finish.as_deref().unwrap_or("stop"), self.calls > 0);
        event(
            out,
            "message_delta",
            json!({
                "delta": { "stop_reason": reason, "stop_sequence": null },
                "usage": chat_answer::usage(&self.usage),
            }),
        );
        event(out, "message_stop", json!({}));
    }

    fn start(&mut self, json: &Value, out: &mut String) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        if let Some(id) = json["id"].as_str().filter(|id| !id.is_empty()) {
            self.id = id.to_owned();
        }
        if let Some(model) = json["model"].as_str().filter(|model| !model.is_empty()) {
            self.model = model.to_owned();
        }
        event(
            out,
            "message_start",
            json!({
                "message": {
                    "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": [],
                    "stop_reason": null, "stop_sequence": null,
                    // The upstream counts at the end; `message_delta` brings the numbers.
                    "usage": { "input_tokens": 0, "output_tokens": 0 },
                },
            }),
        );
    }

    fn text(&mut self, text: &str, out: &mut String) {
        if self.open != Some(Open::Text) {
            self.close(out);
            self.open_block(Open::Text, json!({ "type": "text", "text": "" }), out);
        }
        self.block_delta(json!({ "type": "text_delta", "text": text }), out);
    }

    fn call(&mut self, call: &Value, out: &mut String) -> Result<(), Unfollowable> {
        let index = call["index"].as_u64();
        let id = call["id"].as_str().filter(|id| !id.is_empty());
        let name = call["function"]["name"].as_str().filter(|name| !name.is_empty());
        let continues = match &self.open {
            // Servers exist that number every call 0 or not at all; a new id with a name is a new call all the same.
            Some(Open::Call(open, known)) => {
                index.is_none_or(|index| index == *open) && (id.is_none() || name.is_none() || id == known.as_deref())
            }
            _ => false,
        };
        if !continues {
            let Some(name) = name else {
                return Err(Unfollowable("it went back to a tool call that was already over"));
            };
            self.close(out);
            let block = json!({
                "type": "tool_use",
                "id": chat_answer::call_id(&call["id"], Some(&self.id), self.calls),
                "name": name,
                "input": {},
            });
            let place = index.unwrap_or(self.calls as u64);
            self.calls += 1;
            self.open_block(Open::Call(place, id.map(str::to_owned)), block, out);
        }
        if let Some(part) = call["function"]["arguments"].as_str().filter(|part| !part.is_empty()) {
            self.block_delta(json!({ "type": "input_json_delta", "partial_json": part }), out);
        }
        Ok(())
    }

    fn open_block(&mut self, open: Open, block: Value, out: &mut String) {
        event(out, "content_block_start", json!({ "index": self.blocks, "content_block": block }));
        self.blocks += 1;
        self.open = Some(open);
    }

    fn block_delta(&self, delta: Value, out: &mut String) {
        event(out, "content_block_delta", json!({ "index": self.blocks.saturating_sub(1), "delta": delta }));
    }

    fn close(&mut self, out: &mut String) {
        if self.open.take().is_some() {
            event(out, "content_block_stop", json!({ "index": self.blocks.saturating_sub(1) }));
        }
    }
}

fn event(out: &mut String, name: &str, mut body: Value) {
    body["type"] = json!(name);
    out.push_str(&sse::named(name, &body));
}
