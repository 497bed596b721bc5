//! Makes every frame keep the contract's maxima, and writes it as one line. Text from an agent is data: cut, never
//! refused, and control characters travel escaped. Must never produce a line longer than the protocol's maximum.

use crate::protocol::{Frame, FrameBody, LINE_BYTES_MAX, WorkerMessage};
use serde_json::{Value, json};

/// The longest text of a log frame, in bytes. Source: box.v2.
pub const LOG_BYTES_MAX: usize = 16_384;
/// The longest text and the largest arguments, in bytes as written to JSON: below box.v2's 65536 characters, so that the
/// whole frame also fits one message on a stream, which is 65536 bytes.
const TEXT_ENCODED_MAX: usize = 60_000;
/// The longest identifier or name, in characters. Source: box.v2.
pub const NAME_CHARS_MAX: usize = 256;
/// The longest error code, in characters. Source: box.v2.
const CODE_CHARS_MAX: usize = 128;
/// The longest message of an error or detail of an exit, in bytes as written to JSON. Source: box.v2, 4096 characters.
const MESSAGE_ENCODED_MAX: usize = 4_096;
/// The most arguments of a tool call. Source: box.v2.
const ARGS_MAX: usize = 256;
/// The most tokens of a usage frame. Source: box.v2.
const TOKENS_MAX: u64 = 1_000_000_000_000;

/// The same frame with every field inside the contract. Cut text says so at its end.
pub fn bounded(body: FrameBody) -> FrameBody {
    match body {
        FrameBody::Text { text } => FrameBody::Text { text: cut(text, TEXT_ENCODED_MAX) },
        FrameBody::ToolCall { id, name, args } => {
            FrameBody::ToolCall { id: one_line(&id), name: one_line(&name), args: cut_args(args) }
        }
        FrameBody::ToolResult { id, ok, text } => {
            FrameBody::ToolResult { id: one_line(&id), ok, text: cut(text, TEXT_ENCODED_MAX) }
        }
        FrameBody::Usage { input_tokens, output_tokens } => FrameBody::Usage {
            input_tokens: input_tokens.min(TOKENS_MAX),
            output_tokens: output_tokens.min(TOKENS_MAX),
        },
        FrameBody::Session { agent_session } => FrameBody::Session { agent_session: one_line(&agent_session) },
        FrameBody::Log { stream, text } => {
            FrameBody::Log { stream, text: cut(marked(&text, LOG_BYTES_MAX, 0), TEXT_ENCODED_MAX) }
        }
        FrameBody::Error { code, message } => {
            FrameBody::Error { code: plain_code(&code), message: cut(message, MESSAGE_ENCODED_MAX) }
        }
        FrameBody::Result { text } => FrameBody::Result { text: cut(text, TEXT_ENCODED_MAX) },
        FrameBody::Exit { reason, code, signal, detail } => {
            FrameBody::Exit { reason, code, signal, detail: detail.map(|detail| cut(detail, MESSAGE_ENCODED_MAX)) }
        }
        whole @ (FrameBody::Started { .. } | FrameBody::Truncated { .. } | FrameBody::Turn { .. }) => whole,
    }
}

/// The frame as one protocol line with its line feed, bounded.
pub fn encode(seq: u64, at: u64, body: FrameBody) -> Vec<u8> {
    line(&WorkerMessage::Frame { frame: Frame { seq, at, body: bounded(body) } })
}

/// A message as one protocol line with its line feed.
pub fn line(message: &WorkerMessage) -> Vec<u8> {
    // Strings, numbers and JSON values with string keys always serialize; an empty line would be refused by the peer.
    let mut bytes = serde_json::to_vec(message).unwrap_or_default();
    bytes.push(b'\n');
    debug_assert!(bytes.len() <= LINE_BYTES_MAX);
    bytes
}

/// At most `max` bytes of text from its start, whole characters only.
pub fn prefix(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// A line or text of which `dropped` bytes are gone, within `max` bytes and marked.
pub fn marked(text: &str, max: usize, dropped: u64) -> String {
    if dropped == 0 && text.len() <= max {
        return text.to_owned();
    }
    // 64 bytes hold the marker with any number.
    let kept = prefix(text, max.saturating_sub(64));
    format!("{kept}\n[truncated: {} bytes]", dropped + (text.len() - kept.len()) as u64)
}

/// A name of one line, never empty.
fn one_line(name: &str) -> String {
    let kept: String =
        name.chars().take(NAME_CHARS_MAX).map(|c| if matches!(c, '\r' | '\n') { ' ' } else { c }).collect();
    if kept.is_empty() { "-".to_owned() } else { kept }
}

/// A code of the contract's alphabet.
fn plain_code(code: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-') { c } else { '_' };
    let kept: String = code.chars().take(CODE_CHARS_MAX - 1).map(allowed).collect();
    match kept.chars().next() {
        None => "agent_error".to_owned(),
        Some(first) if first.is_ascii_alphanumeric() => kept,
        Some(_) => format!("x{kept}"),
    }
}

fn cut(text: String, encoded_max: usize) -> String {
    // Six bytes is the longest escape, so short text needs no counting.
    if text.len() * 6 <= encoded_max {
        return text;
    }
    let mut encoded = 0;
    let mut last_that_fits = 0;
    for (index, character) in text.char_indices() {
        encoded += escaped_len(character);
        if encoded > encoded_max {
            return format!("{}\n[truncated: {} bytes]", &text[..last_that_fits], text.len() - last_that_fits);
        }
        if encoded + 64 <= encoded_max {
            last_that_fits = index + character.len_utf8();
        }
    }
    text
}

fn escaped_len(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        control if control < ' ' => 6,
        other => other.len_utf8(),
    }
}

fn cut_args(args: Value) -> Value {
    let length = args.to_string().len();
    let few = args.as_object().is_some_and(|object| object.len() <= ARGS_MAX);
    if few && length <= TEXT_ENCODED_MAX { args } else { json!({ "truncated_bytes": length }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ExitReason, LogStream};
    use rstest::rstest;

    fn big(unit: &str) -> String {
        unit.repeat(1_200_000 / unit.len())
    }

    #[rstest]
    #[case::controls("\u{1}")]
    #[case::quotes("\"")]
    #[case::ascii("x")]
    #[case::four_bytes("😀")]
    fn every_frame_fits_a_line(#[case] unit: &str) {
        let text = big(unit);
        let frames = [
            FrameBody::Text { text: text.clone() },
            FrameBody::ToolCall { id: text.clone(), name: text.clone(), args: json!({ "a": text }) },
            FrameBody::ToolResult { id: text.clone(), ok: true, text: text.clone() },
            FrameBody::Session { agent_session: text.clone() },
            FrameBody::Log { stream: LogStream::Stderr, text: text.clone() },
            FrameBody::Error { code: text.clone(), message: text.clone() },
            FrameBody::Result { text: text.clone() },
            FrameBody::Exit { reason: ExitReason::Failed, code: Some(-1), signal: None, detail: Some(text.clone()) },
        ];
        for body in frames {
            let line = encode(u64::MAX, u64::MAX, body);
            assert!(line.len() <= 65_536 - 1_024, "room for an envelope on a stream: {}", line.len());
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let text = String::from_utf8(line).unwrap();
            let is_name = text.contains("\"kind\":\"session\"");
            assert!(is_name || text.contains("truncated"), "a cut text says so");
        }
    }

    #[rstest]
    #[case::names(json!({"kind":"tool_call","id":"","name":"a\r\nb","args":{}}), json!({"kind":"tool_call","id":"-","name":"a  b","args":{}}))]
    #[case::code(json!({"kind":"error","code":"429 too many","message":""}), json!({"kind":"error","code":"429_too_many","message":""}))]
    #[case::code_start(json!({"kind":"error","code":"_é","message":""}), json!({"kind":"error","code":"x__","message":""}))]
    #[case::no_code(json!({"kind":"error","code":"","message":""}), json!({"kind":"error","code":"agent_error","message":""}))]
    #[case::tokens(json!({"kind":"usage","input_tokens":u64::MAX,"output_tokens":1}), json!({"kind":"usage","input_tokens":1_000_000_000_000_u64,"output_tokens":1}))]
    #[case::args(json!({"kind":"tool_call","id":"a","name":"b","args":[1]}), json!({"kind":"tool_call","id":"a","name":"b","args":{"truncated_bytes":3}}))]
    fn keeps_the_contract(#[case] given: Value, #[case] expected: Value) {
        let body = bounded(serde_json::from_value(given).unwrap());
        assert_eq!(serde_json::to_value(body).unwrap(), expected);
    }

    #[test]
    fn control_characters_are_data() {
        let line = encode(3, 5, FrameBody::Text { text: "\u{1b}]0;x\u{7}\r\n{\"seq\":9}".into() });
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"type\":\"frame\",\"frame\":{\"seq\":3,\"at\":5,\"kind\":\"text\",\"text\":\"\\u001b]0;x\\u0007\\r\\n{\\\"seq\\\":9}\"}}\n"
        );
    }

    #[rstest]
    #[case::short("abc", 100, 0, "abc")]
    #[case::dropped("abc", 100, 7, "abc\n[truncated: 7 bytes]")]
    #[case::long(&"a".repeat(101), 100, 0, &format!("{}\n[truncated: 65 bytes]", "a".repeat(36)))]
    #[case::never_half_a_character(&"é".repeat(60), 101, 0, &format!("{}\n[truncated: 84 bytes]", "é".repeat(18)))]
    fn marks_what_is_cut(#[case] text: &str, #[case] max: usize, #[case] dropped: u64, #[case] expected: &str) {
        assert_eq!(marked(text, max, dropped), expected);
    }
}
