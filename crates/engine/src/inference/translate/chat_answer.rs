//! A Chat Completions answer as a Messages answer: the upstream speaks OpenAI, the agent Anthropic.

use super::{arguments_object, stop_reason};
use serde_json::{Value, json};

/// Translates an answer that was not streamed; `None` when it holds no choice.
pub(in super::super) fn to_message(chat: &Value) -> Option<Value> {
    let choice = chat["choices"].get(0)?;
    let message = choice["message"].as_object()?;
    let mut content = Vec::new();
    for name in ["content", "refusal"] {
        if let Some(text) = message.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()) {
            content.push(json!({ "type": "text", "text": text }));
        }
    }
    let calls = message.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (n, call) in calls.iter().enumerate() {
        let function = &call["function"];
        content.push(json!({
            "type": "tool_use",
            "id": call_id(&call["id"], chat["id"].as_str(), n),
            "name": function["name"],
            "input": arguments_object(function["arguments"].as_str().unwrap_or_default()),
        }));
    }
    let finish = choice["finish_reason"].as_str().unwrap_or("stop");
    Some(json!({
        "id": chat["id"],
        "type": "message",
        "role": "assistant",
        "model": chat["model"],
        "content": content,
        "stop_reason": stop_reason(finish, !calls.is_empty()),
        "stop_sequence": null,
        "usage": usage(&chat["usage"]),
    }))
}

/// A call's id; some servers leave it out, and then the answer's id and the call's place make one that stays unique in
/// the conversation.
pub(super) fn call_id(id: &Value, answer: Option<&str>, n: usize) -> String {
    match id.as_str() {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => format!("call_{}_{n}", answer.unwrap_or("0")),
    }
}

/// OpenAI counts cached input inside the rest, Anthropic beside it.
pub(super) fn usage(usage: &Value) -> Value {
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
    let input = usage["prompt_tokens"].as_u64().unwrap_or(0);
    json!({
        "input_tokens": input.saturating_sub(cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage["completion_tokens"].as_u64().unwrap_or(0),
    })
}
