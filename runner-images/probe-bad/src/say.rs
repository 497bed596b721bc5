//! The same lines as `custody-agent`, so that one stream map serves both. Must never buffer: a test waits for a line.

use crate::json::Json;
use std::io::{self, Write};

/// Writes bytes to standard output as they are. A reader that is gone ends the process: nobody would see the rest.
pub(crate) fn raw(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(3);
    }
}

fn line(fields: Vec<(&'static str, Json)>) {
    raw(format!("{}\n", Json::Object(fields)).as_bytes());
}

/// Words of the assistant.
pub(crate) fn text(text: &str) {
    line(vec![("type", "text".into()), ("text", text.into())]);
}

/// The final word.
pub(crate) fn result(text: &str) {
    line(vec![("type", "result".into()), ("text", text.into())]);
}

/// A tool call, without any arguments.
pub(crate) fn tool_call(id: &str, name: &str) {
    line(vec![
        ("type", "tool_call".into()),
        ("id", id.into()),
        ("name", name.into()),
        ("args", Json::Object(Vec::new())),
    ]);
}

/// A failure.
pub(crate) fn error(code: &str, message: &str) {
    line(vec![("type", "error".into()), ("code", code.into()), ("message", message.into())]);
}
