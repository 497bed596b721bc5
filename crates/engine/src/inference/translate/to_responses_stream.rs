//! Streamed Chat Completions chunks as a streamed Responses answer: the upstream speaks Chat Completions, the agent
//! Responses.

use super::super::sse;
use super::chat_answer::call_id;
use super::chat_stream::Unfollowable;
use super::names::ToolNames;
use super::to_responses_answer::{call_item, message_item, response};
use serde_json::{Value, json};

/// The state of one answer. At most one item is open.
#[derive(Debug)]
pub(in super::super) struct ChatToResponses {
    names: ToolNames,
    model: String,
    id: String,
    started: bool,
    /// `sequence_number` of the next event.
    next: u64,
    open: Option<Open>,
    /// Items that are over.
    output: Vec<Value>,
    calls: usize,
    finish: Option<String>,
    usage: Value,
    stopped: bool,
}

#[derive(Debug)]
enum Open {
    Text(String),
    Call { index: Option<u64>, own_id: Option<String>, id: String, name: String, arguments: String },
}

impl ChatToResponses {
    /// A translator for one answer.
    pub(in super::super) fn new(model: &str, names: ToolNames) -> ChatToResponses {
        ChatToResponses {
            names,
            model: model.to_owned(),
            id: "0".to_owned(),
            started: false,
            next: 0,
            open: None,
            output: Vec::new(),
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

    /// The events of the end. Safe to call twice.
    pub(in super::super) fn end(&mut self, out: &mut String) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        self.start(&Value::Null, out);
        self.close(out);
        let finish = self.finish.clone().unwrap_or_else(|| "stop".to_owned());
        let whole = response(&self.id, &self.model, Some(&finish), std::mem::take(&mut self.output), &self.usage);
        let name = if whole["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
        self.event(name, json!({ "response": whole }), out);
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
        let begun = response(&self.id, &self.model, None, Vec::new(), &Value::Null);
        self.event("response.created", json!({ "response": begun }), out);
        self.event("response.in_progress", json!({ "response": begun }), out);
    }

    fn text(&mut self, text: &str, out: &mut String) {
        if !matches!(self.open, Some(Open::Text(_))) {
            self.close(out);
            self.open = Some(Open::Text(String::new()));
            let item = json!({
                "id": self.message_id(), "type": "message", "role": "assistant", "status": "in_progress", "content": [],
            });
            self.item_event("response.output_item.added", json!({ "item": item }), out);
            let part = json!({ "type": "output_text", "text": "", "annotations": [] });
            let body = json!({ "item_id": self.message_id(), "content_index": 0, "part": part });
            self.item_event("response.content_part.added", body, out);
        }
        if let Some(Open::Text(whole)) = &mut self.open {
            whole.push_str(text);
        }
        let body = json!({ "item_id": self.message_id(), "content_index": 0, "delta": text });
        self.item_event("response.output_text.delta", body, out);
    }

    fn call(&mut self, call: &Value, out: &mut String) -> Result<(), Unfollowable> {
        let index = call["index"].as_u64();
        let id = call["id"].as_str().filter(|id| !id.is_empty());
        let name = call["function"]["name"].as_str().filter(|name| !name.is_empty());
        let continues = match &self.open {
            // Servers exist that number every call 0 or not at all; a new id with a name is a new call all the same.
            Some(Open::Call { index: open, own_id, .. }) => {
                (index.is_none() || open.is_none() || index == *open)
                    && (id.is_none() || name.is_none() || id == own_id.as_deref())
            }
            _ => false,
        };
        if !continues {
            let Some(name) = name else {
                return Err(Unfollowable("it went back to a tool call that was already over"));
            };
            self.close(out);
            let made = call_id(&call["id"], Some(&self.id), self.calls);
            let mut item = call_item(&self.names, self.calls, &made, name, "");
            item["status"] = json!("in_progress");
            if item["type"] == "function_call" {
                item["arguments"] = json!("");
            }
            let (name, own_id) = (name.to_owned(), id.map(str::to_owned));
            self.open = Some(Open::Call { index, own_id, id: made, name, arguments: String::new() });
            self.item_event("response.output_item.added", json!({ "item": item }), out);
        }
        if let Some(part) = call["function"]["arguments"].as_str().filter(|part| !part.is_empty()) {
            let Some(Open::Call { arguments, name, .. }) = &mut self.open else { return Ok(()) };
            arguments.push_str(part);
            // The text of a free-form tool stands inside the object that is still being written.
            if !self.names.meant(name).custom {
                let body = json!({ "item_id": format!("fc_{}", self.calls), "delta": part });
                self.item_event("response.function_call_arguments.delta", body, out);
            }
        }
        Ok(())
    }

    fn close(&mut self, out: &mut String) {
        match self.open.take() {
            None => {}
            Some(Open::Text(whole)) => {
                let id = self.message_id();
                let body = json!({ "item_id": id, "content_index": 0, "text": whole });
                self.item_event("response.output_text.done", body, out);
                let item = message_item(&id, &whole);
                let body = json!({ "item_id": id, "content_index": 0, "part": item["content"][0] });
                self.item_event("response.content_part.done", body, out);
                self.item_event("response.output_item.done", json!({ "item": item }), out);
                self.output.push(item);
            }
            Some(Open::Call { id, name, arguments, .. }) => {
                let item = call_item(&self.names, self.calls, &id, &name, &arguments);
                let (event, field) = match item["type"] == "custom_tool_call" {
                    true => ("response.custom_tool_call_input.done", "input"),
                    false => ("response.function_call_arguments.done", "arguments"),
                };
                let mut body = json!({ "item_id": item["id"] });
                body[field] = item[field].clone();
                self.item_event(event, body, out);
                self.item_event("response.output_item.done", json!({ "item": item }), out);
                self.output.push(item);
                self.calls += 1;
            }
        }
    }

    fn message_id(&self) -> String {
        format!("msg_{}", self.output.len())
    }

    fn item_event(&mut self, name: &str, mut body: Value, out: &mut String) {
        body["output_index"] = json!(self.output.len());
        self.event(name, body, out);
    }

    fn event(&mut self, name: &str, mut body: Value, out: &mut String) {
        body["type"] = json!(name);
        body["sequence_number"] = json!(self.next);
        self.next += 1;
        out.push_str(&sse::named(name, &body));
    }
}
