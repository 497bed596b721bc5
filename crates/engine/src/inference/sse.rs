//! Server-sent events, read from pieces of any size and written. Must never keep more than the event that is open: its
//! size is bounded by the largest answer, which the caller counts. Source: WHATWG HTML, 9.2 Server-sent events.

use bytes::Bytes;
use serde_json::Value;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SseEvent {
    /// Its `event` field.
    pub(crate) name: Option<String>,
    /// Its `data` lines, joined by line feeds.
    pub(crate) data: String,
}

/// Splits a byte stream into events.
#[derive(Debug, Default)]
pub(crate) struct SseParser {
    line: Vec<u8>,
    after_cr: bool,
    name: Option<String>,
    data: Option<String>,
}

impl SseParser {
    /// Takes the next piece and appends the events that it completes.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<SseEvent>) {
        for &byte in bytes {
            // A line ends with LF, CR or CR LF; the last must not count twice, also when a piece ends between the two.
            let second_half = std::mem::replace(&mut self.after_cr, byte == b'\r') && byte == b'\n';
            match byte {
                b'\n' if second_half => {}
                b'\n' | b'\r' => self.end_line(out),
                other => self.line.push(other),
            }
        }
    }

    /// The event that was open when the stream ended. The specification drops it; servers that leave out the last empty
    /// line after `[DONE]` exist, so it counts here when it has data.
    pub(super) fn finish(&mut self) -> Option<SseEvent> {
        let mut out = Vec::new();
        if !self.line.is_empty() {
            self.end_line(&mut out);
        }
        self.end_line(&mut out);
        out.pop()
    }

    fn end_line(&mut self, out: &mut Vec<SseEvent>) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let name = self.name.take();
            if let Some(data) = self.data.take() {
                out.push(SseEvent { name, data });
            }
            return;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // Comments have no field name; `id` and `retry` mean nothing to a model's answer.
            _ => {}
        }
    }
}

/// `data: …` of a JSON document.
pub(super) fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// `event: …` and `data: …` of a JSON document.
pub(super) fn named(name: &str, value: &Value) -> String {
    format!("event: {name}\ndata: {value}\n\n")
}

/// The end mark of OpenAI's streams.
pub(super) const DONE: &str = "data: [DONE]\n\n";

/// An error inside a stream, in the shape of a wire format. The empty line first ends an event that was cut open.
pub(super) fn error(api: super::Api, body: &Value) -> Bytes {
    Bytes::from(match api {
        super::Api::Anthropic | super::Api::OpenaiResponses => format!("\n\n{}", named("error", body)),
        super::Api::OpenaiChat => format!("\n\n{}", data(body)),
    })
}
