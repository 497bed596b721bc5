//! A Responses request as a Chat Completions request: the agent speaks Responses, the upstream Chat Completions (or what
//! comes after it). Must never drop an item that the model would miss.

use super::names::{ToolNames, flat};
use super::{Target, Untranslatable, copy, required, text_of};
use serde_json::{Map, Value, json};

/// Members that ask for something that only the provider's own servers have.
const REFUSED: [(&str, &str); 3] = [
    ("previous_response_id", "send the conversation in `input`; nothing is kept here"),
    ("conversation", "send the conversation in `input`; nothing is kept here"),
    ("prompt", "send the words in `instructions` and `input`"),
];

/// Translates a request; also returns what its tools are called.
///
/// # Errors
/// [`Untranslatable`] for pictures, the provider's own tools, stored conversations and malformed items.
pub(in super::super) fn to_chat(request: &Value, target: Target<'_>) -> Result<(Value, ToolNames), Untranslatable> {
    for (name, instead) in REFUSED {
        if !request[name].is_null() {
            return Err(Untranslatable::new(format!("`{name}` is not supported by this upstream: {instead}")));
        }
    }
    if request["background"].as_bool() == Some(true) {
        return Err(Untranslatable::new("`background` is not supported by this upstream"));
    }
    let mut out = Map::new();
    out.insert("model".to_owned(), json!(target.model));
    let mut messages = Vec::new();
    let instructions = text_of(&request["instructions"], "`instructions`")?;
    if !instructions.trim().is_empty() {
        messages.push(json!({ "role": "system", "content": instructions }));
    }
    match &request["input"] {
        Value::String(text) => messages.push(json!({ "role": "user", "content": text })),
        Value::Array(items) => {
            for item in items {
                take(item, &mut messages)?;
            }
        }
        _ => return Err(Untranslatable::new("`input` is neither text nor a list of items")),
    }
    out.insert("messages".to_owned(), Value::Array(messages));
    let names = tools(request, &mut out)?;
    copy(request, &mut out, &["temperature", "top_p", "stream"]);
    if let Some(most) = request["max_output_tokens"].as_u64() {
        out.insert("max_tokens".to_owned(), json!(most));
    }
    format(&request["text"]["format"], &mut out)?;
    if request["stream"].as_bool() == Some(true) {
        out.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    }
    Ok((Value::Object(out), names))
}

fn take(item: &Value, messages: &mut Vec<Value>) -> Result<(), Untranslatable> {
    match item["type"].as_str() {
        None | Some("message") => {
            let role = match required(item, "role", "a message")? {
                "user" => "user",
                "assistant" => "assistant",
                "system" | "developer" => "system",
                other => {
                    let other: String = other.chars().take(40).collect();
                    return Err(Untranslatable::new(format!(
                        "a message has the role {other:?}, which this upstream does not know"
                    )));
                }
            };
            let text = text_of(&item["content"], "a message")?;
            if !text.is_empty() {
                messages.push(json!({ "role": role, "content": text }));
            }
        }
        Some("function_call") => {
            let name = flat(item["namespace"].as_str(), required(item, "name", "a function call")?);
            call(
                messages,
                required(item, "call_id", "a function call")?,
                &name,
                item["arguments"].as_str().unwrap_or("{}"),
            );
        }
        Some("custom_tool_call") => {
            let name = flat(item["namespace"].as_str(), required(item, "name", "a tool call")?);
            let input = json!({ "input": item["input"].as_str().unwrap_or_default() }).to_string();
            call(messages, required(item, "call_id", "a tool call")?, &name, &input);
        }
        Some("function_call_output" | "custom_tool_call_output") => {
            let text = match &item["output"] {
                Value::Object(_) => item["output"].to_string(),
                output => text_of(output, "a tool's output")?,
            };
            let id = required(item, "call_id", "a tool's output")?;
            messages.push(json!({ "role": "tool", "tool_call_id": id, "content": text }));
        }
        // Thoughts are encrypted for the provider that wrote them and mean nothing to another.
        Some("reasoning") => {}
        Some(other) => {
            let other: String = other.chars().take(60).collect();
            return Err(Untranslatable::new(format!(
                "an item of type {other:?} is the provider's own; this upstream does not have it"
            )));
        }
    }
    Ok(())
}

/// Calls that follow each other, or the assistant's words, belong to one message.
fn call(messages: &mut Vec<Value>, id: &str, name: &str, arguments: &str) {
    let call = json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
    if let Some(last) = messages.last_mut().filter(|last| last["role"] == "assistant") {
        match last["tool_calls"].as_array_mut() {
            Some(calls) => calls.push(call),
            None => last["tool_calls"] = json!([call]),
        }
    } else {
        messages.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] }));
    }
}

fn tools(request: &Value, out: &mut Map<String, Value>) -> Result<ToolNames, Untranslatable> {
    let mut names = ToolNames::default();
    let mut tools = Vec::new();
    for tool in request["tools"].as_array().map(Vec::as_slice).unwrap_or_default() {
        if tool["type"].as_str() == Some("namespace") {
            let space = required(tool, "name", "a namespace")?;
            for inner in tool["tools"].as_array().map(Vec::as_slice).unwrap_or_default() {
                tools.push(one(Some(space), inner, &mut names)?);
            }
        } else {
            tools.push(one(None, tool, &mut names)?);
        }
    }
    if tools.is_empty() {
        return Ok(names);
    }
    out.insert("tools".to_owned(), Value::Array(tools));
    copy(request, out, &["parallel_tool_calls"]);
    let choice = &request["tool_choice"];
    let word = match choice {
        Value::Null => Value::Null,
        Value::String(word) if matches!(word.as_str(), "auto" | "none" | "required") => choice.clone(),
        Value::Object(_) if matches!(choice["type"].as_str(), Some("function" | "custom")) => {
            let name = flat(choice["namespace"].as_str(), required(choice, "name", "`tool_choice`")?);
            json!({ "type": "function", "function": { "name": name } })
        }
        _ => return Err(Untranslatable::new("`tool_choice` is not auto, none, required or a function")),
    };
    if !word.is_null() {
        out.insert("tool_choice".to_owned(), word);
    }
    Ok(names)
}

fn one(space: Option<&str>, tool: &Value, names: &mut ToolNames) -> Result<Value, Untranslatable> {
    let mut function = Map::new();
    match tool["type"].as_str() {
        Some("function") => {
            let name = names.add(space, required(tool, "name", "a tool")?, false)?;
            function.insert("name".to_owned(), json!(name));
            copy(tool, &mut function, &["description"]);
            let schema = match &tool["parameters"] {
                Value::Null => json!({ "type": "object", "properties": {} }),
                schema => schema.clone(),
            };
            function.insert("parameters".to_owned(), schema);
            if tool["strict"].as_bool() == Some(true) {
                function.insert("strict".to_owned(), json!(true));
            }
        }
        Some("custom") => {
            let name = names.add(space, required(tool, "name", "a tool")?, true)?;
            function.insert("name".to_owned(), json!(name));
            let mut words = tool["description"].as_str().unwrap_or_default().to_owned();
            if let Some(grammar) = tool["format"]["definition"].as_str() {
                words = format!("{words}\n\nThe input follows this grammar:\n{grammar}");
            }
            function.insert("description".to_owned(), json!(words));
            let schema = json!({
                "type": "object", "required": ["input"], "additionalProperties": false,
                "properties": { "input": { "type": "string", "description": "The tool's whole input, as text." } },
            });
            function.insert("parameters".to_owned(), schema);
        }
        other => {
            let other: String = other.unwrap_or("?").chars().take(60).collect();
            return Err(Untranslatable::new(format!(
                "the tool type {other:?} is the provider's own; this upstream does not have it"
            )));
        }
    }
    Ok(json!({ "type": "function", "function": function }))
}

fn format(format: &Value, out: &mut Map<String, Value>) -> Result<(), Untranslatable> {
    match format["type"].as_str() {
        None | Some("text") => {}
        Some("json_object") => {
            out.insert("response_format".to_owned(), json!({ "type": "json_object" }));
        }
        Some("json_schema") => {
            let mut schema = Map::new();
            copy(format, &mut schema, &["name", "description", "schema", "strict"]);
            out.insert("response_format".to_owned(), json!({ "type": "json_schema", "json_schema": schema }));
        }
        Some(_) => return Err(Untranslatable::new("`text.format` is not text, json_object or json_schema")),
    }
    Ok(())
}
