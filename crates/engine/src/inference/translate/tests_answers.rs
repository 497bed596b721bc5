//! Whole answers, both ways.

use super::{chat_answer, finish_reason, messages_answer, stop_reason};
use rstest::rstest;
use serde_json::{Value, json};

#[rstest]
#[case::words(
    json!([{ "type": "thinking", "thinking": "hm" }, { "type": "text", "text": "Hel" }, { "type": "text", "text": "lo" }]),
    "end_turn",
    json!({ "role": "assistant", "content": "Hello" }),
    "stop"
)]
#[case::calls(
    json!([{ "type": "tool_use", "id": "t", "name": "f", "input": { "a": 1 } }, { "type": "tool_use", "id": "u", "name": "g", "input": {} }]),
    "tool_use",
    json!({ "role": "assistant", "content": null, "tool_calls": [
        { "id": "t", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } },
        { "id": "u", "type": "function", "function": { "name": "g", "arguments": "{}" } } ] }),
    "tool_calls"
)]
#[case::nothing(json!([]), "max_tokens", json!({ "role": "assistant", "content": "" }), "length")]
fn a_message_becomes_a_completion(
    #[case] content: Value,
    #[case] stop: &str,
    #[case] message: Value,
    #[case] finish: &str,
) {
    let usage = json!({ "input_tokens": 3, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 100, "output_tokens": 7 });
    let given = json!({ "id": "msg_1", "type": "message", "model": "m", "content": content, "stop_reason": stop, "usage": usage });
    let answer = messages_answer::to_chat(&given).unwrap();
    assert_eq!(
        answer,
        json!({
            "id": "msg_1", "object": "chat.completion", "created": 0, "model": "m",
            "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
            "usage": { "prompt_tokens": 113, "completion_tokens": 7, "total_tokens": 120,
                "prompt_tokens_details": { "cached_tokens": 100 } },
        })
    );
}

#[rstest]
#[case::words(
    json!({ "role": "assistant", "content": "Hello" }), "stop",
    json!([{ "type": "text", "text": "Hello" }]), "end_turn"
)]
#[case::refusal(
    json!({ "role": "assistant", "content": null, "refusal": "No." }), "content_filter",
    json!([{ "type": "text", "text": "No." }]), "refusal"
)]
#[case::calls_though_it_says_stop(
    json!({ "content": "", "tool_calls": [
        { "id": "c", "function": { "name": "f", "arguments": "{\"a\":1}" } }, { "function": { "name": "g", "arguments": "" } }] }), "stop",
    json!([{ "type": "tool_use", "id": "c", "name": "f", "input": { "a": 1 } },
        { "type": "tool_use", "id": "call_chat1_1", "name": "g", "input": {} }]), "tool_use"
)]
fn a_completion_becomes_a_message(
    #[case] message: Value,
    #[case] finish: &str,
    #[case] content: Value,
    #[case] stop: &str,
) {
    let usage =
        json!({ "prompt_tokens": 113, "completion_tokens": 7, "prompt_tokens_details": { "cached_tokens": 100 } });
    let given = json!({ "id": "chat1", "model": "m", "choices": [{ "message": message, "finish_reason": finish }], "usage": usage });
    let answer = chat_answer::to_message(&given).unwrap();
    assert_eq!(
        answer,
        json!({
            "id": "chat1", "type": "message", "role": "assistant", "model": "m", "content": content,
            "stop_reason": stop, "stop_sequence": null,
            "usage": { "input_tokens": 13, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 100, "output_tokens": 7 },
        })
    );
}

#[rstest]
#[case::error(json!({ "error": { "message": "x" } }))]
#[case::nothing(json!({}))]
#[case::list(json!([]))]
#[case::no_choice(json!({ "choices": [] }))]
fn another_document_is_no_answer(#[case] given: Value) {
    assert_eq!(messages_answer::to_chat(&given), None);
    assert_eq!(chat_answer::to_message(&given), None);
}

#[rstest]
#[case("end_turn", "stop")]
#[case("stop_sequence", "stop")]
#[case("pause_turn", "stop")]
#[case("max_tokens", "length")]
#[case("model_context_window_exceeded", "length")]
#[case("tool_use", "tool_calls")]
#[case("refusal", "content_filter")]
#[case("something_new", "stop")]
fn anthropics_stop_is_openais_finish(#[case] stop: &str, #[case] finish: &str) {
    assert_eq!(finish_reason(stop), finish);
}

#[rstest]
#[case("stop", false, "end_turn")]
#[case("stop", true, "tool_use")]
#[case("length", true, "max_tokens")]
#[case("tool_calls", true, "tool_use")]
#[case("function_call", true, "tool_use")]
#[case("content_filter", false, "refusal")]
#[case("something_new", false, "end_turn")]
fn openais_finish_is_anthropics_stop(#[case] finish: &str, #[case] calls: bool, #[case] stop: &str) {
    assert_eq!(stop_reason(finish, calls), stop);
}
