//! By way of Chat Completions from each format to each other one: what codex sends and reads, cut at every byte.

use super::super::Api;
use super::super::sse::{SseEvent, SseParser};
use super::Target;
use super::chain::{Translator, answer, request};
use super::names::ToolNames;
use rstest::rstest;
use serde_json::{Value, json};

const TARGET: Target<'static> = Target { model: "m", max_output_tokens: 100 };

/// A second turn as codex sends it: instructions, a namespace with the tools of an MCP server, a free-form tool, a call
/// and its output.
fn codex() -> Value {
    json!({
        "model": "any", "instructions": "Be brief.", "stream": true, "store": false, "parallel_tool_calls": false,
        "tool_choice": "auto", "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k",
        "reasoning": { "effort": "medium" },
        "input": [
            { "type": "message", "role": "developer", "content": [{ "type": "input_text", "text": "rules" }] },
            { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "list" }] },
            { "type": "reasoning", "encrypted_content": "xyz", "summary": [] },
            { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "I look." }] },
            { "type": "function_call", "name": "list", "namespace": "mcp__custody", "arguments": "{\"path\":\"a\"}", "call_id": "c1" },
            { "type": "custom_tool_call", "name": "apply_patch", "input": "*** Begin", "call_id": "c2" },
            { "type": "function_call_output", "call_id": "c1", "output": "one.md" },
            { "type": "custom_tool_call_output", "call_id": "c2", "output": [{ "type": "input_text", "text": "done" }] },
        ],
        "tools": [
            { "type": "namespace", "name": "mcp__custody", "tools": [
                { "type": "function", "name": "list", "description": "lists", "parameters": { "type": "object" }, "strict": false },
            ] },
            { "type": "custom", "name": "apply_patch", "description": "patches", "format": { "type": "grammar", "syntax": "lark", "definition": "start: X" } },
        ],
    })
}

#[test]
fn what_codex_sends_becomes_a_chat() {
    let (chat, _) = request(Api::OpenaiResponses, Api::OpenaiChat, codex(), TARGET).unwrap();
    let call = |id: &str, name: &str, args: &str| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": args } });
    assert_eq!(
        chat["messages"],
        json!([
            { "role": "system", "content": "Be brief." },
            { "role": "system", "content": "rules" },
            { "role": "user", "content": "list" },
            { "role": "assistant", "content": "I look.", "tool_calls": [
                call("c1", "mcp__custody__list", "{\"path\":\"a\"}"),
                call("c2", "apply_patch", "{\"input\":\"*** Begin\"}"),
            ] },
            { "role": "tool", "tool_call_id": "c1", "content": "one.md" },
            { "role": "tool", "tool_call_id": "c2", "content": "done" },
        ])
    );
    let names: Vec<_> = chat["tools"].as_array().unwrap().iter().map(|t| t["function"]["name"].clone()).collect();
    assert_eq!(names, ["mcp__custody__list", "apply_patch"]);
    assert!(chat["tools"][1]["function"]["description"].as_str().unwrap().ends_with("start: X"));
    assert_eq!(
        (&chat["model"], &chat["stream"], &chat["stream_options"]["include_usage"]),
        (&json!("m"), &json!(true), &json!(true))
    );
    assert_eq!((&chat["tool_choice"], &chat["parallel_tool_calls"]), (&json!("auto"), &json!(false)));
}

#[test]
fn what_codex_sends_becomes_messages() {
    let (messages, _) = request(Api::OpenaiResponses, Api::Anthropic, codex(), TARGET).unwrap();
    assert_eq!(messages["system"], "Be brief.\n\nrules");
    assert_eq!(messages["messages"][1]["content"][1]["name"], "mcp__custody__list");
    assert_eq!(messages["messages"][2]["content"][0]["tool_use_id"], "c1");
    assert_eq!(messages["tools"][0]["name"], "mcp__custody__list");
    assert_eq!(messages["max_tokens"], 100);
}

#[rstest]
#[case::stored(json!({ "input": "x", "previous_response_id": "r" }), "previous_response_id")]
#[case::picture(json!({ "input": [{ "role": "user", "content": [{ "type": "input_image", "image_url": "x" }] }] }), "input_image")]
#[case::own_tool(json!({ "input": "x", "tools": [{ "type": "web_search" }] }), "web_search")]
#[case::own_item(json!({ "input": [{ "type": "web_search_call" }] }), "web_search_call")]
#[case::role(json!({ "input": [{ "role": "critic", "content": "x" }] }), "critic")]
#[case::no_input(json!({}), "input")]
#[case::two_alike(json!({ "input": "x", "tools": [
    { "type": "function", "name": "a__b" },
    { "type": "namespace", "name": "a", "tools": [{ "type": "function", "name": "b" }] },
] }), "a__b")]
#[case::a_long_name(json!({ "input": "x", "tools": [{ "type": "function", "name": "x".repeat(65) }] }), "longer")]
fn what_cannot_be_carried_over_is_refused(#[case] document: Value, #[case] says: &str) {
    let why = request(Api::OpenaiResponses, Api::OpenaiChat, document, TARGET).unwrap_err().0;
    assert!(why.contains(says), "{why}");
}

#[test]
fn a_chat_becomes_a_responses_request_and_back() {
    let chat = json!({
        "model": "any", "max_tokens": 9, "temperature": 0.5,
        "messages": [
            { "role": "system", "content": "s" }, { "role": "user", "content": "u" },
            { "role": "assistant", "content": null, "tool_calls": [{ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } }] },
            { "role": "tool", "tool_call_id": "c", "content": "r" },
        ],
        "tools": [{ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } }],
    });
    let (there, _) = request(Api::OpenaiChat, Api::OpenaiResponses, chat.clone(), TARGET).unwrap();
    assert_eq!(
        (&there["instructions"], &there["store"], &there["max_output_tokens"]),
        (&json!("s"), &json!(false), &json!(9))
    );
    let (back, _) = request(Api::OpenaiResponses, Api::OpenaiChat, there, TARGET).unwrap();
    assert_eq!(back["messages"], chat["messages"]);
    assert_eq!(back["tools"][0]["function"]["name"], "f");
}

fn parse(pieces: &[&[u8]]) -> Vec<SseEvent> {
    let mut parser = SseParser::default();
    let mut events = Vec::new();
    for piece in pieces {
        parser.push(piece, &mut events);
    }
    events.extend(parser.finish());
    events
}

/// An upstream's stream in the agent's format.
fn translated(agent: Api, upstream: Api, names: &ToolNames, pieces: &[&[u8]]) -> String {
    let mut translator = Translator::new(agent, upstream, true, "m", names.clone());
    let mut out = String::new();
    for event in parse(pieces) {
        let json: Option<Value> = serde_json::from_str(&event.data).ok();
        translator.event(&event, json.as_ref(), &mut out).unwrap();
    }
    translator.end(&mut out);
    out
}

fn documents(text: &str) -> Vec<Value> {
    parse(&[text.as_bytes()]).iter().filter_map(|event| serde_json::from_str(&event.data).ok()).collect()
}

/// Words, then a call of a tool in a namespace, then a call of a free-form tool.
const CHUNKS: &str = concat!(
    r#"data: {"id":"c9","model":"m9","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
    "\n\n",
    r#"data: {"id":"c9","choices":[{"index":0,"delta":{"content":"Grüße "}}]}"#,
    "\n\n",
    r#"data: {"id":"c9","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t1","function":{"name":"mcp__custody__list","arguments":""}}]}}]}"#,
    "\n\n",
    r#"data: {"id":"c9","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"path\""}}]}}]}"#,
    "\n\n",
    r#"data: {"id":"c9","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}}]}"#,
    "\n\n",
    r#"data: {"id":"c9","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"t2","function":{"name":"apply_patch","arguments":"{\"input\":\"*** P\"}"}}]}}]}"#,
    "\n\n",
    r#"data: {"id":"c9","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
    "\n\n",
    r#"data: {"id":"c9","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":3}}}"#,
    "\n\n",
    "data: [DONE]\n\n",
);

#[test]
fn codex_reads_its_own_names_in_whatever_pieces_the_answer_comes() {
    let (_, names) = request(Api::OpenaiResponses, Api::OpenaiChat, codex(), TARGET).unwrap();
    let whole = translated(Api::OpenaiResponses, Api::OpenaiChat, &names, &[CHUNKS.as_bytes()]);
    for cut in 0..CHUNKS.len() {
        let (a, b) = CHUNKS.as_bytes().split_at(cut);
        assert_eq!(translated(Api::OpenaiResponses, Api::OpenaiChat, &names, &[a, b]), whole, "cut at {cut}");
    }
    let events = documents(&whole);
    let numbers: Vec<_> = events.iter().map(|e| e["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let done: Vec<&Value> =
        events.iter().filter(|e| e["type"] == "response.output_item.done").map(|e| &e["item"]).collect();
    assert_eq!(done[0]["content"][0]["text"], "Grüße ");
    assert_eq!(
        (&done[1]["type"], &done[1]["namespace"], &done[1]["name"], &done[1]["call_id"], &done[1]["arguments"]),
        (&json!("function_call"), &json!("mcp__custody"), &json!("list"), &json!("t1"), &json!("{\"path\":1}"))
    );
    assert_eq!(
        (&done[2]["type"], &done[2]["name"], &done[2]["input"]),
        (&json!("custom_tool_call"), &json!("apply_patch"), &json!("*** P"))
    );
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.completed"), &json!("completed")));
    assert_eq!(last["response"]["output"].as_array().unwrap().len(), 3);
    assert_eq!(
        last["response"]["usage"],
        json!({
            "input_tokens": 7, "input_tokens_details": { "cached_tokens": 3 }, "output_tokens": 9,
            "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": 16,
        })
    );
}

/// There and back: chunks as another format's stream, and that again as chunks, say the same.
#[rstest]
#[case::responses(Api::OpenaiResponses)]
#[case::messages(Api::Anthropic)]
fn a_stream_says_the_same_there_and_back(#[case] other: Api) {
    let none = ToolNames::default();
    let there = translated(other, Api::OpenaiChat, &none, &[CHUNKS.as_bytes()]);
    let back = translated(Api::OpenaiChat, other, &none, &[there.as_bytes()]);
    let said = |text: &str| {
        let (mut words, mut calls, mut finish) = (String::new(), Vec::<(Value, String)>::new(), Value::Null);
        let mut tokens = (Value::Null, Value::Null);
        for chunk in documents(text) {
            let delta = &chunk["choices"][0]["delta"];
            words.push_str(delta["content"].as_str().unwrap_or_default());
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                let n = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
                if n == calls.len() {
                    calls.push((call["function"]["name"].clone(), String::new()));
                }
                calls[n].1.push_str(call["function"]["arguments"].as_str().unwrap_or_default());
            }
            if chunk["choices"][0]["finish_reason"].is_string() {
                finish = chunk["choices"][0]["finish_reason"].clone();
            }
            if chunk["usage"].is_object() {
                tokens = (chunk["usage"]["prompt_tokens"].clone(), chunk["usage"]["completion_tokens"].clone());
            }
        }
        (words, calls, finish, tokens)
    };
    assert_eq!(said(&back), said(CHUNKS));
}

/// By way of chunks: both sides speak something else.
#[rstest]
#[case::claude_at_responses(Api::Anthropic, Api::OpenaiResponses)]
#[case::codex_at_messages(Api::OpenaiResponses, Api::Anthropic)]
fn two_steps_say_what_two_steps_by_hand_say(#[case] agent: Api, #[case] upstream: Api) {
    let none = ToolNames::default();
    let source = translated(upstream, Api::OpenaiChat, &none, &[CHUNKS.as_bytes()]);
    let chunks = translated(Api::OpenaiChat, upstream, &none, &[source.as_bytes()]);
    let by_hand = translated(agent, Api::OpenaiChat, &none, &[chunks.as_bytes()]);
    assert_eq!(translated(agent, upstream, &none, &[source.as_bytes()]), by_hand);
    for cut in (0..source.len()).step_by(7) {
        let (a, b) = source.as_bytes().split_at(cut);
        assert_eq!(translated(agent, upstream, &none, &[a, b]), by_hand, "cut at {cut}");
    }
}

#[rstest]
#[case::stop("stop", "completed", json!(null))]
#[case::length("length", "incomplete", json!({ "reason": "max_output_tokens" }))]
#[case::filter("content_filter", "incomplete", json!({ "reason": "content_filter" }))]
fn an_end_keeps_its_meaning(#[case] finish: &str, #[case] status: &str, #[case] details: Value) {
    let chat = json!({
        "id": "c", "model": "m", "usage": { "prompt_tokens": 1, "completion_tokens": 2 },
        "choices": [{ "message": { "role": "assistant", "content": "w" }, "finish_reason": finish }],
    });
    let names = ToolNames::default();
    let there = answer(Api::OpenaiResponses, Api::OpenaiChat, &chat, &names).unwrap();
    assert_eq!((&there["status"], &there["incomplete_details"]), (&json!(status), &details));
    let back = answer(Api::OpenaiChat, Api::OpenaiResponses, &there, &names).unwrap();
    assert_eq!(back["choices"][0]["finish_reason"], finish);
    assert_eq!(back["usage"]["total_tokens"], 3);
}
