//! A streamed Responses answer as Chat Completions chunks: the upstream speaks Responses, the agent Chat Completions (or
//! what comes after it).

use super::super::sse;
use super::responses_answer::{finish, usage};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The state of one answer.
#[derive(Debug)]
pub(in super::super) struct ResponsesToChat {
    /// Whether the agent asked for a chunk with the usage.
    wants_usage: bool,
    id: String,
    model: String,
    /// Calls by their index among all items: their number, and whether arguments came.
    calls: BTreeMap<u64, (usize, bool)>,
}

impl ResponsesToChat {
    /// A translator for one answer.
    pub(in super::super) fn new(wants_usage: bool, model: &str) -> ResponsesToChat {
        let (id, model) = ("chatcmpl-0".to_owned(), model.to_owned());
        ResponsesToChat { wants_usage, id, model, calls: BTreeMap::new() }
    }

    /// The chunks that one event becomes; `json` is its data.
    pub(in super::super) fn event(&mut self, json: &Value, out: &mut String) {
        let item = &json["item"];
        let index = json["output_index"].as_u64().unwrap_or(0);
        match json["type"].as_str() {
            Some("response.created") => {
                if let Some(id) = json["response"]["id"].as_str() {
                    self.id = id.to_owned();
                }
                if let Some(model) = json["response"]["model"].as_str() {
                    self.model = model.to_owned();
                }
                self.delta(json!({ "role": "assistant", "content": "" }), out);
            }
            Some("response.output_text.delta" | "response.refusal.delta") => {
                if let Some(text) = json["delta"].as_str().filter(|text| !text.is_empty()) {
                    self.delta(json!({ "content": text }), out);
                }
            }
            Some("response.output_item.added") if item["type"] == "function_call" => {
                let n = self.calls.len();
                self.calls.insert(index, (n, false));
                let function = json!({ "name": item["name"], "arguments": "" });
                let call = json!({ "index": n, "id": item["call_id"], "type": "function", "function": function });
                self.delta(json!({ "tool_calls": [call] }), out);
            }
            Some("response.function_call_arguments.delta") => {
                let part = json["delta"].as_str().unwrap_or_default();
                self.arguments(index, part, out);
            }
            // For servers that send no deltas.
            Some("response.output_item.done")
                if item["type"] == "function_call" && self.calls.get(&index).is_some_and(|(_, began)| !began) =>
            {
                let whole = item["arguments"].as_str().filter(|text| !text.is_empty()).unwrap_or("{}");
                self.arguments(index, whole, out);
            }
            Some("response.completed" | "response.incomplete") => self.stop(&json["response"], out),
            _ => {}
        }
    }

    fn arguments(&mut self, index: u64, part: &str, out: &mut String) {
        let Some((n, began)) = self.calls.get_mut(&index) else { return };
        if !part.is_empty() {
            *began = true;
            let n = *n;
            self.delta(json!({ "tool_calls": [{ "index": n, "function": { "arguments": part } }] }), out);
        }
    }

    fn stop(&mut self, response: &Value, out: &mut String) {
        let reason = finish(response, !self.calls.is_empty());
        self.chunk(json!([{ "index": 0, "delta": {}, "finish_reason": reason }]), None, out);
        if self.wants_usage {
            self.chunk(json!([]), Some(usage(&response["usage"])), out);
        }
        out.push_str(sse::DONE);
    }

    fn delta(&self, delta: Value, out: &mut String) {
        self.chunk(json!([{ "index": 0, "delta": delta, "finish_reason": null }]), None, out);
    }

    fn chunk(&self, choices: Value, usage: Option<Value>, out: &mut String) {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": 0,
            "model": self.model,
            "choices": choices,
        });
        if let Some(usage) = usage {
            chunk["usage"] = usage;
        }
        out.push_str(&sse::data(&chunk));
    }
}
