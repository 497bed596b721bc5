//! The upstream's key. Must never be printed, serialised, logged or passed on: the type has no `Debug`, no `Display`
//! and no `Serialize`, and headers made of it are marked sensitive.

use super::Api;
use super::config::DoorError;
use http::{HeaderName, HeaderValue};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The largest key file in bytes.
const KEY_BYTES_MAX: u64 = 8192;

/// A key that was read from its file.
pub(super) struct ApiKey(String);

impl ApiKey {
    /// Reads a key and checks that nobody but the file's owner can.
    pub(super) fn read(path: &Path) -> Result<ApiKey, DoorError> {
        let bad = |why: String| DoorError::BadKeyFile { path: path.to_owned(), why };
        let file = std::fs::File::open(path).map_err(|e| bad(format!("it cannot be opened: {}", e.kind())))?;
        // The open file is asked, not the name: the two could differ a moment later.
        let meta = file.metadata().map_err(|e| bad(format!("it cannot be inspected: {}", e.kind())))?;
        if !meta.is_file() {
            return Err(bad("it is not a regular file".to_owned()));
        }
        if meta.mode() & 0o077 != 0 {
            return Err(bad(format!(
                "its mode is {:04o} and others can read it; run: chmod 600 {}",
                meta.mode() & 0o7777,
                path.display()
            )));
        }
        let mut text = String::new();
        file.take(KEY_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(|e| bad(format!("it cannot be read: {}", e.kind())))?;
        let key = text.trim();
        if key.is_empty() || text.len() as u64 > KEY_BYTES_MAX || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad(format!("it must hold one key: visible ASCII, at most {KEY_BYTES_MAX} bytes")));
        }
        Ok(ApiKey(key.to_owned()))
    }

    /// The header that carries the key in a wire format.
    pub(super) fn header(&self, api: Api) -> Option<(HeaderName, HeaderValue)> {
        let (name, text) = match api {
            Api::Anthropic => (HeaderName::from_static("x-api-key"), self.0.clone()),
            Api::OpenaiChat | Api::OpenaiResponses => (http::header::AUTHORIZATION, format!("Bearer {}", self.0)),
        };
        // Visible ASCII is always a header value, so this is never `None` for a key that was read.
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }

    /// The text without the key, for words of the upstream that are passed on.
    pub(super) fn scrub(&self, text: &str) -> String {
        text.replace(&self.0, "[key]")
    }
}

/// Stops an answer that repeats the key. Holds back only bytes that may be the key's beginning.
pub(super) struct KeyGuard {
    key: Vec<u8>,
    held: Vec<u8>,
}

/// The upstream repeated the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyLeaked;

impl KeyGuard {
    /// A guard for a key; without one nothing is ever held back.
    pub(super) fn new(key: Option<&ApiKey>) -> KeyGuard {
        KeyGuard { key: key.map(|k| k.0.clone().into_bytes()).unwrap_or_default(), held: Vec::new() }
    }

    /// The bytes that may go on, in order and unchanged.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, KeyLeaked> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        if self.key.is_empty() {
            return Ok(all);
        }
        if all.windows(self.key.len()).any(|window| window == self.key) {
            return Err(KeyLeaked);
        }
        let longest = all.len().min(self.key.len() - 1);
        let hold = (1..=longest).rev().find(|&n| self.key.starts_with(&all[all.len() - n..])).unwrap_or(0);
        self.held = all.split_off(all.len() - hold);
        Ok(all)
    }

    /// A text without the key.
    pub(super) fn scrub(&self, text: &str) -> String {
        match std::str::from_utf8(&self.key) {
            Ok(key) if !key.is_empty() => text.replace(key, "[key]"),
            _ => text.to_owned(),
        }
    }

    /// What was held back when nothing follows any more.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}
