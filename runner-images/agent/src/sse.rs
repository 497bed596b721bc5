//! Server-sent events: bytes in, the data of whole events out. Must never depend on how the bytes were cut, nor hold
//! more than one bounded event. Source: HTML Living Standard, 9.2.6.

/// The largest event, in bytes.
pub const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// An event that is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

/// Holds the unfinished line and event.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
}

impl Parser {
    /// The data of every event that is complete after these bytes.
    ///
    /// Errors: [`TooLarge`] when one event is larger than [`EVENT_BYTES_MAX`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, TooLarge> {
        let mut events = Vec::new();
        for byte in bytes {
            match byte {
                // The second half of CR LF.
                b'\n' if self.after_cr => self.after_cr = false,
                b'\n' | b'\r' => {
                    self.after_cr = *byte == b'\r';
                    events.extend(self.end_line());
                }
                byte => {
                    self.after_cr = false;
                    if self.line.len() + self.data.len() >= EVENT_BYTES_MAX {
                        return Err(TooLarge);
                    }
                    self.line.push(*byte);
                }
            }
        }
        Ok(events)
    }

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return std::mem::take(&mut self.has_data).then(|| String::from_utf8_lossy(&data).into_owned());
        }
        if let Some(value) = line.strip_prefix(b"data:") {
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
        // Comments and the fields event, id and retry carry nothing that a chat stream needs.
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::one("data: {\"a\":1}\n\n", &["{\"a\":1}"])]
    #[case::two("data: a\n\ndata: [DONE]\n\n", &["a", "[DONE]"])]
    #[case::crlf("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"])]
    #[case::lone_cr("data: a\r\rdata: b\r\r", &["a", "b"])]
    #[case::several_lines("data: a\ndata: b\n\n", &["a\nb"])]
    #[case::no_space("data:a\n\n", &["a"])]
    #[case::only_one_space("data:  a\n\n", &[" a"])]
    #[case::empty_data("data:\n\n", &[""])]
    #[case::other_fields(": keep-alive\nevent: x\nid: 1\ndata: a\nretry: 5\n\n", &["a"])]
    #[case::nothing_without_data(": ping\n\nevent: x\n\n", &[])]
    #[case::unfinished("data: a\n\ndata: b\n", &["a"])]
    #[case::non_ascii("data: é€😀\n\n", &["é€😀"])]
    #[case::data_in_data("data: data: x\n\n", &["data: x"])]
    fn parses_at_every_split(#[case] input: &str, #[case] expected: &[&str]) {
        let bytes = input.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut parser = Parser::default();
                let mut events = parser.push(&bytes[..first]).unwrap();
                events.extend(parser.push(&bytes[first..second]).unwrap());
                events.extend(parser.push(&bytes[second..]).unwrap());
                assert_eq!(events, expected, "split at {first} and {second}");
            }
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::default();
        let chunk = [b'x'; 64 * 1024];
        let refused = (0..1000).find(|_| parser.push(&chunk).is_err()).unwrap();
        assert_eq!(refused, EVENT_BYTES_MAX / chunk.len());
    }
}
