//! OpenAI Chat Completions: the request, and the answer put together from its stream. Pure; must never print or retry.

use crate::message::{Message, ToolCall};
use serde_json::{Value, json};

/// The most tokens of one answer: a small model that loops ends here.
const ANSWER_TOKENS_MAX: u32 = 1024;
/// The longest answer, and the longest arguments of one call, in bytes.
const TEXT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The most tool calls in one answer.
const CALLS_MAX: usize = 16;

/// The body of the request.
pub fn request(model: &str, system: &str, messages: &[Message], tools: &[Value]) -> Value {
    let wire: Vec<_> = std::iter::once(json!({ "role": "system", "content": system }))
        .chain(messages.iter().map(Message::to_wire))
        .collect();
    let mut body = json!({
        "model": model,
        "messages": wire,
        "stream": true,
        "stream_options": { "include_usage": true },
        "temperature": 0,
        "max_tokens": ANSWER_TOKENS_MAX,
    });
    if !tools.is_empty() {
        body["tools"] = json!(tools);
    }
    body
}

/// What one stream has said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The words.
    pub text: String,
    /// The tool calls.
    pub calls: Vec<ToolCall>,
    /// Tokens in and out, when the model told.
    pub usage: Option<(u64, u64)>,
    /// Why the model stopped; without it the stream was cut.
    pub finish: Option<String>,
}

/// What is wrong with a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadStream {
    /// Stable code, or the model's own.
    pub code: String,
    /// A sentence.
    pub message: String,
}

impl Answer {
    /// Takes in the data of one event; gives back the new words.
    ///
    /// Errors: [`BadStream`] for an error that the server reports in the stream, and for data that is no chunk.
    pub fn apply(&mut self, data: &str) -> Result<String, BadStream> {
        if data == "[DONE]" {
            // A server that ends properly but names no reason is believed.
            self.finish.get_or_insert_with(|| "stop".to_owned());
            return Ok(String::new());
        }
        let chunk: Value =
            serde_json::from_str(data).map_err(|error| bad("bad_stream", &format!("not a chunk: {error}")))?;
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            return Err(server_error(error));
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            let count = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
            self.usage = Some((count("prompt_tokens"), count("completion_tokens")));
        }
        let Some(choice) = chunk.pointer("/choices/0") else { return Ok(String::new()) };
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish = Some(reason.to_owned());
        }
        for call in choice.pointer("/delta/tool_calls").and_then(Value::as_array).into_iter().flatten() {
            self.apply_call(call)?;
        }
        let text = choice.pointer("/delta/content").and_then(Value::as_str).unwrap_or("");
        self.text.push_str(text);
        if self.text.len() > TEXT_BYTES_MAX {
            return Err(bad("answer_too_large", "the model's answer is too large"));
        }
        Ok(text.to_owned())
    }

    fn apply_call(&mut self, delta: &Value) -> Result<(), BadStream> {
        let index =
            delta.get("index").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
        if index >= CALLS_MAX {
            return Err(bad("answer_too_large", "the model wants too many tools at once"));
        }
        if self.calls.len() <= index {
            self.calls.resize(index + 1, ToolCall::default());
        }
        let Some(call) = self.calls.get_mut(index) else { return Ok(()) };
        let text = |pointer: &str| delta.pointer(pointer).and_then(Value::as_str).unwrap_or("");
        call.id.push_str(text("/id"));
        call.name.push_str(text("/function/name"));
        call.arguments.push_str(text("/function/arguments"));
        if call.arguments.len() > TEXT_BYTES_MAX || call.name.len() + call.id.len() > 1024 {
            return Err(bad("answer_too_large", "a tool call of the model is too large"));
        }
        Ok(())
    }

    /// The calls, with an id for each: some servers leave it out.
    pub fn numbered_calls(&self, turn: u32) -> Vec<ToolCall> {
        let number = |(index, call): (usize, &ToolCall)| {
            let id = if call.id.is_empty() { format!("call-{turn}-{index}") } else { call.id.clone() };
            ToolCall { id, ..call.clone() }
        };
        self.calls.iter().enumerate().map(number).collect()
    }
}

/// An error object in OpenAI's form, in a body or in a stream.
pub fn server_error(error: &Value) -> BadStream {
    let text = |name: &str| error.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let code = text("code").or_else(|| text("type")).unwrap_or("model_error");
    let message = text("message").map_or_else(|| error.to_string(), str::to_owned);
    bad(code, &message)
}

fn bad(code: &str, message: &str) -> BadStream {
    BadStream { code: code.to_owned(), message: message.chars().take(2000).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn applied(chunks: &[&str]) -> Result<Answer, BadStream> {
        let mut answer = Answer::default();
        for chunk in chunks {
            answer.apply(chunk)?;
        }
        Ok(answer)
    }

    #[test]
    fn puts_words_and_usage_together() {
        let answer = applied(&[
            r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#,
            r#"{"choices":[{"delta":{"content":"Hel"}}]}"#,
            r#"{"choices":[{"delta":{"content":"lo"},"finish_reason":"stop"}],"usage":null}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#,
            "[DONE]",
        ])
        .unwrap();
        assert_eq!(
            (answer.text.as_str(), answer.usage, answer.finish.as_deref()),
            ("Hello", Some((9, 2)), Some("stop"))
        );
    }

    #[test]
    fn puts_tool_calls_together_by_index() {
        let answer = applied(&[
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"read_file","arguments":""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"function":{"name":"list_files","arguments":"{}"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"path\""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":":\"x\"}"}}]},"finish_reason":"tool_calls"}]}"#,
        ])
        .unwrap();
        let calls = answer.numbered_calls(3);
        assert_eq!(
            calls[0],
            ToolCall { id: "a".into(), name: "read_file".into(), arguments: r#"{"path":"x"}"#.into() }
        );
        assert_eq!(calls[1], ToolCall { id: "call-3-1".into(), name: "list_files".into(), arguments: "{}".into() });
    }

    #[rstest]
    #[case::error(r#"{"error":{"message":"no budget left","type":"budget","code":null}}"#, "budget", "no budget left")]
    #[case::error_code(r#"{"error":{"message":"x","type":"t","code":"c"}}"#, "c", "x")]
    #[case::error_text(r#"{"error":"broken"}"#, "model_error", "\"broken\"")]
    #[case::too_many_calls(
        r#"{"choices":[{"delta":{"tool_calls":[{"index":4000000000}]}}]}"#,
        "answer_too_large",
        "the model wants too many tools at once"
    )]
    fn refuses(#[case] chunk: &str, #[case] code: &str, #[case] message: &str) {
        assert_eq!(applied(&[chunk]).unwrap_err(), bad(code, message));
    }

    #[rstest]
    #[case::not_json("hello")]
    #[case::cut(r#"{"choices":"#)]
    fn not_a_chunk(#[case] chunk: &str) {
        assert_eq!(applied(&[chunk]).unwrap_err().code, "bad_stream");
    }

    #[test]
    fn the_request_is_a_stream_with_usage() {
        let messages = [
            Message::User { content: "hi".into() },
            Message::Assistant {
                content: String::new(),
                tool_calls: vec![ToolCall { id: "a".into(), name: "n".into(), arguments: "{}".into() }],
            },
            Message::Tool { tool_call_id: "a".into(), content: "r".into() },
        ];
        let body = request("m", "be brief", &messages, &[json!({"type": "function"})]);
        assert_eq!(body["stream"], true);
        assert_eq!(body["stream_options"]["include_usage"], true);
        assert_eq!(body["messages"][0], json!({"role": "system", "content": "be brief"}));
        assert_eq!(body["messages"][2]["tool_calls"][0]["function"], json!({"name": "n", "arguments": "{}"}));
        assert_eq!(body["messages"][3], json!({"role": "tool", "tool_call_id": "a", "content": "r"}));
        assert_eq!(body["tools"], json!([{"type": "function"}]));
        assert!(request("m", "s", &[], &[]).get("tools").is_none());
    }
}
