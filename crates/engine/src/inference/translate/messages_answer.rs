//! A Messages answer as a Chat Completions answer: the upstream speaks Anthropic, the agent OpenAI.

use super::finish_reason;
use serde_json::{Value, json};

/// Translates an answer that was not streamed; `None` when it is not a message.
pub(in super::super) fn to_chat(message: &Value) -> Option<Value> {
    let blocks = message["content"].as_array()?;
    let text: String = blocks.iter().filter(|b| b["type"] == "text").filter_map(|b| b["text"].as_str()).collect();
    let calls: Vec<Value> = blocks
        .iter()
        .filter(|block| block["type"] == "tool_use")
        .map(|block| {
            json!({
                "id": block["id"],
                "type": "function",
                "function": { "name": block["name"], "arguments": block["input"].to_string() },
            })
        })
        .collect();
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { json!(text) };
    let mut answer = json!({ "role": "assistant", "content": content });
    if !calls.is_empty() {
        answer["tool_calls"] = Value::Array(calls);
    }
    Some(json!({
        "id": message["id"],
        "object": "chat.completion",
        // The other format has no time of its own, and a made-up one would be worse than none.
        "created": 0,
        "model": message["model"],
        "choices": [{
            "index": 0,
            "message": answer,
            "finish_reason": finish_reason(message["stop_reason"].as_str().unwrap_or("end_turn")),
        }],
        "usage": usage(&message["usage"]),
    }))
}

/// Anthropic counts cached input beside the rest, OpenAI inside it.
pub(super) fn usage(usage: &Value) -> Value {
    let count = |name: &str| usage[name].as_u64().unwrap_or(0);
    let cached = count("cache_read_input_tokens");
    let input = count("input_tokens").saturating_add(count("cache_creation_input_tokens")).saturating_add(cached);
    let output = count("output_tokens");
    json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input.saturating_add(output),
        "prompt_tokens_details": { "cached_tokens": cached },
    })
}
