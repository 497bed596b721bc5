//! `log.jsonl`: a slice of the ledger and the launch messages that its decisions answered, one canonical JSON document
//! a line. Reading never changes a byte: what a line stands for is exactly what was stored.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody_contracts::canonical::canonical;
use custody_contracts::ids::UnixMillis;
use custody_ledger::{Recorded, Seq, Stored};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most bytes of one log file.
pub const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The most lines of one log file.
pub const LINES_MAX: usize = 50_000;
/// The most bytes of one line: a stored message of 64 KiB, escaped, and its frame.
pub const LINE_BYTES_MAX: usize = 262_144;

/// One message of the LAUNCH stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchLine {
    /// Its sequence in LAUNCH.
    pub seq: u64,
    /// `launch.<launcher>.<verb>`.
    pub subject: String,
    /// When the server stored it.
    pub stored_at: UnixMillis,
    /// Exactly the bytes that were published.
    pub bytes: Vec<u8>,
}

/// One message of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerLine {
    /// The message.
    pub stored: Stored,
    /// When the server stored it, when that was kept.
    pub stored_at: Option<UnixMillis>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Of LEDGER.
    Ledger(LedgerLine),
    /// Of LAUNCH.
    Launch(LaunchLine),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum StreamName {
    #[serde(rename = "LAUNCH")]
    Launch,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream: Option<StreamName>,
    seq: u64,
    subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stored_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// Why a log file cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// A line is not of the format.
    #[error("line {line}: {why}")]
    BadLine {
        /// Line number, from 1.
        line: usize,
        /// How.
        why: String,
    },
    /// More lines than are read.
    #[error("more than {LINES_MAX} lines")]
    TooManyLines,
    /// Nothing in it.
    #[error("the log is empty")]
    Empty,
    /// A ledger message is not canonical JSON, so the file could not give its bytes back.
    #[error("ledger sequence {0} is not stored as canonical JSON")]
    NotCanonical(u64),
}

impl Line {
    /// The line of a text, and whether the text is canonical JSON.
    fn read(text: &str) -> Result<(Line, bool), String> {
        if text.len() > LINE_BYTES_MAX {
            return Err(format!("{} bytes are more than {LINE_BYTES_MAX}", text.len()));
        }
        let value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let is_canonical = canonical(&value) == text;
        let raw: Raw = serde_json::from_value(value).map_err(|e| e.to_string())?;
        let line = match raw.stream {
            Some(StreamName::Launch) => Line::Launch(launch(raw)?),
            None => Line::Ledger(ledger(raw)?),
        };
        Ok((line, is_canonical))
    }

    /// The text of this line, without the line feed.
    ///
    /// # Errors
    /// [`SliceError::NotCanonical`] for a ledger message whose bytes the format could not give back.
    pub fn write(&self) -> Result<String, SliceError> {
        let raw = match self {
            Line::Ledger(line) => {
                let stored = &line.stored;
                let event: Option<Value> = serde_json::from_slice(&stored.bytes).ok();
                let event = event.filter(|v| canonical(v).as_bytes() == stored.bytes);
                Raw {
                    stream: None,
                    seq: stored.seq.0,
                    subject: stored.log_subject.clone(),
                    message_id: stored.message_id.clone(),
                    stored_at: line.stored_at.map(|t| t.0),
                    event: Some(event.ok_or(SliceError::NotCanonical(stored.seq.0))?),
                    base64: None,
                }
            }
            Line::Launch(line) => return line.write(),
        };
        raw.text()
    }
}

impl Raw {
    fn text(&self) -> Result<String, SliceError> {
        let value = serde_json::to_value(self).map_err(|e| SliceError::BadLine { line: 0, why: e.to_string() })?;
        Ok(canonical(&value))
    }
}

impl LaunchLine {
    /// Anybody who may publish decides these bytes, so whatever a line could not give back, because it nests too deep
    /// or grows too long when it is escaped, stands as base 64.
    fn write(&self) -> Result<String, SliceError> {
        let raw = |event: Option<Value>, base64: Option<String>| Raw {
            stream: Some(StreamName::Launch),
            seq: self.seq,
            subject: self.subject.clone(),
            message_id: None,
            stored_at: Some(self.stored_at.0),
            event,
            base64,
        };
        if let Ok(text) = std::str::from_utf8(&self.bytes) {
            let written = raw(Some(as_event(text)), None).text()?;
            if Line::read(&written).is_ok_and(|(line, canonical)| canonical && line == Line::Launch(self.clone())) {
                return Ok(written);
            }
        }
        raw(None, Some(STANDARD.encode(&self.bytes))).text()
    }
}

/// A JSON document that canonical JSON gives back byte for byte stands as itself, everything else as its text.
fn as_event(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(value) if !value.is_string() && !value.is_null() && canonical(&value) == text => value,
        _ => Value::String(text.to_owned()),
    }
}

fn launch(raw: Raw) -> Result<LaunchLine, String> {
    if raw.message_id.is_some() {
        return Err("a LAUNCH line has no message_id".into());
    }
    let stored_at = raw.stored_at.ok_or("a LAUNCH line needs stored_at: the clock rule reads it")?;
    let bytes = match (raw.event, raw.base64) {
        (Some(Value::String(text)), None) => text.into_bytes(),
        (Some(value), None) => canonical(&value).into_bytes(),
        (None, Some(text)) => STANDARD.decode(text).map_err(|e| format!("base64: {e}"))?,
        _ => return Err("a line has exactly one of event and base64".into()),
    };
    Ok(LaunchLine { seq: raw.seq, subject: raw.subject, stored_at: UnixMillis(stored_at), bytes })
}

fn ledger(raw: Raw) -> Result<LedgerLine, String> {
    let event = match (raw.event, raw.base64) {
        (Some(event @ (Value::Object(_) | Value::Array(_))), None) => event,
        _ => return Err("a ledger line has an event, which is an object or an array of objects".into()),
    };
    let stored = Stored {
        seq: Seq(raw.seq),
        log_subject: raw.subject,
        message_id: raw.message_id,
        bytes: canonical(&event).into_bytes(),
    };
    Ok(LedgerLine { stored, stored_at: raw.stored_at.map(UnixMillis) })
}

/// One event of the slice.
#[derive(Debug, Clone)]
pub struct Event {
    /// Which line it stands on, from 0.
    pub line: usize,
    /// The whole CloudEvent as JSON.
    pub value: Value,
    /// The same, read.
    pub recorded: Recorded,
}

impl Event {
    /// Its ledger sequence.
    pub fn seq(&self) -> u64 {
        self.recorded.seq.0
    }

    /// Its CloudEvents type.
    pub fn kind(&self) -> &str {
        &self.recorded.envelope.kind
    }

    /// `/data/dispatch`, when it has one.
    pub fn dispatch(&self) -> Option<&str> {
        self.value.pointer("/data/dispatch").and_then(Value::as_str)
    }
}

/// A whole log file.
#[derive(Debug, Clone, Default)]
pub struct Slice {
    /// Its lines.
    pub lines: Vec<Line>,
    /// Every event that could be read, in log order.
    pub events: Vec<Event>,
    /// Sequence and reason of every ledger message that could not.
    pub unreadable: Vec<(u64, String)>,
    /// Numbers, from 1, of the lines that are not canonical JSON.
    pub not_canonical: Vec<usize>,
    /// The texts of the lines.
    pub texts: Vec<String>,
}

impl Slice {
    /// Reads a log file.
    ///
    /// # Errors
    /// [`SliceError`] when a line is not of the format; a message that is no good event is a finding, not an error.
    pub fn parse(text: &str) -> Result<Slice, SliceError> {
        let mut lines = Vec::new();
        let mut not_canonical = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if index >= LINES_MAX {
                return Err(SliceError::TooManyLines);
            }
            let (read, is_canonical) = Line::read(line).map_err(|why| SliceError::BadLine { line: index + 1, why })?;
            if !is_canonical {
                not_canonical.push(index + 1);
            }
            lines.push(read);
        }
        if lines.is_empty() {
            return Err(SliceError::Empty);
        }
        let mut slice = Slice::of(lines);
        slice.not_canonical = not_canonical;
        slice.texts = text.lines().map(str::to_owned).collect();
        Ok(slice)
    }

    fn of(lines: Vec<Line>) -> Slice {
        let mut slice = Slice { lines, ..Slice::default() };
        for (index, line) in slice.lines.iter().enumerate() {
            let Line::Ledger(line) = line else { continue };
            match events(&line.stored) {
                Ok(found) => {
                    slice.events.extend(found.into_iter().map(|(recorded, value)| Event {
                        line: index,
                        value,
                        recorded,
                    }));
                }
                Err(why) => slice.unreadable.push((line.stored.seq.0, why)),
            }
        }
        slice
    }

    /// The text of a log file with these lines.
    ///
    /// # Errors
    /// As [`Line::write`].
    pub fn write(lines: &[Line]) -> Result<String, SliceError> {
        let mut out = String::new();
        for line in lines {
            out.push_str(&line.write()?);
            out.push('\n');
        }
        Ok(out)
    }

    /// The messages of the ledger.
    pub fn stored(&self) -> impl Iterator<Item = &Stored> {
        self.lines.iter().filter_map(|line| match line {
            Line::Ledger(line) => Some(&line.stored),
            Line::Launch(_) => None,
        })
    }

    /// The launch messages, each with the index of its line.
    pub fn launches(&self) -> impl Iterator<Item = (usize, &LaunchLine)> {
        self.lines.iter().enumerate().filter_map(|(index, line)| match line {
            Line::Launch(line) => Some((index, line)),
            Line::Ledger(_) => None,
        })
    }

    /// Events of a CloudEvents type.
    pub fn of_type<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events.iter().filter(move |e| e.kind() == kind)
    }

    /// The line of a ledger sequence, marked with `>`, and `around` lines before and after it. A line is told by
    /// stream, sequence, subject, types and the beginning of its data, cut to 300 characters.
    pub fn context(&self, seq: u64, around: usize) -> Vec<String> {
        let at = self.lines.iter().position(|l| matches!(l, Line::Ledger(l) if l.stored.seq.0 == seq));
        let Some(at) = at else { return Vec::new() };
        let from = at.saturating_sub(around);
        let range = from..(at + around + 1).min(self.lines.len());
        let told = |(n, line): (usize, &Line)| {
            let mark = if from + n == at { '>' } else { ' ' };
            format!("{mark} {}", self.told(from + n, line)).chars().take(300).collect()
        };
        self.lines.get(range).unwrap_or_default().iter().enumerate().map(told).collect()
    }

    fn told(&self, index: usize, line: &Line) -> String {
        match line {
            Line::Launch(l) => format!("LAUNCH {} {}", l.seq, l.subject),
            Line::Ledger(l) => {
                let mut out = format!("{} {}", l.stored.seq, l.stored.log_subject);
                for event in self.events.iter().filter(|e| e.line == index) {
                    out = format!("{out} {} {}", event.kind(), event.recorded.envelope.data.get());
                }
                out
            }
        }
    }
}

fn events(stored: &Stored) -> Result<Vec<(Recorded, Value)>, String> {
    let recorded = Recorded::read(stored).map_err(|e| e.to_string())?;
    let value: Value = serde_json::from_slice(&stored.bytes).map_err(|e| e.to_string())?;
    let values = match value {
        Value::Array(items) => items,
        one => vec![one],
    };
    Ok(recorded.into_iter().zip(values).collect())
}
