//! A Messages request as a Chat Completions request: the agent speaks Anthropic, the upstream OpenAI.

use super::{Target, Untranslatable, copy, part_text, required, text_of};
use serde_json::{Map, Value, json};

/// Translates a request.
///
/// # Errors
/// [`Untranslatable`] for pictures, documents, the provider's own tools and malformed messages.
pub(in super::super) fn to_chat(request: &Value, target: Target<'_>) -> Result<Value, Untranslatable> {
    let mut out = Map::new();
    out.insert("model".to_owned(), json!(target.model));
    let mut messages = Vec::new();
    let system = text_of(&request["system"], "the system prompt")?;
    if !system.trim().is_empty() {
        messages.push(json!({ "role": "system", "content": system }));
    }
    let list = request["messages"].as_array().ok_or_else(|| Untranslatable::new("`messages` is not a list"))?;
    for message in list {
        match required(message, "role", "a message")? {
            "user" => user(&message["content"], &mut messages)?,
            "assistant" => assistant(&message["content"], &mut messages)?,
            "system" => {
                let text = text_of(&message["content"], "a system message")?;
                messages.push(json!({ "role": "system", "content": text }));
            }
            other => {
                let other: String = other.chars().take(40).collect();
                return Err(Untranslatable::new(format!(
                    "a message has the role {other:?}, which this upstream does not know"
                )));
            }
        }
    }
    out.insert("messages".to_owned(), Value::Array(messages));
    tools(request, &mut out)?;
    copy(request, &mut out, &["max_tokens", "temperature", "top_p", "stream"]);
    if let Some(stops) = request["stop_sequences"].as_array().filter(|stops| !stops.is_empty()) {
        out.insert("stop".to_owned(), json!(stops));
    }
    if request["stream"].as_bool() == Some(true) {
        out.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    }
    Ok(Value::Object(out))
}

/// A user's turn: results of tools first, because they must follow the calls at once, then the words.
fn user(content: &Value, messages: &mut Vec<Value>) -> Result<(), Untranslatable> {
    let mut words: Vec<&str> = Vec::new();
    match content {
        Value::String(text) => words.push(text),
        Value::Array(blocks) => {
            for block in blocks {
                match block["type"].as_str() {
                    Some("tool_result") => messages.push(tool_result(block)?),
                    _ => words.push(part_text(block, "a user message")?),
                }
            }
        }
        _ => return Err(Untranslatable::new("the content of a user message is neither text nor a list of blocks")),
    }
    words.retain(|text| !text.trim().is_empty());
    if !words.is_empty() {
        messages.push(json!({ "role": "user", "content": words.join("\n") }));
    }
    Ok(())
}

fn tool_result(block: &Value) -> Result<Value, Untranslatable> {
    let text = text_of(&block["content"], "a tool's result")?;
    // Chat Completions has no mark for a tool that failed; the model must still learn it.
    let text = if block["is_error"].as_bool() == Some(true) { format!("The tool failed: {text}") } else { text };
    Ok(json!({
        "role": "tool",
        "tool_call_id": required(block, "tool_use_id", "a tool's result")?,
        "content": text,
    }))
}

fn assistant(content: &Value, messages: &mut Vec<Value>) -> Result<(), Untranslatable> {
    let mut words: Vec<&str> = Vec::new();
    let mut calls = Vec::new();
    match content {
        Value::String(text) => words.push(text),
        Value::Array(blocks) => {
            for block in blocks {
                match block["type"].as_str() {
                    Some("tool_use") => calls.push(json!({
                        "id": required(block, "id", "a tool call")?,
                        "type": "function",
                        "function": {
                            "name": required(block, "name", "a tool call")?,
                            "arguments": match &block["input"] {
                                Value::Null => "{}".to_owned(),
                                input => input.to_string(),
                            },
                        },
                    })),
                    // Thoughts are signed for the provider that wrote them and mean nothing to another.
                    Some("thinking" | "redacted_thinking") => {}
                    _ => words.push(part_text(block, "an assistant message")?),
                }
            }
        }
        _ => {
            return Err(Untranslatable::new(
                "the content of an assistant message is neither text nor a list of blocks",
            ));
        }
    }
    words.retain(|text| !text.is_empty());
    let mut message = Map::new();
    message.insert("role".to_owned(), json!("assistant"));
    let text = if words.is_empty() { Value::Null } else { json!(words.join("\n")) };
    if text.is_null() && calls.is_empty() {
        return Ok(());
    }
    message.insert("content".to_owned(), text);
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    messages.push(Value::Object(message));
    Ok(())
}

fn tools(request: &Value, out: &mut Map<String, Value>) -> Result<(), Untranslatable> {
    let list = request["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        return Ok(());
    }
    let tools: Result<Vec<Value>, Untranslatable> = list.iter().map(tool).collect();
    out.insert("tools".to_owned(), Value::Array(tools?));
    let choice = &request["tool_choice"];
    let word = match choice["type"].as_str() {
        None => Value::Null,
        Some("auto") => json!("auto"),
        Some("any") => json!("required"),
        Some("none") => json!("none"),
        Some("tool") => {
            json!({ "type": "function", "function": { "name": required(choice, "name", "`tool_choice`")? } })
        }
        Some(_) => return Err(Untranslatable::new("`tool_choice` is not auto, any, none or a tool")),
    };
    if !word.is_null() {
        out.insert("tool_choice".to_owned(), word);
    }
    if choice["disable_parallel_tool_use"].as_bool() == Some(true) {
        out.insert("parallel_tool_calls".to_owned(), json!(false));
    }
    Ok(())
}

fn tool(tool: &Value) -> Result<Value, Untranslatable> {
    match tool["type"].as_str() {
        None | Some("custom") => {}
        Some(other) => {
            let other: String = other.chars().take(60).collect();
            return Err(Untranslatable::new(format!(
                "the tool type {other:?} is the provider's own; this upstream does not have it"
            )));
        }
    }
    let mut function = Map::new();
    function.insert("name".to_owned(), json!(required(tool, "name", "a tool")?));
    copy(tool, &mut function, &["description"]);
    let schema = match &tool["input_schema"] {
        Value::Null => json!({ "type": "object", "properties": {} }),
        schema => schema.clone(),
    };
    function.insert("parameters".to_owned(), schema);
    Ok(json!({ "type": "function", "function": function }))
}
