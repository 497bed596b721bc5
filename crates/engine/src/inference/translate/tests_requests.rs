//! Requests, both ways.

use super::{Target, Untranslatable, chat_request, messages_request};
use rstest::rstest;
use serde_json::{Value, json};

const TARGET: Target<'static> = Target { model: "real", max_output_tokens: 77 };

fn messages(chat: Value) -> Result<Value, Untranslatable> {
    chat_request::to_messages(&chat, TARGET)
}

fn chat(messages: Value) -> Result<Value, Untranslatable> {
    messages_request::to_chat(&messages, TARGET)
}

fn say(words: &str) -> Value {
    json!([{ "role": "user", "content": words }])
}

fn function(name: &str) -> Value {
    json!({ "type": "function", "function": { "name": name, "description": "d", "parameters": { "type": "object" }, "strict": true } })
}

#[rstest]
#[case::least(
    json!({ "model": "x", "messages": say("hi") }),
    json!({ "model": "real", "max_tokens": 77, "messages": [{ "role": "user", "content": [{ "type": "text", "text": "hi" }] }] })
)]
#[case::numbers(
    json!({ "messages": say("hi"), "max_completion_tokens": 5, "max_tokens": 6, "temperature": 1.7, "top_p": 0.5,
        "stream": true, "stop": "END", "seed": 1, "presence_penalty": 0.1, "n": 1, "response_format": { "type": "text" } }),
    json!({ "model": "real", "max_tokens": 5, "messages": [{ "role": "user", "content": [{ "type": "text", "text": "hi" }] }],
        "temperature": 1.0, "top_p": 0.5, "stream": true, "stop_sequences": ["END"] })
)]
#[case::stops(
    json!({ "messages": say("hi"), "max_tokens": 6, "stop": ["a", "b"] }),
    json!({ "model": "real", "max_tokens": 6, "messages": [{ "role": "user", "content": [{ "type": "text", "text": "hi" }] }],
        "stop_sequences": ["a", "b"] })
)]
#[case::a_turn_with_tools(
    json!({ "messages": [
        { "role": "system", "content": "Be brief." },
        { "role": "developer", "content": [{ "type": "text", "text": "Use tools." }] },
        { "role": "user", "content": [{ "type": "text", "text": "list" }, { "type": "text", "text": "all" }] },
        { "role": "assistant", "content": null, "tool_calls": [
            { "id": "c1", "type": "function", "function": { "name": "ls", "arguments": "{\"p\":\"/\"}" } },
            { "id": "c2", "type": "function", "function": { "name": "pwd", "arguments": "" } } ] },
        { "role": "tool", "tool_call_id": "c1", "content": "a b" },
        { "role": "tool", "tool_call_id": "c2", "content": [{ "type": "text", "text": "/" }] },
        { "role": "user", "content": "thanks" },
        { "role": "assistant", "content": "  " } ],
        "tools": [function("ls")], "tool_choice": "required", "parallel_tool_calls": false }),
    json!({ "model": "real", "max_tokens": 77, "system": "Be brief.\n\nUse tools.", "messages": [
        { "role": "user", "content": [{ "type": "text", "text": "list" }, { "type": "text", "text": "all" }] },
        { "role": "assistant", "content": [
            { "type": "tool_use", "id": "c1", "name": "ls", "input": { "p": "/" } },
            { "type": "tool_use", "id": "c2", "name": "pwd", "input": {} } ] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "c1", "content": "a b" },
            { "type": "tool_result", "tool_use_id": "c2", "content": "/" },
            { "type": "text", "text": "thanks" } ] } ],
        "tools": [{ "name": "ls", "description": "d", "input_schema": { "type": "object" } }],
        "tool_choice": { "type": "any", "disable_parallel_tool_use": true } })
)]
#[case::bad_arguments_do_not_block_the_history(
    json!({ "messages": [{ "role": "user", "content": "x" },
        { "role": "assistant", "content": "w", "tool_calls": [{ "id": "c", "function": { "name": "f", "arguments": "{oops" } }] },
        { "role": "tool", "tool_call_id": "c", "content": "no" }] }),
    json!({ "model": "real", "max_tokens": 77, "messages": [
        { "role": "user", "content": [{ "type": "text", "text": "x" }] },
        { "role": "assistant", "content": [{ "type": "text", "text": "w" },
            { "type": "tool_use", "id": "c", "name": "f", "input": { "arguments": "{oops" } }] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "c", "content": "no" }] } ] })
)]
fn chat_becomes_messages(#[case] given: Value, #[case] expected: Value) {
    assert_eq!(messages(given).unwrap(), expected);
}

#[rstest]
#[case::auto(json!("auto"), json!({ "type": "auto" }))]
#[case::none(json!("none"), json!({ "type": "none" }))]
#[case::required(json!("required"), json!({ "type": "any" }))]
#[case::absent(Value::Null, json!({ "type": "auto" }))]
#[case::one(json!({ "type": "function", "function": { "name": "f" } }), json!({ "type": "tool", "name": "f" }))]
fn a_chat_tool_choice_is_kept(#[case] given: Value, #[case] expected: Value) {
    let out = messages(json!({ "messages": say("hi"), "tools": [function("f")], "tool_choice": given })).unwrap();
    assert_eq!(out["tool_choice"], expected);
}

#[rstest]
#[case::picture(json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "data:" } }] }] }), "image_url")]
#[case::sound(json!({ "messages": [{ "role": "user", "content": [{ "type": "input_audio" }] }] }), "input_audio")]
#[case::choices(json!({ "messages": say("x"), "n": 2 }), "`n`")]
#[case::format(json!({ "messages": say("x"), "response_format": { "type": "json_schema" } }), "response_format")]
#[case::probabilities(json!({ "messages": say("x"), "logprobs": true }), "logprobs")]
#[case::old_functions(json!({ "messages": say("x"), "functions": [] }), "functions")]
#[case::role(json!({ "messages": [{ "role": "function", "content": "x" }] }), "function")]
#[case::no_role(json!({ "messages": [{ "content": "x" }] }), "role")]
#[case::nothing(json!({ "messages": [] }), "no words")]
#[case::no_list(json!({ "messages": "x" }), "not a list")]
#[case::tool_type(json!({ "messages": say("x"), "tools": [{ "type": "custom" }] }), "function")]
#[case::choice(json!({ "messages": say("x"), "tools": [function("f")], "tool_choice": "perhaps" }), "tool_choice")]
#[case::orphan(json!({ "messages": [{ "role": "tool", "content": "x" }] }), "tool_call_id")]
fn a_chat_request_is_refused(#[case] given: Value, #[case] says: &str) {
    let Untranslatable(why) = messages(given).unwrap_err();
    assert!(why.contains(says), "{why}");
}

#[rstest]
#[case::least(
    json!({ "model": "claude", "max_tokens": 9, "messages": say("hi") }),
    json!({ "model": "real", "max_tokens": 9, "messages": say("hi") })
)]
#[case::streamed(
    json!({ "max_tokens": 9, "messages": say("hi"), "stream": true, "temperature": 0.5, "top_p": 0.9, "top_k": 4,
        "stop_sequences": ["X"], "metadata": { "user_id": "u" }, "thinking": { "type": "enabled", "budget_tokens": 1024 },
        "system": [{ "type": "text", "text": "A", "cache_control": { "type": "ephemeral" } }, { "type": "text", "text": "B" }] }),
    json!({ "model": "real", "max_tokens": 9, "messages": [{ "role": "system", "content": "A\nB" }, { "role": "user", "content": "hi" }],
        "stream": true, "stream_options": { "include_usage": true }, "temperature": 0.5, "top_p": 0.9, "stop": ["X"] })
)]
#[case::a_turn_with_tools(
    json!({ "max_tokens": 9, "messages": [
        { "role": "user", "content": [{ "type": "text", "text": "list" }] },
        { "role": "assistant", "content": [
            { "type": "thinking", "thinking": "hm", "signature": "s" },
            { "type": "text", "text": "Looking." },
            { "type": "tool_use", "id": "t1", "name": "ls", "input": { "p": "/" } },
            { "type": "tool_use", "id": "t2", "name": "pwd", "input": {} } ] },
        { "role": "user", "content": [
            { "type": "text", "text": "and?" },
            { "type": "tool_result", "tool_use_id": "t1", "content": [{ "type": "text", "text": "a b" }] },
            { "type": "tool_result", "tool_use_id": "t2", "content": "denied", "is_error": true } ] } ],
        "tools": [{ "name": "ls", "description": "d", "input_schema": { "type": "object" } }, { "type": "custom", "name": "pwd" }],
        "tool_choice": { "type": "any", "disable_parallel_tool_use": true } }),
    json!({ "model": "real", "max_tokens": 9, "messages": [
        { "role": "user", "content": "list" },
        { "role": "assistant", "content": "Looking.", "tool_calls": [
            { "id": "t1", "type": "function", "function": { "name": "ls", "arguments": "{\"p\":\"/\"}" } },
            { "id": "t2", "type": "function", "function": { "name": "pwd", "arguments": "{}" } } ] },
        { "role": "tool", "tool_call_id": "t1", "content": "a b" },
        { "role": "tool", "tool_call_id": "t2", "content": "The tool failed: denied" },
        { "role": "user", "content": "and?" } ],
        "tools": [
            { "type": "function", "function": { "name": "ls", "description": "d", "parameters": { "type": "object" } } },
            { "type": "function", "function": { "name": "pwd", "parameters": { "type": "object", "properties": {} } } } ],
        "tool_choice": "required", "parallel_tool_calls": false })
)]
#[case::calls_without_words(
    json!({ "max_tokens": 9, "messages": [{ "role": "assistant", "content": [{ "type": "tool_use", "id": "t", "name": "f" }] },
        { "role": "assistant", "content": [] }] }),
    json!({ "model": "real", "max_tokens": 9, "messages": [{ "role": "assistant", "content": null,
        "tool_calls": [{ "id": "t", "type": "function", "function": { "name": "f", "arguments": "{}" } }] }] })
)]
fn messages_become_chat(#[case] given: Value, #[case] expected: Value) {
    assert_eq!(chat(given).unwrap(), expected);
}

#[rstest]
#[case::picture(json!({ "messages": [{ "role": "user", "content": [{ "type": "image" }] }] }), "image")]
#[case::picture_from_a_tool(json!({ "messages": [{ "role": "user", "content": [
    { "type": "tool_result", "tool_use_id": "t", "content": [{ "type": "image" }] }] }] }), "image")]
#[case::document(json!({ "messages": [{ "role": "user", "content": [{ "type": "document" }] }] }), "document")]
#[case::own_tool(json!({ "messages": say("x"), "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }), "web_search_20250305")]
#[case::role(json!({ "messages": [{ "role": "tool", "content": "x" }] }), "tool")]
#[case::no_list(json!({}), "not a list")]
#[case::choice(json!({ "messages": say("x"), "tools": [{ "name": "f" }], "tool_choice": { "type": "perhaps" } }), "tool_choice")]
fn a_messages_request_is_refused(#[case] given: Value, #[case] says: &str) {
    let Untranslatable(why) = chat(given).unwrap_err();
    assert!(why.contains(says), "{why}");
}

/// What one translator makes of a conversation, the other understands: the words and calls survive the round.
#[test]
fn a_conversation_survives_both_ways() {
    let given = json!({ "model": "real", "max_tokens": 9, "messages": [
        { "role": "system", "content": "S" },
        { "role": "user", "content": "q" },
        { "role": "assistant", "content": "w", "tool_calls": [
            { "id": "t", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } }] },
        { "role": "tool", "tool_call_id": "t", "content": "r" } ] });
    assert_eq!(chat(messages(given.clone()).unwrap()).unwrap(), given);
}
