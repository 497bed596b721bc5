//! The scripted model's answers in the three wire formats, whole or streamed. Pure.
//!
//! Source: OpenAI API reference, "Chat Completions" and "Responses" streaming events; Anthropic API reference, "Streaming
//! Messages"; read 2026-11.

use super::script::{Act, Offered, Wire};
use serde_json::{Value, json};

/// Tokens that every answer counts: sent and received.
pub(super) const TOKENS: (u64, u64) = (1_234, 56);
/// The status of a refusal: one that no client tries again.
pub(super) const REFUSED_STATUS: u16 = 400;

/// The parts of an answer: each is sent by itself, and only the first before a held answer is let go.
pub(super) type Parts = Vec<String>;

/// An answer that is no refusal; `id` makes the ids in it unlike those of any other answer.
pub(super) fn answer(wire: Wire, act: &Act, stream: bool, model: &str, id: &str) -> Parts {
    let said = match act {
        Act::Aside(text) | Act::Answer(text) | Act::Refuse(text) => Said::Text(text),
        Act::Call { tool, args } => Said::Call(tool, args),
    };
    match (wire, stream) {
        (Wire::Chat, true) => chat_stream(&said, model, id),
        (Wire::Chat, false) => vec![chat(&said, model, id).to_string()],
        (Wire::Messages, true) => messages_stream(&said, model, id),
        (Wire::Messages, false) => vec![message(&said, model, id).to_string()],
        (Wire::Responses, true) => responses_stream(&said, model, id),
        (Wire::Responses, false) => vec![response(&said, model, id).to_string()],
    }
}

/// A refusal's body.
pub(super) fn refusal(wire: Wire, words: &str) -> Value {
    let kind = "invalid_request_error";
    match wire {
        Wire::Messages => json!({ "type": "error", "error": { "type": kind, "message": words } }),
        Wire::Chat | Wire::Responses => {
            json!({ "error": { "message": words, "type": kind, "code": "self_test", "param": null } })
        }
    }
}

enum Said<'a> {
    Text(&'a str),
    Call(&'a Offered, &'a Value),
}

/// Two halves of a text, cut at a blank.
fn halves(text: &str) -> (&str, &str) {
    let half = text.len() / 2;
    let cut = text.char_indices().find(|(at, c)| *at >= half && *c == ' ').map_or(text.len(), |(at, _)| at);
    text.split_at(cut)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ').filter(|word| !word.is_empty())
}

fn usage_of_chat() -> Value {
    let (sent, received) = TOKENS;
    json!({ "prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received })
}

fn chat_stream(said: &Said<'_>, model: &str, id: &str) -> Parts {
    let chunk = |choices: Value| json!({ "id": format!("chatcmpl-{id}"), "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices });
    let line = |chunk: Value| format!("data: {chunk}\n\n");
    let delta =
        |delta: Value, finish: Value| line(chunk(json!([{ "index": 0, "delta": delta, "finish_reason": finish }])));
    let mut first = delta(json!({ "role": "assistant", "content": "" }), Value::Null);
    let mut rest = String::new();
    let finish = match said {
        Said::Text(text) => {
            let (a, b) = halves(text);
            words(a).for_each(|word| first.push_str(&delta(json!({ "content": word }), Value::Null)));
            words(b).for_each(|word| rest.push_str(&delta(json!({ "content": word }), Value::Null)));
            "stop"
        }
        Said::Call(tool, args) => {
            let function = json!({ "name": tool.name, "arguments": "" });
            let call = json!({ "index": 0, "id": format!("call_{id}"), "type": "function", "function": function });
            first.push_str(&delta(json!({ "tool_calls": [call] }), Value::Null));
            let call = json!({ "index": 0, "function": { "arguments": args.to_string() } });
            rest.push_str(&delta(json!({ "tool_calls": [call] }), Value::Null));
            "tool_calls"
        }
    };
    rest.push_str(&delta(json!({}), json!(finish)));
    let mut last = chunk(json!([]));
    last["usage"] = usage_of_chat();
    rest.push_str(&line(last));
    rest.push_str("data: [DONE]\n\n");
    vec![first, rest]
}

fn chat(said: &Said<'_>, model: &str, id: &str) -> Value {
    let (message, finish) = match said {
        Said::Text(text) => (json!({ "role": "assistant", "content": text }), "stop"),
        Said::Call(tool, args) => {
            let function = json!({ "name": tool.name, "arguments": args.to_string() });
            let call = json!({ "id": format!("call_{id}"), "type": "function", "function": function });
            (json!({ "role": "assistant", "content": null, "tool_calls": [call] }), "tool_calls")
        }
    };
    json!({
        "id": format!("chatcmpl-{id}"), "object": "chat.completion", "created": 1, "model": model,
        "choices": [{ "index": 0, "message": message, "finish_reason": finish }], "usage": usage_of_chat(),
    })
}

/// An event of the formats that name their events.
fn event(name: &str, mut body: Value) -> String {
    body["type"] = json!(name);
    format!("event: {name}\ndata: {body}\n\n")
}

fn messages_stream(said: &Said<'_>, model: &str, id: &str) -> Parts {
    let (sent, received) = TOKENS;
    let begun = json!({
        "id": format!("msg_{id}"), "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": sent, "output_tokens": 1 },
    });
    let mut first = event("message_start", json!({ "message": begun }));
    let mut rest = String::new();
    let begin = |block: Value| event("content_block_start", json!({ "index": 0, "content_block": block }));
    let delta = |delta: Value| event("content_block_delta", json!({ "index": 0, "delta": delta }));
    let stop = match said {
        Said::Text(text) => {
            let (a, b) = halves(text);
            first.push_str(&begin(json!({ "type": "text", "text": "" })));
            words(a).for_each(|word| first.push_str(&delta(json!({ "type": "text_delta", "text": word }))));
            words(b).for_each(|word| rest.push_str(&delta(json!({ "type": "text_delta", "text": word }))));
            "end_turn"
        }
        Said::Call(tool, args) => {
            let block = json!({ "type": "tool_use", "id": format!("toolu_{id}"), "name": tool.name, "input": {} });
            first.push_str(&begin(block));
            rest.push_str(&delta(json!({ "type": "input_json_delta", "partial_json": args.to_string() })));
            "tool_use"
        }
    };
    rest.push_str(&event("content_block_stop", json!({ "index": 0 })));
    let end = json!({
        "delta": { "stop_reason": stop, "stop_sequence": null },
        "usage": { "input_tokens": sent, "output_tokens": received },
    });
    rest.push_str(&event("message_delta", end));
    rest.push_str(&event("message_stop", json!({})));
    vec![first, rest]
}

fn message(said: &Said<'_>, model: &str, id: &str) -> Value {
    let (sent, received) = TOKENS;
    let (block, stop) = match said {
        Said::Text(text) => (json!({ "type": "text", "text": text }), "end_turn"),
        Said::Call(tool, args) => {
            (json!({ "type": "tool_use", "id": format!("toolu_{id}"), "name": tool.name, "input": args }), "tool_use")
        }
    };
    json!({
        "id": format!("msg_{id}"), "type": "message", "role": "assistant", "model": model, "content": [block],
        "stop_reason": stop, "stop_sequence": null, "usage": { "input_tokens": sent, "output_tokens": received },
    })
}

/// The one item of a response.
fn item(said: &Said<'_>, id: &str) -> Value {
    match said {
        Said::Text(text) => json!({
            "id": format!("msg_{id}"), "type": "message", "role": "assistant", "status": "completed",
            "content": [{ "type": "output_text", "text": text, "annotations": [] }],
        }),
        Said::Call(tool, args) => {
            let mut item = json!({
                "id": format!("fc_{id}"), "type": "function_call", "status": "completed", "call_id": format!("call_{id}"),
                "name": tool.name, "arguments": args.to_string(),
            });
            if let Some(space) = &tool.namespace {
                item["namespace"] = json!(space);
            }
            item
        }
    }
}

fn response(said: &Said<'_>, model: &str, id: &str) -> Value {
    let (sent, received) = TOKENS;
    json!({
        "id": format!("resp_{id}"), "object": "response", "created_at": 1, "status": "completed", "model": model,
        "output": [item(said, id)], "error": null,
        "usage": {
            "input_tokens": sent, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": received, "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": sent + received,
        },
    })
}

fn responses_stream(said: &Said<'_>, model: &str, id: &str) -> Parts {
    let done = response(said, model, id);
    let whole = item(said, id);
    let mut begun = done.clone();
    begun["status"] = json!("in_progress");
    begun["output"] = json!([]);
    begun["usage"] = Value::Null;
    let mut first = event("response.created", json!({ "response": begun }));
    let mut rest = String::new();
    let mut opened = whole.clone();
    opened["status"] = json!("in_progress");
    match said {
        Said::Text(text) => {
            opened["content"] = json!([]);
            first.push_str(&event("response.output_item.added", json!({ "output_index": 0, "item": opened })));
            let place = |mut body: Value| {
                body["output_index"] = json!(0);
                body["content_index"] = json!(0);
                body["item_id"] = whole["id"].clone();
                body
            };
            let empty = json!({ "type": "output_text", "text": "", "annotations": [] });
            first.push_str(&event("response.content_part.added", place(json!({ "part": empty }))));
            let delta = |word: &str| event("response.output_text.delta", place(json!({ "delta": word })));
            let (a, b) = halves(text);
            words(a).for_each(|word| first.push_str(&delta(word)));
            words(b).for_each(|word| rest.push_str(&delta(word)));
            rest.push_str(&event("response.output_text.done", place(json!({ "text": text }))));
            rest.push_str(&event("response.content_part.done", place(json!({ "part": whole["content"][0] }))));
        }
        Said::Call(_, args) => {
            opened["arguments"] = json!("");
            first.push_str(&event("response.output_item.added", json!({ "output_index": 0, "item": opened })));
            let place = json!({ "output_index": 0, "item_id": whole["id"] });
            let mut body = place.clone();
            body["delta"] = json!(args.to_string());
            rest.push_str(&event("response.function_call_arguments.delta", body));
            let mut body = place;
            body["arguments"] = json!(args.to_string());
            rest.push_str(&event("response.function_call_arguments.done", body));
        }
    }
    rest.push_str(&event("response.output_item.done", json!({ "output_index": 0, "item": whole })));
    rest.push_str(&event("response.completed", json!({ "response": done })));
    vec![first, rest]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn tool() -> Offered {
        let body = json!({ "tools": [{ "type": "namespace", "name": "space", "tools": [
            { "type": "function", "name": "workspace_write", "parameters": { "properties": { "path": {} } } }] }],
            "input": "[self-test k first]" });
        let plan = super::super::script::Plan { key: "k".into(), word: "w".into(), text: "t".into() };
        super::super::script::read(Wire::Responses, &body, &plan).unwrap().tools.remove(0)
    }

    fn events(parts: &[String]) -> Vec<Value> {
        let all = parts.concat();
        let data = all.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    /// What a reader of the stream puts together: words, name and arguments of a call, tokens received.
    fn read(wire: Wire, events: &[Value]) -> (String, String, String, u64) {
        let all = |pointer: &str| {
            events.iter().filter_map(|e| e.pointer(pointer)?.as_str().map(str::to_owned)).collect::<String>()
        };
        let number = |pointer: &str| events.iter().rev().find_map(|e| e.pointer(pointer)?.as_u64()).unwrap();
        match wire {
            Wire::Chat => (
                all("/choices/0/delta/content"),
                all("/choices/0/delta/tool_calls/0/function/name"),
                all("/choices/0/delta/tool_calls/0/function/arguments"),
                number("/usage/completion_tokens"),
            ),
            Wire::Messages => (
                all("/delta/text"),
                all("/content_block/name"),
                all("/delta/partial_json"),
                number("/usage/output_tokens"),
            ),
            Wire::Responses => {
                let deltas = |name: &str| {
                    let of = events.iter().filter(|e| e["type"] == name);
                    of.map(|e| e["delta"].as_str().unwrap()).collect::<String>()
                };
                let done = events.iter().find(|e| e["type"] == "response.output_item.done").unwrap();
                assert_eq!(done["item"], events.last().unwrap()["response"]["output"][0]);
                (
                    deltas("response.output_text.delta"),
                    done["item"]["name"].as_str().unwrap_or_default().to_owned(),
                    deltas("response.function_call_arguments.delta"),
                    number("/response/usage/output_tokens"),
                )
            }
        }
    }

    #[rstest]
    fn a_stream_says_what_the_act_says(
        #[values(Wire::Chat, Wire::Messages, Wire::Responses)] wire: Wire,
        #[values(true, false)] call: bool,
    ) {
        let text = "one two three four";
        let args = json!({ "path": "a" });
        let act = match call {
            true => Act::Call { tool: tool(), args: args.clone() },
            false => Act::Answer(text.to_owned()),
        };
        let parts = answer(wire, &act, true, "m", "1");
        assert_eq!(parts.len(), 2);
        let expected = match call {
            true => (String::new(), "workspace_write".to_owned(), args.to_string(), TOKENS.1),
            false => (text.to_owned(), String::new(), String::new(), TOKENS.1),
        };
        assert_eq!(read(wire, &events(&parts)), expected);
        if !call {
            assert!(parts[0].contains("one") && !parts[0].contains("four"), "{parts:?}");
        }
        let whole: Value = serde_json::from_str(&answer(wire, &act, false, "m", "1").concat()).unwrap();
        let said = whole.to_string();
        assert!(if call { said.contains("workspace_write") } else { said.contains(text) }, "{said}");
    }

    #[test]
    fn a_call_in_a_group_names_the_group() {
        let act = Act::Call { tool: tool(), args: json!({}) };
        let all = events(&answer(Wire::Responses, &act, true, "m", "1"));
        let done = all.iter().find(|e| e["type"] == "response.output_item.done").unwrap();
        assert_eq!(done["item"]["namespace"], "space");
    }

    #[rstest]
    #[case::at_a_blank("one two three", ("one two", " three"))]
    #[case::one_word("one", ("one", ""))]
    #[case::nothing("", ("", ""))]
    fn a_text_is_cut_at_a_blank(#[case] text: &str, #[case] expected: (&str, &str)) {
        assert_eq!(halves(text), expected);
    }
}
