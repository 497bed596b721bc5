//! A Responses answer as a Chat Completions answer: the upstream speaks Responses, the agent Chat Completions (or what
//! comes after it).

use serde_json::{Value, json};

/// Translates an answer that was not streamed; `None` when it is not a response.
pub(in super::super) fn to_chat(response: &Value) -> Option<Value> {
    let items = response["output"].as_array()?;
    let mut text = String::new();
    let mut calls = Vec::new();
    for item in items {
        match item["type"].as_str() {
            Some("message") => {
                for part in item["content"].as_array().map(Vec::as_slice).unwrap_or_default() {
                    text.push_str(part["text"].as_str().or_else(|| part["refusal"].as_str()).unwrap_or_default());
                }
            }
            Some("function_call") => calls.push(json!({
                "id": item["call_id"],
                "type": "function",
                "function": { "name": item["name"], "arguments": item["arguments"].as_str().unwrap_or("{}") },
            })),
            // `reasoning`: thoughts are encrypted for the provider.
            _ => {}
        }
    }
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { json!(text) };
    let finish = finish(response, !calls.is_empty());
    let mut message = json!({ "role": "assistant", "content": content });
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    Some(json!({
        "id": response["id"],
        "object": "chat.completion",
        "created": response["created_at"].as_u64().unwrap_or(0),
        "model": response["model"],
        "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
        "usage": usage(&response["usage"]),
    }))
}

/// Why the model stopped.
pub(super) fn finish(response: &Value, has_calls: bool) -> &'static str {
    match response["incomplete_details"]["reason"].as_str() {
        Some("content_filter") => "content_filter",
        Some(_) => "length",
        None if has_calls => "tool_calls",
        None => "stop",
    }
}

/// Both count cached input inside the rest.
pub(super) fn usage(usage: &Value) -> Value {
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let (input, output) = (count(&usage["input_tokens"]), count(&usage["output_tokens"]));
    json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input.saturating_add(output),
        "prompt_tokens_details": { "cached_tokens": count(&usage["input_tokens_details"]["cached_tokens"]) },
    })
}
