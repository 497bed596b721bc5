//! What the agent says on standard output: one JSON object a line. Must never write anything else there; the log is on
//! standard error.

use serde::Serialize;
use serde_json::Value;
use std::io::{self, Write};

/// One line.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event<'a> {
    /// The session's id.
    Session {
        /// The id.
        id: &'a str,
    },
    /// More words of the model.
    Text {
        /// The words.
        text: &'a str,
    },
    /// The model uses a tool.
    ToolCall {
        /// The call.
        id: &'a str,
        /// The tool.
        name: &'a str,
        /// Its arguments, an object.
        args: Value,
    },
    /// The tool answered.
    ToolResult {
        /// The call.
        id: &'a str,
        /// Whether it worked.
        ok: bool,
        /// What it said.
        text: &'a str,
    },
    /// Tokens used so far in this run.
    Usage {
        /// Sent.
        input_tokens: u64,
        /// Received.
        output_tokens: u64,
    },
    /// The run failed.
    Error {
        /// Stable code.
        code: &'a str,
        /// A sentence.
        message: &'a str,
    },
    /// The final word; always the last line of a run that succeeded.
    Result {
        /// The word.
        text: &'a str,
    },
}

/// Writes one line and flushes it.
///
/// Errors: when nobody reads any more.
pub fn say(event: &Event<'_>) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// Writes one line to the log.
pub fn log(text: &str) {
    // Losing a log line must not end a run.
    let _ = writeln!(io::stderr().lock(), "custody-agent: {text}");
}
