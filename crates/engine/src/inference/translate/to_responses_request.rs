//! A Chat Completions request as a Responses request: the upstream speaks Responses, the agent Chat Completions (or what
//! was made such a request before).

use super::{Target, Untranslatable, copy, required, text_of};
use serde_json::{Map, Value, json};

/// Members whose loss would change what the agent gets; the others only tune sampling, storage or billing.
const REFUSED: [(&str, &str); 4] = [
    ("functions", "use `tools`"),
    ("audio", "only text can be passed on"),
    ("prediction", "leave it out"),
    ("stop", "this format has no stop sequences"),
];

/// Translates a request.
///
/// # Errors
/// [`Untranslatable`] for pictures, sound, several choices, stop sequences and malformed messages.
pub(in super::super) fn to_responses(chat: &Value, target: Target<'_>) -> Result<Value, Untranslatable> {
    for (name, instead) in REFUSED {
        let empty = chat[name].is_null() || chat[name].as_array().is_some_and(Vec::is_empty);
        if !empty {
            return Err(Untranslatable::new(format!("`{name}` is not supported by this upstream: {instead}")));
        }
    }
    if chat["n"].as_u64().unwrap_or(1) != 1 {
        return Err(Untranslatable::new("`n` must be 1 for this upstream"));
    }
    let mut out = Map::new();
    out.insert("model".to_owned(), json!(target.model));
    // Nothing may be kept at the provider that this installation cannot remove.
    out.insert("store".to_owned(), json!(false));
    let list = chat["messages"].as_array().ok_or_else(|| Untranslatable::new("`messages` is not a list"))?;
    let mut system = Vec::new();
    let mut input = Vec::new();
    for message in list {
        match required(message, "role", "a message")? {
            "system" | "developer" => system.push(text_of(&message["content"], "a system message")?),
            "user" => input.push(words("user", "input_text", &text_of(&message["content"], "a user message")?)),
            "assistant" => {
                let text = text_of(&message["content"], "an assistant message")?;
                if !text.is_empty() {
                    input.push(words("assistant", "output_text", &text));
                }
                for call in message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default() {
                    let function = &call["function"];
                    input.push(json!({
                        "type": "function_call",
                        "call_id": required(call, "id", "a tool call")?,
                        "name": required(function, "name", "a tool call")?,
                        "arguments": function["arguments"].as_str().unwrap_or("{}"),
                    }));
                }
            }
            "tool" => input.push(json!({
                "type": "function_call_output",
                "call_id": required(message, "tool_call_id", "a tool message")?,
                "output": text_of(&message["content"], "a tool message")?,
            })),
            other => {
                let other: String = other.chars().take(40).collect();
                return Err(Untranslatable::new(format!(
                    "a message has the role {other:?}, which this upstream does not know"
                )));
            }
        }
    }
    system.retain(|text| !text.trim().is_empty());
    if !system.is_empty() {
        out.insert("instructions".to_owned(), json!(system.join("\n\n")));
    }
    out.insert("input".to_owned(), Value::Array(input));
    tools(chat, &mut out)?;
    let asked = [&chat["max_completion_tokens"], &chat["max_tokens"]].into_iter().find_map(Value::as_u64);
    if let Some(most) = asked {
        out.insert("max_output_tokens".to_owned(), json!(most));
    }
    copy(chat, &mut out, &["temperature", "top_p", "stream"]);
    let wanted = &chat["response_format"];
    match wanted["type"].as_str() {
        None | Some("text") => {}
        Some("json_schema") => {
            let mut format = wanted["json_schema"].clone();
            format["type"] = json!("json_schema");
            out.insert("text".to_owned(), json!({ "format": format }));
        }
        Some(_) => {
            out.insert("text".to_owned(), json!({ "format": { "type": "json_object" } }));
        }
    }
    Ok(Value::Object(out))
}

fn words(role: &str, kind: &str, text: &str) -> Value {
    json!({ "type": "message", "role": role, "content": [{ "type": kind, "text": text }] })
}

fn tools(chat: &Value, out: &mut Map<String, Value>) -> Result<(), Untranslatable> {
    let list = chat["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        return Ok(());
    }
    let mut tools = Vec::new();
    for tool in list {
        if tool["type"].as_str() != Some("function") {
            return Err(Untranslatable::new("a tool is not of type \"function\"; this upstream gets only functions"));
        }
        let mut function = Map::new();
        function.insert("type".to_owned(), json!("function"));
        function.insert("name".to_owned(), json!(required(&tool["function"], "name", "a tool")?));
        copy(&tool["function"], &mut function, &["description", "parameters"]);
        // The format's own default would demand schemas of a stricter kind than the agent wrote.
        function.insert("strict".to_owned(), json!(tool["function"]["strict"].as_bool() == Some(true)));
        tools.push(Value::Object(function));
    }
    out.insert("tools".to_owned(), Value::Array(tools));
    copy(chat, out, &["parallel_tool_calls"]);
    let choice = match &chat["tool_choice"] {
        Value::Null => return Ok(()),
        word @ Value::String(_) => word.clone(),
        object => {
            json!({ "type": "function", "name": required(&object["function"], "name", "`tool_choice`")? })
        }
    };
    out.insert("tool_choice".to_owned(), choice);
    Ok(())
}
