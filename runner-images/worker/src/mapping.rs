//! Maps one line of an agent's output to a frame, by the runner's own table. Must never lose a line silently: what no
//! rule knows, and what a rule cannot read, becomes a log frame.

use crate::{
    frames::{LOG_BYTES_MAX, NAME_CHARS_MAX, marked},
    lines::Line,
    protocol::{FrameBody, LogStream, RuleFrame, StreamRule},
};
use serde_json::{Map, Value, json};

/// The frames for this line, in the order of the rules: the first rule that fits makes one, and those after it only while
/// each says `more`. None when the line is blank or a rule says `ignore`.
pub fn map_line(rules: &[StreamRule], line: &Line) -> Vec<FrameBody> {
    if line.cut == 0 && line.bytes.iter().all(u8::is_ascii_whitespace) {
        return Vec::new();
    }
    let document = if line.cut == 0 { serde_json::from_slice::<Value>(&line.bytes).ok() } else { None };
    let Some(document) = document else { return vec![log(line)] };
    let mut frames = Vec::new();
    let mut fitted = false;
    for rule in rules.iter().filter(|rule| matches(rule, &document)) {
        fitted = true;
        if rule.frame != RuleFrame::Ignore {
            // A rule that cannot read its line shows the line itself, once.
            let unread = || if frames.iter().any(is_log) { None } else { Some(log(line)) };
            frames.extend(frame(rule, &document).or_else(unread));
        }
        if !rule.more {
            break;
        }
    }
    if fitted { frames } else { vec![log(line)] }
}

fn is_log(body: &FrameBody) -> bool {
    matches!(body, FrameBody::Log { .. })
}

fn matches(rule: &StreamRule, document: &Value) -> bool {
    rule.when.iter().all(|(pointer, expected)| document.pointer(pointer) == Some(expected))
}

fn log(line: &Line) -> FrameBody {
    let text = marked(&String::from_utf8_lossy(&line.bytes), LOG_BYTES_MAX, line.cut);
    FrameBody::Log { stream: LogStream::Stdout, text }
}

/// `None` when a field without which the frame says nothing is not in the document.
fn frame(rule: &StreamRule, document: &Value) -> Option<FrameBody> {
    let field = |name: &str| {
        let found = rule.fields.get(name).and_then(|pointer| document.pointer(pointer));
        found.or_else(|| rule.values.get(name))
    };
    let text = |name: &str| field(name).and_then(as_text);
    let number = |name: &str| field(name).and_then(Value::as_u64).unwrap_or(0);
    Some(match rule.frame {
        RuleFrame::Text => FrameBody::Text { text: text("text")? },
        RuleFrame::ToolCall => FrameBody::ToolCall {
            id: text("id").unwrap_or_default(),
            name: text("name").filter(|name| !name.is_empty())?,
            args: as_object(field("args")),
        },
        RuleFrame::ToolResult => FrameBody::ToolResult {
            id: text("id").unwrap_or_default(),
            ok: field("ok").and_then(Value::as_bool).unwrap_or(true),
            text: text("text").unwrap_or_default(),
        },
        RuleFrame::Usage => {
            FrameBody::Usage { input_tokens: number("input_tokens"), output_tokens: number("output_tokens") }
        }
        RuleFrame::Session => FrameBody::Session { agent_session: text("agent_session").filter(|id| is_id(id))? },
        RuleFrame::Result => FrameBody::Result { text: text("text").unwrap_or_default() },
        RuleFrame::Error => FrameBody::Error {
            code: text("code").unwrap_or_else(|| "agent_error".to_owned()),
            message: text("message")?,
        },
        RuleFrame::Ignore => return None,
    })
}

/// A session is resumed by this text: cut or changed it would be another one.
fn is_id(id: &str) -> bool {
    !id.is_empty() && id.chars().count() <= NAME_CHARS_MAX && !id.contains(['\r', '\n'])
}

/// A string as it is, anything else but null as compact JSON.
fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Arguments are an object in box.v2; OpenAI's form is that object as a string.
fn as_object(value: Option<&Value>) -> Value {
    match value {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(object @ Value::Object(_)) => object.clone(),
        Some(Value::String(text)) => match serde_json::from_str::<Value>(text) {
            Ok(object @ Value::Object(_)) => object,
            _ => json!({ "value": text }),
        },
        Some(other) => json!({ "value": other }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn rules() -> Vec<StreamRule> {
        serde_json::from_value(json!([
            {"when": {"/type": "noise"}, "frame": "ignore"},
            {"when": {"/type": "item", "/item/kind": "words"}, "frame": "text", "fields": {"text": "/item/text"}},
            {"when": {"/type": "item"}, "frame": "tool_result", "fields": {"id": "/item/id", "ok": "/item/ok", "text": "/item/out"}},
            {"when": {"/type": "call"}, "frame": "tool_call", "fields": {"id": "/id", "name": "/name", "args": "/args"}},
            {"when": {"/type": "use"}, "frame": "usage", "fields": {"input_tokens": "/in", "output_tokens": "/out"}},
            {"when": {"/type": "sess"}, "frame": "session", "fields": {"agent_session": "/id"}},
            {"when": {"/type": "end", "/ok": true}, "frame": "result", "fields": {"text": "/text"}},
            {"when": {"/type": "end", "/code": 7}, "frame": "error", "fields": {"code": "/code", "message": "/text"}},
            {"when": {"/type": "oops"}, "frame": "error", "fields": {"message": "/text"}, "values": {"code": "turn_failed"}},
            {"when": {"/type": "both", "/bad": true}, "frame": "tool_result", "fields": {"id": "/id"}, "values": {"ok": false}},
            {"when": {"/type": "both"}, "frame": "usage", "fields": {"input_tokens": "/in"}, "more": true},
            {"when": {"/type": "both"}, "frame": "result", "values": {"text": "end"}},
            {"when": {"/type": "both"}, "frame": "result", "values": {"text": "never"}},
            {"when": {"/type": "last"}, "frame": "session", "fields": {"agent_session": "/id"}, "more": true},
            {"when": {"/type": "last"}, "frame": "ignore"}
        ]))
        .unwrap()
    }

    fn expected(value: Value) -> Vec<FrameBody> {
        match value {
            Value::Null => Vec::new(),
            Value::Array(all) => all.into_iter().map(|one| serde_json::from_value(one).unwrap()).collect(),
            one => vec![serde_json::from_value(one).unwrap()],
        }
    }

    #[rstest]
    #[case::ignore(r#"{"type":"noise"}"#, json!(null))]
    #[case::blank("  ", json!(null))]
    #[case::first_rule_wins(r#"{"type":"item","item":{"kind":"words","text":"hi"}}"#, json!({"kind":"text","text":"hi"}))]
    #[case::second_rule(r#"{"type":"item","item":{"id":"c1","ok":false,"out":"no"}}"#, json!({"kind":"tool_result","id":"c1","ok":false,"text":"no"}))]
    #[case::ok_defaults_to_true(r#"{"type":"item","item":{"out":[1]}}"#, json!({"kind":"tool_result","id":"","ok":true,"text":"[1]"}))]
    #[case::args_object(r#"{"type":"call","id":"c","name":"n","args":{"a":1}}"#, json!({"kind":"tool_call","id":"c","name":"n","args":{"a":1}}))]
    #[case::args_string(r#"{"type":"call","name":"n","args":"{\"a\":1}"}"#, json!({"kind":"tool_call","id":"","name":"n","args":{"a":1}}))]
    #[case::args_not_json(r#"{"type":"call","name":"n","args":"{"}"#, json!({"kind":"tool_call","id":"","name":"n","args":{"value":"{"}}))]
    #[case::args_absent(r#"{"type":"call","name":"n"}"#, json!({"kind":"tool_call","id":"","name":"n","args":{}}))]
    #[case::usage(r#"{"type":"use","in":3,"out":-1}"#, json!({"kind":"usage","input_tokens":3,"output_tokens":0}))]
    #[case::session(r#"{"type":"sess","id":"t-1"}"#, json!({"kind":"session","agent_session":"t-1"}))]
    #[case::boolean_when(r#"{"type":"end","ok":true,"text":"done"}"#, json!({"kind":"result","text":"done"}))]
    #[case::result_without_text(r#"{"type":"end","ok":true}"#, json!({"kind":"result","text":""}))]
    #[case::number_when(r#"{"type":"end","code":7,"text":"bad"}"#, json!({"kind":"error","code":"7","message":"bad"}))]
    #[case::error_code_constant(r#"{"type":"oops","text":"x"}"#, json!({"kind":"error","code":"turn_failed","message":"x"}))]
    #[case::two_frames(r#"{"type":"both","in":3}"#, json!([{"kind":"usage","input_tokens":3,"output_tokens":0},{"kind":"result","text":"end"}]))]
    #[case::a_constant(r#"{"type":"both","bad":true,"id":"c"}"#, json!({"kind":"tool_result","id":"c","ok":false,"text":""}))]
    #[case::one_and_nothing_more(r#"{"type":"last","id":"t"}"#, json!({"kind":"session","agent_session":"t"}))]
    #[case::an_unread_line_stays(r#"{"type":"last"}"#, json!({"kind":"log","stream":"stdout","text":"{\"type\":\"last\"}"}))]
    #[case::no_rule(r#"{"type":"new"}"#, json!({"kind":"log","stream":"stdout","text":"{\"type\":\"new\"}"}))]
    #[case::required_field_absent(r#"{"type":"sess"}"#, json!({"kind":"log","stream":"stdout","text":"{\"type\":\"sess\"}"}))]
    #[case::session_of_two_lines(r#"{"type":"sess","id":"a\nb"}"#, json!({"kind":"log","stream":"stdout","text":"{\"type\":\"sess\",\"id\":\"a\\nb\"}"}))]
    #[case::not_json("warning: x", json!({"kind":"log","stream":"stdout","text":"warning: x"}))]
    #[case::scalar_document("7", json!({"kind":"log","stream":"stdout","text":"7"}))]
    #[case::a_forged_frame(r#"{"kind":"exit","reason":"completed"}"#, json!({"kind":"log","stream":"stdout","text":"{\"kind\":\"exit\",\"reason\":\"completed\"}"}))]
    fn maps(#[case] line: &str, #[case] frame: Value) {
        assert_eq!(map_line(&rules(), &Line { bytes: line.into(), cut: 0, whole: true }), expected(frame));
    }

    #[test]
    fn a_cut_line_is_a_marked_log_even_if_its_start_is_json() {
        let line = Line { bytes: br#"{"type":"end","ok":true}"#.to_vec(), cut: 9, whole: true };
        let [FrameBody::Log { text, .. }] = &map_line(&rules(), &line)[..] else { panic!("not a log frame") };
        assert!(text.ends_with("[truncated: 9 bytes]"), "{text}");
    }

    #[test]
    fn deep_nesting_is_a_log() {
        let line = Line { bytes: "[".repeat(100_000).into_bytes(), cut: 0, whole: true };
        assert!(matches!(&map_line(&rules(), &line)[..], [FrameBody::Log { text, .. }] if text.len() <= LOG_BYTES_MAX));
    }
}
