//! The session file: JSON lines, a header and then one message a line, appended and synced when it is complete. Must
//! never rewrite a complete line, nor go on from a file it does not understand.

use crate::message::Message;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// The version of the file that this agent writes and reads.
const VERSION: u32 = 1;
/// The largest session file that is read.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why a session cannot be used.
#[derive(Debug)]
pub enum SessionError {
    /// There is nothing to resume.
    Missing,
    /// A new session would overwrite another one.
    Exists,
    /// The file is not a session of this agent; with the line.
    Corrupt(usize),
    /// The file is of another version.
    Version(u64),
    /// The file is too large.
    TooLarge,
    /// The file system refused.
    Io(io::Error),
}

impl SessionError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "session_missing",
            Self::Exists => "session_exists",
            Self::Corrupt(_) => "session_corrupt",
            Self::Version(_) => "session_version",
            Self::TooLarge => "session_too_large",
            Self::Io(_) => "session_io",
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(formatter, "there is no session to resume"),
            Self::Exists => write!(formatter, "the session file is not empty: resume it or name another one"),
            Self::Corrupt(line) => write!(formatter, "the session file is corrupt in line {line}"),
            Self::Version(version) => {
                write!(formatter, "the session file is of version {version}, this agent reads {VERSION}")
            }
            Self::TooLarge => write!(formatter, "the session file is larger than {FILE_BYTES_MAX} bytes"),
            Self::Io(error) => write!(formatter, "the session file: {error}"),
        }
    }
}

impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Line {
    Session { version: u32, id: String },
    Message { message: Message },
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Everything said in it.
    pub messages: Vec<Message>,
    file: File,
}

impl Session {
    /// Begins a new one under this id.
    ///
    /// Errors: [`SessionError::Exists`] when the file has content; [`SessionError::Io`].
    pub fn create(path: &Path, id: String) -> Result<Self, SessionError> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        if file.metadata()?.len() > 0 {
            return Err(SessionError::Exists);
        }
        let mut session = Self { id: id.clone(), messages: Vec::new(), file };
        session.append_line(&Line::Session { version: VERSION, id })?;
        // The name must be as durable as the content.
        File::open(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new(".")))?
            .sync_all()?;
        Ok(session)
    }

    /// Goes on with the one in this file. A last line that was not written to its end is dropped, from the file too.
    ///
    /// Errors: every [`SessionError`] but `Exists`.
    pub fn resume(path: &Path) -> Result<Self, SessionError> {
        let mut text = Vec::new();
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SessionError::Missing),
            file => file?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?,
        };
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(SessionError::TooLarge);
        }
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (id, messages) = parse(&text[..whole])?;
        let file = OpenOptions::new().append(true).open(path)?;
        if whole < text.len() {
            file.set_len(whole as u64)?;
            file.sync_all()?;
        }
        Ok(Self { id, messages, file })
    }

    /// Adds a complete message; it is on disk when this returns.
    ///
    /// Errors: [`SessionError::Io`].
    pub fn append(&mut self, message: Message) -> Result<(), SessionError> {
        let line = Line::Message { message };
        self.append_line(&line)?;
        if let Line::Message { message } = line {
            self.messages.push(message);
        }
        Ok(())
    }

    fn append_line(&mut self, line: &Line) -> Result<(), SessionError> {
        let mut bytes = serde_json::to_vec(line).map_err(io::Error::from)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)?;
        self.file.sync_all()?;
        Ok(())
    }
}

fn parse(text: &[u8]) -> Result<(String, Vec<Message>), SessionError> {
    let mut lines = text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n').enumerate();
    let header = lines.next().map_or(&[][..], |(_, line)| line);
    if header.is_empty() {
        return Err(SessionError::Missing);
    }
    let id = match serde_json::from_slice::<Line>(header) {
        Ok(Line::Session { version: VERSION, id }) => id,
        _ => return Err(unknown_header(header)),
    };
    let messages = lines.map(|(index, line)| match serde_json::from_slice::<Line>(line) {
        Ok(Line::Message { message }) => Ok(message),
        _ => Err(SessionError::Corrupt(index + 1)),
    });
    Ok((id, messages.collect::<Result<_, _>>()?))
}

/// A header of another version may have other fields.
fn unknown_header(header: &[u8]) -> SessionError {
    let document: serde_json::Value = serde_json::from_slice(header).unwrap_or_default();
    match document.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version != u64::from(VERSION) && document["type"] == "session" => {
            SessionError::Version(version)
        }
        _ => SessionError::Corrupt(1),
    }
}

/// An id of 128 random bits, as hexadecimal digits.
///
/// Errors: when the kernel gives no random bytes.
pub fn new_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    fs::File::open(PathBuf::from("/dev/urandom"))?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ToolCall;
    use rstest::rstest;

    fn messages() -> Vec<Message> {
        let call = ToolCall { id: "c".into(), name: "read_file".into(), arguments: "{\n}".into() };
        vec![
            Message::User { content: "a\nb\u{1b}".into() },
            Message::Assistant { content: String::new(), tool_calls: vec![call] },
            Message::Tool { tool_call_id: "c".into(), content: "é".into() },
            Message::Assistant { content: "done".into(), tool_calls: vec![] },
        ]
    }

    fn written(path: &Path) {
        let mut session = Session::create(path, "s-1".into()).unwrap();
        for message in messages() {
            session.append(message).unwrap();
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.jsonl");
        fs::write(&path, "").unwrap();
        written(&path);
        assert_eq!(
            fs::read_to_string(&path).unwrap().lines().next(),
            Some(r#"{"type":"session","version":1,"id":"s-1"}"#)
        );
        let mut session = Session::resume(&path).unwrap();
        assert_eq!((session.id.as_str(), &session.messages), ("s-1", &messages()));
        session.append(Message::User { content: "more".into() }).unwrap();
        assert_eq!(Session::resume(&path).unwrap().messages.len(), 5);
    }

    #[test]
    fn a_cut_at_any_byte_loses_at_most_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.jsonl");
        written(&path);
        let whole = fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let lines = whole[..length].iter().filter(|byte| **byte == b'\n').count();
            match Session::resume(&path) {
                Ok(mut session) => {
                    assert_eq!(session.messages, messages()[..lines - 1], "cut at {length}");
                    session.append(Message::User { content: "next".into() }).unwrap();
                    assert_eq!(Session::resume(&path).unwrap().messages.len(), lines);
                }
                Err(error) => assert_eq!((error.code(), lines), ("session_missing", 0), "cut at {length}"),
            }
        }
    }

    #[rstest]
    #[case::empty("", "session_missing")]
    #[case::not_json("hello\n", "session_corrupt")]
    #[case::no_header("{\"type\":\"message\",\"message\":{\"role\":\"user\",\"content\":\"x\"}}\n", "session_corrupt")]
    #[case::later_version("{\"type\":\"session\",\"version\":2,\"id\":\"x\",\"new\":1}\n", "session_version")]
    #[case::unknown_field("{\"type\":\"session\",\"version\":1,\"id\":\"x\",\"new\":1}\n", "session_corrupt")]
    #[case::broken_middle("{\"type\":\"session\",\"version\":1,\"id\":\"x\"}\n{\"type\"\n{}\n", "session_corrupt")]
    #[case::broken_last(
        "{\"type\":\"session\",\"version\":1,\"id\":\"x\"}\n{\"type\":\"message\"}\n",
        "session_corrupt"
    )]
    #[case::second_header(
        "{\"type\":\"session\",\"version\":1,\"id\":\"x\"}\n{\"type\":\"session\",\"version\":1,\"id\":\"y\"}\n",
        "session_corrupt"
    )]
    fn refuses_to_resume(#[case] content: &str, #[case] code: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.jsonl");
        fs::write(&path, content).unwrap();
        assert_eq!(Session::resume(&path).unwrap_err().code(), code);
        assert_eq!(fs::read_to_string(&path).unwrap(), content, "a refused file is not touched");
    }

    #[test]
    fn refuses_to_overwrite_and_to_resume_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.jsonl");
        assert_eq!(Session::resume(&path).unwrap_err().code(), "session_missing");
        written(&path);
        assert_eq!(Session::create(&path, "s-2".into()).unwrap_err().code(), "session_exists");
    }

    #[test]
    fn ids_differ() {
        let (one, two) = (new_id().unwrap(), new_id().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
