//! A Chat Completions request as a Messages request: the agent speaks OpenAI, the upstream Anthropic.

use super::{Target, Untranslatable, arguments_object, copy, part_text, required, text_of};
use serde_json::{Map, Value, json};

/// Members whose loss would change what the agent gets; the others only tune sampling, storage or billing.
const REFUSED: [(&str, &str); 4] = [
    ("functions", "use `tools`"),
    ("audio", "only text can be passed on"),
    ("prediction", "leave it out"),
    ("web_search_options", "leave it out"),
];

/// Translates a request.
///
/// # Errors
/// [`Untranslatable`] for pictures, sound, several choices, log probabilities, forced formats and malformed messages.
pub(in super::super) fn to_messages(chat: &Value, target: Target<'_>) -> Result<Value, Untranslatable> {
    refuse(chat)?;
    let mut out = Map::new();
    out.insert("model".to_owned(), json!(target.model));
    let asked = [&chat["max_completion_tokens"], &chat["max_tokens"]].into_iter().find_map(Value::as_u64);
    out.insert("max_tokens".to_owned(), json!(asked.unwrap_or_else(|| target.max_output_tokens.into())));
    let (system, messages) = conversation(&chat["messages"])?;
    if !system.is_empty() {
        out.insert("system".to_owned(), json!(system.join("\n\n")));
    }
    if messages.is_empty() {
        return Err(Untranslatable::new("`messages` holds no words for the model"));
    }
    out.insert("messages".to_owned(), Value::Array(messages));
    tools(chat, &mut out)?;
    if let Some(temperature) = chat["temperature"].as_f64() {
        // OpenAI's scale ends at 2, Anthropic's at 1.
        out.insert("temperature".to_owned(), json!(temperature.clamp(0.0, 1.0)));
    }
    copy(chat, &mut out, &["top_p", "stream"]);
    match &chat["stop"] {
        Value::Null => {}
        Value::String(stop) => {
            out.insert("stop_sequences".to_owned(), json!([stop]));
        }
        stops => {
            out.insert("stop_sequences".to_owned(), stops.clone());
        }
    }
    Ok(Value::Object(out))
}

fn refuse(chat: &Value) -> Result<(), Untranslatable> {
    for (name, instead) in REFUSED {
        if !chat[name].is_null() {
            return Err(Untranslatable::new(format!("`{name}` is not supported by this upstream: {instead}")));
        }
    }
    if chat["n"].as_u64().unwrap_or(1) != 1 {
        return Err(Untranslatable::new("`n` must be 1 for this upstream"));
    }
    if chat["logprobs"].as_bool() == Some(true) {
        return Err(Untranslatable::new("`logprobs` is not supported by this upstream"));
    }
    match chat["response_format"]["type"].as_str() {
        None | Some("text") => Ok(()),
        Some(_) => Err(Untranslatable::new(
            "`response_format` is not supported by this upstream: describe the format in words",
        )),
    }
}

/// The system's words, and the messages with neighbours of one role made one.
fn conversation(messages: &Value) -> Result<(Vec<String>, Vec<Value>), Untranslatable> {
    let list = messages.as_array().ok_or_else(|| Untranslatable::new("`messages` is not a list"))?;
    let mut system = Vec::new();
    let mut out: Vec<(&'static str, Vec<Value>)> = Vec::new();
    for message in list {
        let (role, blocks) = match required(message, "role", "a message")? {
            "system" | "developer" => {
                let text = text_of(&message["content"], "a system message")?;
                if !text.trim().is_empty() {
                    system.push(text);
                }
                continue;
            }
            "user" => ("user", text_blocks(&message["content"], "a user message")?),
            "assistant" => ("assistant", assistant(message)?),
            "tool" => ("user", vec![tool_result(message)?]),
            other => {
                let other: String = other.chars().take(40).collect();
                return Err(Untranslatable::new(format!(
                    "a message has the role {other:?}, which this upstream does not know"
                )));
            }
        };
        match out.last_mut() {
            _ if blocks.is_empty() => {}
            Some((last, open)) if *last == role => open.extend(blocks),
            _ => out.push((role, blocks)),
        }
    }
    Ok((system, out.into_iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()))
}

/// Text blocks; the upstream refuses blank ones.
fn text_blocks(content: &Value, whose: &str) -> Result<Vec<Value>, Untranslatable> {
    let texts: Vec<&str> = match content {
        Value::Null => Vec::new(),
        Value::String(text) => vec![text],
        Value::Array(parts) => parts.iter().map(|part| part_text(part, whose)).collect::<Result<_, _>>()?,
        _ => return Err(Untranslatable::new(format!("the content of {whose} is neither text nor a list of parts"))),
    };
    let blocks = texts.into_iter().filter(|text| !text.trim().is_empty());
    Ok(blocks.map(|text| json!({ "type": "text", "text": text })).collect())
}

fn assistant(message: &Value) -> Result<Vec<Value>, Untranslatable> {
    let mut blocks = text_blocks(&message["content"], "an assistant message")?;
    for call in message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let function = &call["function"];
        blocks.push(json!({
            "type": "tool_use",
            "id": required(call, "id", "a tool call")?,
            "name": required(function, "name", "a tool call")?,
            "input": arguments_object(function["arguments"].as_str().unwrap_or_default()),
        }));
    }
    Ok(blocks)
}

fn tool_result(message: &Value) -> Result<Value, Untranslatable> {
    Ok(json!({
        "type": "tool_result",
        "tool_use_id": required(message, "tool_call_id", "a tool message")?,
        "content": text_of(&message["content"], "a tool message")?,
    }))
}

fn tools(chat: &Value, out: &mut Map<String, Value>) -> Result<(), Untranslatable> {
    let list = chat["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        return Ok(());
    }
    let tools: Result<Vec<Value>, Untranslatable> = list.iter().map(tool).collect();
    out.insert("tools".to_owned(), Value::Array(tools?));
    let mut choice = match &chat["tool_choice"] {
        Value::Null => json!({ "type": "auto" }),
        Value::String(word) => match word.as_str() {
            "auto" => json!({ "type": "auto" }),
            "none" => json!({ "type": "none" }),
            "required" => json!({ "type": "any" }),
            _ => return Err(Untranslatable::new("`tool_choice` is not auto, none, required or a function")),
        },
        object => json!({ "type": "tool", "name": required(&object["function"], "name", "`tool_choice`")? }),
    };
    if chat["parallel_tool_calls"].as_bool() == Some(false) && choice["type"] != "none" {
        choice["disable_parallel_tool_use"] = json!(true);
    }
    out.insert("tool_choice".to_owned(), choice);
    Ok(())
}

fn tool(tool: &Value) -> Result<Value, Untranslatable> {
    let function = &tool["function"];
    if tool["type"].as_str() != Some("function") {
        return Err(Untranslatable::new("a tool is not of type \"function\"; this upstream gets only functions"));
    }
    let mut out = Map::new();
    out.insert("name".to_owned(), json!(required(function, "name", "a tool")?));
    copy(function, &mut out, &["description"]);
    let schema = match &function["parameters"] {
        Value::Null => json!({ "type": "object", "properties": {} }),
        schema => schema.clone(),
    };
    out.insert("input_schema".to_owned(), schema);
    Ok(Value::Object(out))
}
