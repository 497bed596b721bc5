//! Streams, both ways, cut at every byte.

use super::super::sse::{SseEvent, SseParser};
use super::chat_stream::{ChatToMessages, Unfollowable};
use super::messages_stream::MessagesToChat;
use rstest::rstest;
use serde_json::{Value, json};

const MESSAGE_WITH_TOOLS: &str = concat!(
    "event: message_start\r\n",
    r#"data: {"type":"message_start","message":{"id":"msg_1","model":"m","usage":{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}}"#,
    "\r\n\r\n: a comment\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n",
    "event: content_block_start\n",
    r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    "\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Grüße "}}"#,
    "\n\n",
    r#"data: {"type":"content_block_stop","index":0}"#,
    "\n\n",
    r#"data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"ls","input":{}}}"#,
    "\n\n",
    r#"data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"p\":"}}"#,
    "\n\n",
    r#"data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
    "\n\n",
    r#"data: {"type":"content_block_stop","index":1}"#,
    "\n\n",
    r#"data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t2","name":"pwd","input":{}}}"#,
    "\n\n",
    r#"data: {"type":"content_block_stop","index":2}"#,
    "\n\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}"#,
    "\n\n",
    r#"data: {"type":"message_stop"}"#,
    "\n\n",
);

const CHUNKS_WITH_TOOLS: &str = concat!(
    r#"data: {"id":"chat1","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
    "\n\n",
    r#"data: {"id":"chat1","choices":[{"index":0,"delta":{"content":"Grüße "}}]}"#,
    "\r\r: keepalive\n\n",
    r#"data: {"id":"chat1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"ls","arguments":""}}]}}]}"#,
    "\n\n",
    r#"data: {"id":"chat1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"p\":"}}]}}]}"#,
    "\n\n",
    r#"data: {"id":"chat1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}}]}"#,
    "\n\n",
    r#"data: {"id":"chat1","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"c2","type":"function","function":{"name":"pwd","arguments":"{}"}}]}}]}"#,
    "\n\n",
    r#"data: {"id":"chat1","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
    "\n\n",
    r#"data: {"id":"chat1","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9}}"#,
    "\n\ndata: [DONE]\n\n",
);

fn parse(pieces: &[&[u8]]) -> Vec<SseEvent> {
    let mut parser = SseParser::default();
    let mut events = Vec::new();
    for piece in pieces {
        parser.push(piece, &mut events);
    }
    events.extend(parser.finish());
    events
}

fn to_chat(events: &[SseEvent], wants_usage: bool) -> String {
    let mut state = MessagesToChat::new(wants_usage, "configured");
    let mut out = String::new();
    for event in events {
        state.event(&serde_json::from_str(&event.data).unwrap(), &mut out);
    }
    out
}

fn to_messages(events: &[SseEvent]) -> Result<String, Unfollowable> {
    let mut state = ChatToMessages::new("configured");
    let mut out = String::new();
    for event in events {
        match serde_json::from_str(&event.data) {
            Ok(json) => state.chunk(&json, &mut out)?,
            Err(_) => state.end(&mut out),
        }
    }
    state.end(&mut out);
    Ok(out)
}

/// Every document of a stream, by name when it has one.
fn documents(stream: &str) -> Vec<Value> {
    parse(&[stream.as_bytes()]).into_iter().filter_map(|event| serde_json::from_str(&event.data).ok()).collect()
}

#[rstest]
#[case::messages(MESSAGE_WITH_TOOLS)]
#[case::chunks(CHUNKS_WITH_TOOLS)]
fn a_cut_at_any_byte_changes_nothing(#[case] stream: &str) {
    let bytes = stream.as_bytes();
    let whole = parse(&[bytes]);
    assert!(whole.len() >= 9);
    let chat = whole[0].data.starts_with(r#"{"id""#);
    let translated = |events: &[SseEvent]| if chat { to_messages(events).unwrap() } else { to_chat(events, true) };
    let expected = translated(&whole);
    for cut in 0..=bytes.len() {
        let events = parse(&[&bytes[..cut], &bytes[cut..]]);
        assert_eq!(events, whole, "cut at {cut}");
        assert_eq!(translated(&events), expected, "cut at {cut}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(parse(&single), whole);
}

#[rstest]
#[case::fields("event: a\nid: 7\nretry: 5\ndata: x\ndata:y\ndata\n\n", &[(Some("a"), "x\ny\n")])]
#[case::no_data("event: a\n\ndata: x\n\n", &[(None, "x")])]
#[case::byte_order_mark("\u{feff}data: x\n\n", &[(None, "x")])]
#[case::only_comments(": a\n\n:\n\n", &[])]
#[case::no_last_line("data: [DONE]", &[(None, "[DONE]")])]
#[case::no_last_empty_line("data: [DONE]\n", &[(None, "[DONE]")])]
#[case::carriage_returns("data: a\r\rdata: b\r\n\r\n", &[(None, "a"), (None, "b")])]
#[case::nothing("", &[])]
fn lines_become_events(#[case] stream: &str, #[case] expected: &[(Option<&str>, &str)]) {
    let expected: Vec<SseEvent> = expected
        .iter()
        .map(|(name, data)| SseEvent { name: name.map(str::to_owned), data: (*data).to_owned() })
        .collect();
    assert_eq!(parse(&[stream.as_bytes()]), expected);
}

#[test]
fn message_events_become_chunks() {
    let stream = to_chat(&parse(&[MESSAGE_WITH_TOOLS.as_bytes()]), true);
    let documents = documents(&stream);
    assert!(
        documents.iter().all(|d| d["id"] == "msg_1" && d["model"] == "m" && d["object"] == "chat.completion.chunk")
    );
    let deltas: Vec<Value> = documents.iter().filter_map(|d| d["choices"].get(0)).map(|c| c["delta"].clone()).collect();
    let call = |n: u32, rest: Value| json!({ "tool_calls": [{ "index": n, "function": rest }] });
    assert_eq!(
        deltas,
        [
            json!({ "role": "assistant", "content": "" }),
            json!({ "content": "Grüße " }),
            json!({ "tool_calls": [{ "index": 0, "id": "t1", "type": "function", "function": { "name": "ls", "arguments": "" } }] }),
            call(0, json!({ "arguments": "{\"p\":" })),
            call(0, json!({ "arguments": "1}" })),
            json!({ "tool_calls": [{ "index": 1, "id": "t2", "type": "function", "function": { "name": "pwd", "arguments": "" } }] }),
            call(1, json!({ "arguments": "{}" })),
            json!({}),
        ]
    );
    let finishes: Vec<&Value> =
        documents.iter().map(|d| &d["choices"][0]["finish_reason"]).filter(|f| !f.is_null()).collect();
    assert_eq!(finishes, ["tool_calls"]);
    assert_eq!(
        documents.last().unwrap()["usage"],
        json!({
            "prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16, "prompt_tokens_details": { "cached_tokens": 4 },
        })
    );
    assert!(stream.ends_with("data: [DONE]\n\n"));
}

#[test]
fn usage_is_sent_only_when_it_was_asked_for() {
    let stream = to_chat(&parse(&[MESSAGE_WITH_TOOLS.as_bytes()]), false);
    assert!(documents(&stream).iter().all(|d| d["usage"].is_null()));
}

#[test]
fn chunks_become_message_events() {
    let stream = to_messages(&parse(&[CHUNKS_WITH_TOOLS.as_bytes()])).unwrap();
    let named = parse(&[stream.as_bytes()]);
    let events = documents(&stream);
    assert!(named.iter().zip(&events).all(|(n, d)| d["type"] == n.name.clone().unwrap_or_default()));
    let usage = |input: u32, output: u32| json!({ "input_tokens": input, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": output });
    let part = |index: u32, json: &str| {
        json!({ "type": "content_block_delta", "index": index,
        "delta": { "type": "input_json_delta", "partial_json": json } })
    };
    assert_eq!(events[0]["message"]["id"], "chat1");
    assert_eq!(events[0]["message"]["model"], "m");
    assert_eq!(
        events[1..],
        [
            json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "Grüße " } }),
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "content_block_start", "index": 1, "content_block": { "type": "tool_use", "id": "c1", "name": "ls", "input": {} } }),
            part(1, "{\"p\":"),
            part(1, "1}"),
            json!({ "type": "content_block_stop", "index": 1 }),
            json!({ "type": "content_block_start", "index": 2, "content_block": { "type": "tool_use", "id": "c2", "name": "pwd", "input": {} } }),
            part(2, "{}"),
            json!({ "type": "content_block_stop", "index": 2 }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use", "stop_sequence": null }, "usage": usage(7, 9) }),
            json!({ "type": "message_stop" }),
        ]
    );
}

fn calls(list: Value) -> SseEvent {
    let data = json!({ "choices": [{ "index": 0, "delta": { "tool_calls": list } }] });
    SseEvent { name: None, data: data.to_string() }
}

/// Servers exist that give every call the index 0, or none.
#[rstest]
#[case::all_zero(json!([{ "index": 0, "id": "a", "function": { "name": "f", "arguments": "{}" } },
    { "index": 0, "id": "b", "function": { "name": "g", "arguments": "{}" } }]), &["a", "b"])]
#[case::no_index(json!([{ "id": "a", "function": { "name": "f", "arguments": "{}" } },
    { "id": "b", "function": { "name": "g", "arguments": "{}" } }]), &["a", "b"])]
#[case::no_id(json!([{ "index": 0, "function": { "name": "f", "arguments": "{}" } },
    { "index": 1, "function": { "name": "g", "arguments": "{}" } }]), &["call_msg_0_0", "call_msg_0_1"])]
#[case::id_repeated(json!([{ "index": 0, "id": "a", "function": { "name": "f", "arguments": "{" } },
    { "index": 0, "id": "a", "function": { "name": "f", "arguments": "}" } }]), &["a"])]
fn calls_are_told_apart(#[case] list: Value, #[case] ids: &[&str]) {
    let stream = to_messages(&[calls(list)]).unwrap();
    let found: Vec<String> = documents(&stream)
        .iter()
        .filter_map(|event| event["content_block"]["id"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(found, ids);
}

#[test]
fn a_call_that_comes_back_cannot_be_followed() {
    let list = json!([{ "index": 0, "id": "a", "function": { "name": "f", "arguments": "{" } },
        { "index": 1, "id": "b", "function": { "name": "g", "arguments": "{}" } },
        { "index": 0, "function": { "arguments": "}" } }]);
    assert!(to_messages(&[calls(list)]).is_err());
}

#[test]
fn an_empty_answer_is_still_a_message() {
    let types: Vec<Value> = documents(&to_messages(&[]).unwrap()).iter().map(|e| e["type"].clone()).collect();
    assert_eq!(types, ["message_start", "message_delta", "message_stop"]);
}
