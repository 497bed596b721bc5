//! Between the wire formats of OpenAI Chat Completions, OpenAI Responses and Anthropic Messages: pure functions over
//! documents, and state machines over stream events. Chat Completions stands in the middle: what is not spoken on one
//! side goes by way of it. Must never do input or output, and must refuse what it cannot carry over rather than
//! drop it, unless it only tunes how words are picked.
//!
//! Sources: OpenAI API reference, "Chat" and "Responses"; Anthropic API reference, "Messages" and "Streaming Messages"; both 2025.

pub(super) mod chain;
pub(super) mod chat_answer;
pub(super) mod chat_request;
pub(super) mod chat_stream;
pub(super) mod messages_answer;
pub(super) mod messages_request;
pub(super) mod messages_stream;
pub(super) mod names;
pub(super) mod responses_answer;
pub(super) mod responses_request;
pub(super) mod responses_stream;
pub(super) mod to_responses_answer;
pub(super) mod to_responses_request;
pub(super) mod to_responses_stream;

use serde_json::{Map, Value, json};

/// Why a request cannot be carried over: a sentence for the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Untranslatable(pub(super) String);

impl Untranslatable {
    fn new(why: impl Into<String>) -> Untranslatable {
        Untranslatable(why.into())
    }
}

/// What a request says besides its messages and that both formats mean alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    /// The model to ask for.
    pub(super) model: &'a str,
    /// Output tokens when the agent named none and the format demands a number.
    pub(super) max_output_tokens: u32,
}

/// Why a model stopped: (OpenAI's word, Anthropic's word). The first row that fits wins in both directions.
const STOPS: [(&str, &str); 8] = [
    ("stop", "end_turn"),
    ("length", "max_tokens"),
    ("tool_calls", "tool_use"),
    ("content_filter", "refusal"),
    ("stop", "stop_sequence"),
    ("stop", "pause_turn"),
    ("length", "model_context_window_exceeded"),
    ("function_call", "tool_use"),
];

/// OpenAI's word for Anthropic's; a word that is not known is an ordinary end.
fn finish_reason(stop_reason: &str) -> &'static str {
    STOPS.iter().find(|(_, theirs)| *theirs == stop_reason).map_or("stop", |(ours, _)| ours)
}

/// Anthropic's word for OpenAI's. Some servers say `stop` after tool calls, so the calls decide.
fn stop_reason(finish_reason: &str, has_calls: bool) -> &'static str {
    let word = STOPS.iter().find(|(theirs, _)| *theirs == finish_reason).map_or("end_turn", |(_, ours)| ours);
    if has_calls && word == "end_turn" { "tool_use" } else { word }
}

/// The text of a `content` that is a string or an array of text parts; several parts are joined by line feeds.
fn text_of(content: &Value, whose: &str) -> Result<String, Untranslatable> {
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let texts: Result<Vec<&str>, Untranslatable> = parts.iter().map(|part| part_text(part, whose)).collect();
            Ok(texts?.join("\n"))
        }
        _ => Err(Untranslatable::new(format!("the content of {whose} is neither text nor a list of parts"))),
    }
}

/// The text of one part.
fn part_text<'a>(part: &'a Value, whose: &str) -> Result<&'a str, Untranslatable> {
    let kind = part["type"].as_str().unwrap_or("?");
    let text = match kind {
        "text" | "input_text" | "output_text" => part["text"].as_str(),
        "refusal" => part["refusal"].as_str(),
        _ => None,
    };
    text.ok_or_else(|| {
        let kind: String = kind.chars().take(40).collect();
        Untranslatable::new(format!(
            "{whose} holds a part of type {kind:?}; only text can be passed on to this upstream, whose wire format differs from the agent's"
        ))
    })
}

/// A tool's arguments as an object. A model may have written something else; an agent that repeats it in its history
/// must not be stuck with a request that can never succeed, so the text is kept under one name.
fn arguments_object(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(object @ Value::Object(_)) => object,
        _ if text.trim().is_empty() => json!({}),
        _ => json!({ "arguments": text }),
    }
}

/// A required text member.
fn required<'a>(holder: &'a Value, name: &str, whose: &str) -> Result<&'a str, Untranslatable> {
    holder[name].as_str().ok_or_else(|| Untranslatable::new(format!("{whose} has no {name}")))
}

/// Copies members that mean the same on both sides.
fn copy(from: &Value, to: &mut Map<String, Value>, names: &[&str]) {
    for name in names {
        if !from[*name].is_null() {
            to.insert((*name).to_owned(), from[*name].clone());
        }
    }
}

#[cfg(test)]
mod tests_answers;
#[cfg(test)]
mod tests_chain;
#[cfg(test)]
mod tests_requests;
#[cfg(test)]
mod tests_streams;
