//! What an upstream's answers hold. Must never hand on a field that is not of the protocol.

use super::Came;
use super::link::Failed;
use custody_domain::tool::{DESCRIPTION_BYTES_MAX, Definition, SCHEMA_BYTES_MAX, TOOLS_MAX};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The most parts of one result.
const PARTS_MAX: usize = 256;

/// The result in a message that answers.
///
/// # Errors
/// The server says that it went wrong.
pub(super) fn of_message(mut message: Value) -> Result<Value, Failed> {
    match message["error"]["code"].as_i64() {
        Some(code) => {
            let said = message["error"]["message"].as_str().unwrap_or_default();
            Err(Failed::Rpc(code, said.chars().take(2_000).collect()))
        }
        None => Ok(message["result"].take()),
    }
}

/// The result of a call, as the agent gets it: its content and nothing else.
pub(super) fn of_result(result: &Value, bytes_max: usize) -> Came {
    let odd = |why: &str| Came::Unknown { code: "UPSTREAM_ANSWER_INVALID", detail: format!("its answer {why}") };
    // Since 2026-07-28 an answer may be a question. Nobody knows what was done before it was asked.
    if !result["resultType"].is_null() && result["resultType"] != "complete" {
        return odd("asks for more, and nothing here answers a tool's questions");
    }
    let Some(content) = result["content"].as_array() else { return odd("has no content") };
    let known =
        |part: &Value| matches!(part["type"].as_str(), Some("text" | "image" | "audio" | "resource" | "resource_link"));
    if content.len() > PARTS_MAX || !content.iter().all(known) {
        return odd("holds something that is not of the protocol");
    }
    let is_error = result["isError"].as_bool().unwrap_or(false);
    let mut clean = json!({ "content": content, "isError": is_error });
    if result["structuredContent"].is_object() {
        clean["structuredContent"] = result["structuredContent"].clone();
    }
    if clean.to_string().len() > bytes_max {
        return Came::Unknown {
            code: "RESULT_TOO_LARGE",
            detail: format!("its answer is larger than {bytes_max} bytes"),
        };
    }
    if !is_error {
        return Came::Done(clean);
    }
    let texts: Vec<&str> = content.iter().filter_map(|part| part["text"].as_str()).collect();
    Came::Failed { code: "TOOL_FAILED", detail: texts.join("\n") }
}

/// Adds a page of a list to what was found.
///
/// # Errors
/// A sentence: what the server says is not of the protocol, or is too much.
pub(super) fn take_definitions(page: &Value, found: &mut BTreeMap<String, Definition>) -> Result<(), String> {
    let tools = page["tools"].as_array().ok_or("its list of tools is none")?;
    for tool in tools {
        let name = tool["name"].as_str().ok_or("a tool has no name")?;
        let input_schema = tool["inputSchema"].as_object().ok_or("a tool has no schema of its arguments")?;
        let description = tool["description"].as_str().unwrap_or_default();
        // One that is too long cannot be offered; it must not keep the others from being so.
        if name.len() > 128 || description.len() > DESCRIPTION_BYTES_MAX || tool.to_string().len() > SCHEMA_BYTES_MAX {
            continue;
        }
        let definition = Definition {
            name: name.to_owned(),
            description: description.to_owned(),
            input_schema: input_schema.clone(),
        };
        if found.insert(name.to_owned(), definition).is_some() {
            return Err(format!("tool {name:?} stands twice in its list"));
        }
        if found.len() > TOOLS_MAX {
            return Err(format!("it has more than {TOOLS_MAX} tools"));
        }
    }
    Ok(())
}
