//! What is the same question, and what is another one.

use super::Tape;
use super::normal::{differs, text};
use custody_contracts::events::ModelCalled;
use rstest::rstest;
use serde_json::{Value, json};

#[rstest]
#[case::words("You are an agent. Use 3 tools, not 12.", "You are an agent. Use 3 tools, not 12.")]
#[case::uuid("session 0193a2f4-77aa-7bcd-8123-0123456789ab!", "session <id>!")]
#[case::prefixed("call_6f9619ff8b86d011b42d00c04fc964ff", "<id>")]
#[case::epoch("at 1795381200000.", "at <id>.")]
#[case::iso("Today is 2026-11-22T21:00:00.123Z", "Today is <date>")]
#[case::day("Today's date: 2026-11-22.", "Today's date: <date>.")]
#[case::words_of_a_date("Thu, November 26, 2026 at 21:00", "<date>, <date> <date>, <date> at <date>")]
#[case::version("node 22.23.3 and gpt-5.1", "node 22.23.3 and gpt-5.1")]
#[case::path("/workspace/notes/2026.md", "/workspace/notes/2026.md")]
#[case::a_word_that_is_hex("deadbeef and a1b2", "deadbeef and a1b2")]
fn what_changes_by_itself_is_one_sign(#[case] given: &str, #[case] expected: &str) {
    assert_eq!(text(given), expected);
}

#[test]
fn the_first_difference_has_a_place() {
    let a = json!({ "messages": [{ "content": "a" }, { "content": "b" }], "x": 1 });
    let at = |b: Value| differs(&a, &b);
    assert_eq!(at(a.clone()), None);
    assert_eq!(
        at(json!({ "messages": [{ "content": "a" }, { "content": "c" }], "x": 1 })).as_deref(),
        Some("/messages/1/content")
    );
    assert_eq!(at(json!({ "messages": [{ "content": "a" }], "x": 1 })).as_deref(), Some("/messages/1"));
    assert_eq!(at(json!({ "messages": [], "y": 1 })).as_deref(), Some("/messages/0"));
}

fn called(n: u32) -> ModelCalled {
    let nothing = custody_contracts::canonical::digest(b"");
    serde_json::from_value(json!({
        "dispatch": "d-1", "n": n, "api": "openai-chat", "upstream": "house", "model": "m",
        "request_digest": nothing, "response_digest": nothing, "status": 200, "outcome": "succeeded",
        "input_tokens": 1, "output_tokens": 1, "duration_ms": 1,
    }))
    .unwrap()
}

fn ask(words: &str) -> Value {
    json!({ "model": "m", "messages": [{ "role": "user", "content": words }] })
}

#[test]
fn each_recorded_call_is_given_out_once_and_a_stranger_gets_none() {
    let tape = Tape::holding(vec![
        (called(1), ask("one on 2026-11-22"), b"first".to_vec()),
        (called(2), ask("one on 2026-11-23"), b"second".to_vec()),
        (called(3), ask("two"), b"third".to_vec()),
    ]);
    let take = |api: &str, words: &str| tape.take_call(api, ask(words).to_string().as_bytes()).map(|c| c.response);
    // Parallel calls may come in another order.
    assert_eq!(take("openai-chat", "two").unwrap(), b"third");
    let why = take("openai-chat", "three").unwrap_err();
    assert_eq!(why, "it differs from recorded call 1 at \"/messages/0/content\"");
    assert_eq!(take("openai-chat", "one on 2027-01-01").unwrap(), b"first");
    assert_eq!(
        take("anthropic", "one on 2027-01-01").unwrap_err(),
        "recorded call 2 speaks openai-chat, this one anthropic"
    );
    assert_eq!(take("openai-chat", "one on 2027-01-01").unwrap(), b"second");
    assert_eq!(take("openai-chat", "one on 2027-01-01").unwrap_err(), "the recording has no further model call");
}
