//! Turns bytes from the agent and the gateway into bounded lines and valid text.
//! Must never hold more than the given maximum of one line, however long the writer makes it.

use std::io::{self, BufRead};

/// One line of output without its line feed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    /// What was kept.
    pub bytes: Vec<u8>,
    /// How many bytes of the line were dropped because it was longer than the maximum.
    pub cut: u64,
    /// Whether its line feed came; without it, the writer may have died in the middle.
    pub whole: bool,
}

/// Reads the next line, keeping at most `max` bytes of it; `None` at the end. A last line without a line feed counts.
///
/// Errors: what the reader reports.
pub fn read_line(reader: &mut impl BufRead, max: usize) -> io::Result<Option<Line>> {
    let mut line = Line::default();
    let mut seen = false;
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok(seen.then_some(line));
        }
        seen = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        let room = max.saturating_sub(line.bytes.len()).min(part.len());
        line.bytes.extend_from_slice(&part[..room]);
        line.cut += (part.len() - room) as u64;
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            line.whole = true;
            return Ok(Some(line));
        }
    }
}

/// Decodes UTF-8 that arrives in pieces; what is not UTF-8 becomes U+FFFD.
#[derive(Debug, Default)]
pub struct Utf8Decoder {
    tail: Vec<u8>,
}

impl Utf8Decoder {
    /// The text that is complete after these bytes; at most three bytes stay behind.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.tail.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.tail.len());
        let mut rest: &[u8] = &self.tail;
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, bad) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = bad;
                    if let Some(length) = error.error_len() {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &bad[length..];
                        continue;
                    }
                }
            }
            break;
        }
        self.tail = rest.to_vec();
        text
    }

    /// What is left at the end of the input: nothing, or one U+FFFD for a cut character.
    pub fn finish(&mut self) -> String {
        if std::mem::take(&mut self.tail).is_empty() { String::new() } else { char::REPLACEMENT_CHARACTER.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::io::BufReader;

    #[rstest]
    #[case::two_lines("a\nbc\n", 10, &[("a", 0), ("bc", 0)])]
    #[case::no_last_line_feed("a\nb", 10, &[("a", 0), ("b", 0)])]
    #[case::empty_line("\n\n", 10, &[("", 0), ("", 0)])]
    #[case::nothing("", 10, &[])]
    #[case::exactly_the_maximum("abc\nd\n", 3, &[("abc", 0), ("d", 0)])]
    #[case::one_over("abcd\ne\n", 3, &[("abc", 1), ("e", 0)])]
    #[case::far_over_at_the_end("abcdefgh", 2, &[("ab", 6)])]
    #[case::carriage_return_is_data("a\r\nb", 10, &[("a\r", 0), ("b", 0)])]
    fn bounded_lines(#[case] input: &str, #[case] max: usize, #[case] expected: &[(&str, u64)]) {
        for capacity in 1..12 {
            let mut reader = BufReader::with_capacity(capacity, input.as_bytes());
            let mut lines = Vec::new();
            let mut whole = true;
            while let Some(line) = read_line(&mut reader, max).unwrap() {
                lines.push((String::from_utf8(line.bytes).unwrap(), line.cut));
                whole = line.whole;
            }
            let expected: Vec<_> = expected.iter().map(|(text, cut)| ((*text).to_owned(), *cut)).collect();
            assert_eq!(lines, expected, "buffer of {capacity}");
            assert_eq!(whole, input.is_empty() || input.ends_with('\n'));
        }
    }

    #[rstest]
    #[case::ascii(b"abc", "abc")]
    #[case::two_three_four_bytes("é€😀".as_bytes(), "é€😀")]
    #[case::bad_byte(b"a\xffb", "a\u{fffd}b")]
    #[case::cut_character(b"a\xe2\x82", "a\u{fffd}")]
    #[case::control_characters_stay(b"\x1b[31m\x00\r", "\u{1b}[31m\0\r")]
    fn decodes_at_every_split(#[case] bytes: &[u8], #[case] expected: &str) {
        for split in 0..=bytes.len() {
            let mut decoder = Utf8Decoder::default();
            let mut text = decoder.push(&bytes[..split]);
            text.push_str(&decoder.push(&bytes[split..]));
            text.push_str(&decoder.finish());
            assert_eq!(text, expected, "split at {split}");
        }
    }
}
