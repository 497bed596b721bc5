//! Merges adjacent text deltas and adjacent standard-error pieces into fewer frames. Must never change the order of
//! frames, nor hold text back longer than [`WAIT_MAX`].

use crate::protocol::{FrameBody, LogStream};
use std::time::{Duration, Instant};

/// How long a piece may wait for the next one.
pub const WAIT_MAX: Duration = Duration::from_millis(20);
/// The longest merged piece, in bytes.
pub const BYTES_MAX: usize = 8_192;

/// Holds at most one unfinished piece of text.
#[derive(Debug, Default)]
pub struct Coalescer {
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    kind: Kind,
    text: String,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Stderr,
}

impl Coalescer {
    /// Takes a frame in, gives back what is now complete, in order.
    pub fn push(&mut self, body: FrameBody, now: Instant) -> Vec<FrameBody> {
        let (kind, text) = match body {
            FrameBody::Text { text } => (Kind::Text, text),
            FrameBody::Log { stream: LogStream::Stderr, text } => (Kind::Stderr, text),
            other => {
                let mut out: Vec<_> = self.flush().into_iter().collect();
                out.push(other);
                return out;
            }
        };
        if text.is_empty() {
            return Vec::new();
        }
        let mut out = Vec::new();
        if self.pending.as_ref().is_some_and(|pending| pending.kind != kind) {
            out.extend(self.flush());
        }
        let mut pending = self.pending.take().unwrap_or(Pending { kind, text: String::new(), since: now });
        pending.text.push_str(&text);
        while pending.text.len() >= BYTES_MAX {
            let rest = pending.text.split_off(pending.text.floor_char_boundary(BYTES_MAX));
            out.push(finished(kind, std::mem::replace(&mut pending.text, rest)));
            pending.since = now;
        }
        if !pending.text.is_empty() {
            self.pending = Some(pending);
        }
        out
    }

    /// The unfinished piece, whether or not it is due.
    pub fn flush(&mut self) -> Option<FrameBody> {
        self.pending.take().map(|pending| finished(pending.kind, pending.text))
    }

    /// When the unfinished piece must be flushed.
    pub fn due(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.since + WAIT_MAX)
    }
}

fn finished(kind: Kind, text: String) -> FrameBody {
    match kind {
        Kind::Text => FrameBody::Text { text },
        Kind::Stderr => FrameBody::Log { stream: LogStream::Stderr, text },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// `t:` text, `e:` standard error, `r:` a result.
    fn body(short: &str) -> FrameBody {
        let (kind, text) = short.split_once(':').unwrap();
        let text = text.to_owned();
        match kind {
            "t" => FrameBody::Text { text },
            "e" => FrameBody::Log { stream: LogStream::Stderr, text },
            _ => FrameBody::Result { text },
        }
    }

    #[rstest]
    #[case::adjacent_text(&["t:a", "t:b", "t:c"], &["t:abc"])]
    #[case::order_is_kept(&["t:a", "r:x", "t:b"], &["t:a", "r:x", "t:b"])]
    #[case::kinds_do_not_mix(&["t:a", "e:b", "e:c", "t:d"], &["t:a", "e:bc", "t:d"])]
    #[case::empty_is_nothing(&["t:", "e:"], &[])]
    fn merges(#[case] input: &[&str], #[case] expected: &[&str]) {
        let mut coalescer = Coalescer::default();
        let now = Instant::now();
        let mut out: Vec<_> = input.iter().flat_map(|short| coalescer.push(body(short), now)).collect();
        out.extend(coalescer.flush());
        assert_eq!(out, expected.iter().map(|short| body(short)).collect::<Vec<_>>());
    }

    #[rstest]
    #[case::ascii("x", 20_000)]
    #[case::characters_stay_whole("😀", 20_000)]
    #[case::exactly_one("x", BYTES_MAX)]
    fn splits_at_the_maximum(#[case] unit: &str, #[case] bytes: usize) {
        let text = unit.repeat(bytes / unit.len());
        let mut coalescer = Coalescer::default();
        let mut out = coalescer.push(FrameBody::Text { text: text.clone() }, Instant::now());
        out.extend(coalescer.flush());
        let parts: Vec<String> = out
            .into_iter()
            .map(|body| match body {
                FrameBody::Text { text } => text,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(parts.iter().all(|part| part.len() <= BYTES_MAX && !part.is_empty()));
        assert_eq!(parts.concat(), text);
    }

    #[test]
    fn is_due_from_the_first_piece_not_the_last() {
        let mut coalescer = Coalescer::default();
        let start = Instant::now();
        assert_eq!(coalescer.due(), None);
        coalescer.push(body("t:a"), start);
        coalescer.push(body("t:b"), start + Duration::from_millis(15));
        assert_eq!(coalescer.due(), Some(start + WAIT_MAX));
        coalescer.flush();
        assert_eq!(coalescer.due(), None);
    }
}
