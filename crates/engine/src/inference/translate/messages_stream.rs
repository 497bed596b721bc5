//! A streamed Messages answer as Chat Completions chunks: the upstream speaks Anthropic, the agent OpenAI.

use super::super::sse;
use super::{finish_reason, messages_answer};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The state of one answer.
#[derive(Debug)]
pub(in super::super) struct MessagesToChat {
    /// Whether the agent asked for a chunk with the usage.
    wants_usage: bool,
    id: String,
    model: String,
    usage: Map<String, Value>,
    finish: Option<&'static str>,
    /// Tool blocks by their index among all blocks.
    tools: BTreeMap<u64, ToolBlock>,
}

#[derive(Debug)]
struct ToolBlock {
    /// Its index among the tool calls.
    n: usize,
    /// Arguments that came with its start, for servers that send no deltas.
    input: String,
    /// Whether a delta came.
    began: bool,
}

impl MessagesToChat {
    /// A translator for one answer.
    pub(in super::super) fn new(wants_usage: bool, model: &str) -> MessagesToChat {
        MessagesToChat {
            wants_usage,
            id: "chatcmpl-0".to_owned(),
            model: model.to_owned(),
            usage: Map::new(),
            finish: None,
            tools: BTreeMap::new(),
        }
    }

    /// The chunks that one event becomes; `json` is its data.
    pub(in super::super) fn event(&mut self, json: &Value, out: &mut String) {
        match json["type"].as_str() {
            Some("message_start") => self.start(&json["message"], out),
            Some("content_block_start") => self.block_start(json, out),
            Some("content_block_delta") => self.block_delta(json, out),
            Some("content_block_stop") => self.block_stop(json, out),
            Some("message_delta") => {
                self.count(&json["usage"]);
                if let Some(reason) = json["delta"]["stop_reason"].as_str() {
                    self.finish = Some(finish_reason(reason));
                }
            }
            Some("message_stop") => self.stop(out),
            // `ping`, and what later versions of the format may add.
            _ => {}
        }
    }

    fn start(&mut self, message: &Value, out: &mut String) {
        if let Some(id) = message["id"].as_str() {
            self.id = id.to_owned();
        }
        if let Some(model) = message["model"].as_str() {
            self.model = model.to_owned();
        }
        self.count(&message["usage"]);
        self.delta(json!({ "role": "assistant", "content": "" }), out);
    }

    fn block_start(&mut self, json: &Value, out: &mut String) {
        let block = &json["content_block"];
        match block["type"].as_str() {
            Some("text") => self.text(&block["text"], out),
            Some("tool_use") => {
                let n = self.tools.len();
                let input = match &block["input"] {
                    Value::Object(input) if !input.is_empty() => block["input"].to_string(),
                    _ => "{}".to_owned(),
                };
                self.tools.insert(json["index"].as_u64().unwrap_or(0), ToolBlock { n, input, began: false });
                let function = json!({ "name": block["name"], "arguments": "" });
                self.delta(
                    json!({ "tool_calls": [{ "index": n, "id": block["id"], "type": "function", "function": function }] }),
                    out,
                );
            }
            _ => {}
        }
    }

    fn block_delta(&mut self, json: &Value, out: &mut String) {
        let delta = &json["delta"];
        match delta["type"].as_str() {
            Some("text_delta") => self.text(&delta["text"], out),
            Some("input_json_delta") => {
                let part = delta["partial_json"].as_str().unwrap_or_default();
                let Some(tool) = self.tools.get_mut(&json["index"].as_u64().unwrap_or(0)) else { return };
                if !part.is_empty() {
                    tool.began = true;
                    let n = tool.n;
                    self.arguments(n, part, out);
                }
            }
            _ => {}
        }
    }

    /// A tool without arguments sends no delta, but an agent cannot parse an empty text.
    fn block_stop(&mut self, json: &Value, out: &mut String) {
        let Some(tool) = self.tools.get_mut(&json["index"].as_u64().unwrap_or(0)) else { return };
        if !std::mem::replace(&mut tool.began, true) {
            let (n, input) = (tool.n, std::mem::take(&mut tool.input));
            self.arguments(n, &input, out);
        }
    }

    fn stop(&mut self, out: &mut String) {
        let reason = self.finish.unwrap_or("stop");
        self.chunk(json!([{ "index": 0, "delta": {}, "finish_reason": reason }]), None, out);
        if self.wants_usage {
            let usage = messages_answer::usage(&Value::Object(self.usage.clone()));
            self.chunk(json!([]), Some(usage), out);
        }
        out.push_str(sse::DONE);
    }

    fn text(&self, text: &Value, out: &mut String) {
        if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
            self.delta(json!({ "content": text }), out);
        }
    }

    fn arguments(&self, n: usize, part: &str, out: &mut String) {
        self.delta(json!({ "tool_calls": [{ "index": n, "function": { "arguments": part } }] }), out);
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

    /// Later counts replace earlier ones, name by name.
    fn count(&mut self, usage: &Value) {
        for (name, value) in usage.as_object().into_iter().flatten() {
            if value.is_u64() {
                self.usage.insert(name.clone(), value.clone());
            }
        }
    }
}
