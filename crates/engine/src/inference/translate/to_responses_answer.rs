//! A Chat Completions answer as a Responses answer: the upstream speaks Chat Completions, the agent Responses.

use super::chat_answer::call_id;
use super::names::ToolNames;
use serde_json::{Value, json};

/// Translates an answer that was not streamed; `None` when it holds no choice.
pub(in super::super) fn to_response(chat: &Value, names: &ToolNames) -> Option<Value> {
    let choice = chat["choices"].get(0)?;
    let message = choice["message"].as_object()?;
    let mut output = Vec::new();
    let words: String = ["content", "refusal"].iter().filter_map(|name| message.get(*name)?.as_str()).collect();
    if !words.is_empty() {
        output.push(message_item("msg_0", &words));
    }
    let calls = message.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (n, call) in calls.iter().enumerate() {
        let id = call_id(&call["id"], chat["id"].as_str(), n);
        let function = &call["function"];
        let name = function["name"].as_str().unwrap_or_default();
        output.push(call_item(names, n, &id, name, function["arguments"].as_str().unwrap_or("{}")));
    }
    let finish = choice["finish_reason"].as_str().unwrap_or("stop");
    let id = chat["id"].as_str().unwrap_or("0");
    Some(response(id, chat["model"].as_str().unwrap_or_default(), Some(finish), output, &chat["usage"]))
}

/// The response object; without a `finish` it is still in progress.
pub(super) fn response(id: &str, model: &str, finish: Option<&str>, output: Vec<Value>, chat_usage: &Value) -> Value {
    let incomplete = match finish {
        Some("length") => Some("max_output_tokens"),
        Some("content_filter") => Some("content_filter"),
        _ => None,
    };
    let status = match (finish, incomplete) {
        (None, _) => "in_progress",
        (_, Some(_)) => "incomplete",
        _ => "completed",
    };
    json!({
        "id": format!("resp_{id}"),
        "object": "response",
        // The other format's time is not a promise of this one's; agents do not read it.
        "created_at": 0,
        "status": status,
        "error": null,
        "incomplete_details": incomplete.map(|reason| json!({ "reason": reason })),
        "model": model,
        "output": output,
        "parallel_tool_calls": true,
        "tool_choice": "auto",
        "tools": [],
        "usage": if finish.is_some() { usage(chat_usage) } else { Value::Null },
    })
}

/// Words of the assistant.
pub(super) fn message_item(id: &str, words: &str) -> Value {
    json!({
        "id": id, "type": "message", "role": "assistant", "status": "completed",
        "content": [{ "type": "output_text", "text": words, "annotations": [] }],
    })
}

/// A call, in the agent's own names for its tools.
pub(super) fn call_item(names: &ToolNames, n: usize, id: &str, flat: &str, arguments: &str) -> Value {
    let meant = names.meant(flat);
    let mut item = if meant.custom {
        // The one text of the object; a model that wrote something else is passed on as it wrote.
        let input = serde_json::from_str::<Value>(arguments).ok();
        let input = input.as_ref().and_then(|args| args["input"].as_str()).unwrap_or(arguments).to_owned();
        json!({ "id": format!("ctc_{n}"), "type": "custom_tool_call", "status": "completed", "call_id": id, "input": input })
    } else {
        let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
        json!({ "id": format!("fc_{n}"), "type": "function_call", "status": "completed", "call_id": id, "arguments": arguments })
    };
    item["name"] = json!(meant.name);
    if let Some(space) = meant.namespace {
        item["namespace"] = json!(space);
    }
    item
}

/// Both count cached input inside the rest.
fn usage(usage: &Value) -> Value {
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let (input, output) = (count(&usage["prompt_tokens"]), count(&usage["completion_tokens"]));
    json!({
        "input_tokens": input,
        "input_tokens_details": { "cached_tokens": count(&usage["prompt_tokens_details"]["cached_tokens"]) },
        "output_tokens": output,
        "output_tokens_details": {
            "reasoning_tokens": count(&usage["completion_tokens_details"]["reasoning_tokens"]),
        },
        "total_tokens": input.saturating_add(output),
    })
}
