//! Reads the agent's two streams, maps, merges, counts, and puts frames into the outbox. Must never read ahead of the
//! outbox by more than a few pieces: that is the back-pressure on the agent.

use crate::{
    budget::Budget,
    coalesce::Coalescer,
    event::Event,
    lines::{Line, Utf8Decoder, read_line},
    mapping::map_line,
    outbox::Outbox,
    protocol::{FrameBody, LogStream, Stream, StreamFormat},
};
use std::{
    io::{self, BufReader, Read},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// The longest line of an agent that is kept whole, in bytes.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Pieces between the readers and the pump.
const PIECES_MAX: usize = 4;
const CHUNK_BYTES: usize = 8_192;

/// When the agent last said anything.
#[derive(Debug)]
pub struct Activity {
    start: Instant,
    last_ms: AtomicU64,
}

impl Activity {
    /// Starts now.
    pub fn new() -> Self {
        Self { start: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    /// Something was said now.
    pub fn touch(&self) {
        self.last_ms.store(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When it was.
    pub fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }
}

impl Default for Activity {
    fn default() -> Self {
        Self::new()
    }
}

/// What the threads of one agent share with the supervisor.
#[derive(Debug, Clone, Default)]
pub struct Shared {
    /// When the agent last said anything.
    pub activity: Arc<Activity>,
    /// Whether a result frame is in the outbox.
    pub result_seen: Arc<AtomicBool>,
    /// The agent's own session id, once it told it.
    pub agent_session: Arc<Mutex<Option<String>>>,
}

/// What is counted over all turns of one box.
#[derive(Debug)]
pub struct Counts {
    /// Bytes of output.
    pub budget: Budget,
    /// Tool calls so far.
    tool_calls: u64,
    /// The most of them.
    tool_calls_max: Option<u64>,
}

impl Counts {
    /// Nothing used yet.
    pub fn new(output_bytes: u64, tool_calls_max: Option<u64>) -> Self {
        Self { budget: Budget::new(output_bytes), tool_calls: 0, tool_calls_max }
    }

    /// Counts one tool call; the sentence when it is the first one too many.
    fn tool_call(&mut self) -> Option<String> {
        self.tool_calls = self.tool_calls.saturating_add(1);
        let most = self.tool_calls_max?;
        (self.tool_calls == most.saturating_add(1)).then(|| format!("more than {most} tool calls"))
    }
}

/// Starts the reading threads. When both streams are at their end and all is in the outbox, [`Event::OutputDone`] is
/// sent.
///
/// Errors: when no thread can be started.
pub fn start(
    stdout: impl Read + Send + 'static,
    stderr: impl Read + Send + 'static,
    stream: &Stream,
    counts: Arc<Mutex<Counts>>,
    shared: &Shared,
    outbox: Arc<Outbox>,
    events: SyncSender<Event>,
) -> io::Result<()> {
    let (pieces, received) = sync_channel(PIECES_MAX);
    let stdout = Watched { inner: stdout, activity: Arc::clone(&shared.activity) };
    let stderr = Watched { inner: stderr, activity: Arc::clone(&shared.activity) };
    let format = stream.format;
    let to_pump = pieces.clone();
    thread::Builder::new().name("stdout".to_owned()).spawn(move || match format {
        StreamFormat::Jsonl => read_lines(stdout, &to_pump),
        StreamFormat::Text => read_chunks(stdout, &to_pump, Piece::Text),
    })?;
    thread::Builder::new().name("stderr".to_owned()).spawn(move || read_chunks(stderr, &pieces, Piece::Stderr))?;
    let mut pump = Pump {
        stream: stream.clone(),
        words: Words::default(),
        coalescer: Coalescer::default(),
        counts,
        outbox,
        shared: shared.clone(),
        events: events.clone(),
    };
    thread::Builder::new().name("output".to_owned()).spawn(move || {
        pump.run(&received);
        // The receiver is gone only when the worker is about to exit.
        let _ = events.send(Event::OutputDone);
    })?;
    Ok(())
}

#[derive(Debug)]
enum Piece {
    Line(Line),
    Text(String),
    Stderr(String),
}

struct Watched<R> {
    inner: R,
    activity: Arc<Activity>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count > 0 {
            self.activity.touch();
        }
        Ok(count)
    }
}

fn read_lines(stream: impl Read, pieces: &SyncSender<Piece>) {
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    while let Ok(Some(line)) = read_line(&mut reader, LINE_BYTES_MAX) {
        if pieces.send(Piece::Line(line)).is_err() {
            return;
        }
    }
}

fn read_chunks(mut stream: impl Read, pieces: &SyncSender<Piece>, piece: fn(String) -> Piece) {
    let mut decoder = Utf8Decoder::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let text = match stream.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
            Ok(count) => decoder.push(&buffer[..count]),
        };
        if !text.is_empty() && pieces.send(piece(text)).is_err() {
            return;
        }
    }
    let rest = decoder.finish();
    if !rest.is_empty() {
        // The pump ends only after its senders.
        let _ = pieces.send(piece(rest));
    }
}

/// The agent's words since its last tool call: what a result means that has none of its own.
#[derive(Debug, Default)]
struct Words(String);

impl Words {
    fn fill(&mut self, body: FrameBody) -> FrameBody {
        match body {
            FrameBody::Result { text } if text.is_empty() => FrameBody::Result { text: std::mem::take(&mut self.0) },
            FrameBody::Text { text } => {
                if self.0.len() + text.len() <= LINE_BYTES_MAX {
                    self.0.push_str(&text);
                }
                FrameBody::Text { text }
            }
            FrameBody::ToolCall { .. } => {
                self.0.clear();
                body
            }
            other => other,
        }
    }
}

struct Pump {
    stream: Stream,
    words: Words,
    coalescer: Coalescer,
    counts: Arc<Mutex<Counts>>,
    outbox: Arc<Outbox>,
    shared: Shared,
    events: SyncSender<Event>,
}

impl Pump {
    fn run(&mut self, pieces: &Receiver<Piece>) {
        loop {
            let piece = match self.coalescer.due() {
                None => pieces.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => pieces.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match piece {
                Ok(piece) => self.take(piece),
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.flush();
    }

    fn take(&mut self, piece: Piece) {
        let now = Instant::now();
        // A steady stream of small pieces never times out, so the age is looked at here too.
        if self.coalescer.due().is_some_and(|due| due <= now) {
            self.flush();
        }
        let bodies = match piece {
            Piece::Line(line) => map_line(&self.stream.map, &line),
            Piece::Text(text) => vec![FrameBody::Text { text }],
            Piece::Stderr(text) => vec![FrameBody::Log { stream: LogStream::Stderr, text }],
        };
        let bodies: Vec<_> = bodies.into_iter().map(|body| self.words.fill(body)).collect();
        for body in bodies.into_iter().flat_map(|body| self.coalescer.push(body, now)).collect::<Vec<_>>() {
            self.emit(body);
        }
    }

    fn flush(&mut self) {
        if let Some(body) = self.coalescer.flush() {
            self.emit(body);
        }
    }

    fn emit(&mut self, body: FrameBody) {
        let (admitted, too_many) = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let too_many = if matches!(body, FrameBody::ToolCall { .. }) { counts.tool_call() } else { None };
            (counts.budget.admit(body), too_many)
        };
        for body in admitted {
            let is_result = matches!(body, FrameBody::Result { .. });
            if let FrameBody::Session { agent_session } = &body {
                *self.shared.agent_session.lock().unwrap_or_else(PoisonError::into_inner) = Some(agent_session.clone());
            }
            if self.outbox.push(body) && is_result {
                self.shared.result_seen.store(true, Ordering::Relaxed);
            }
        }
        if let Some(why) = too_many {
            // The receiver is gone only when the worker is about to exit.
            let _ = self.events.send(Event::LimitReached(why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_without_words_repeats_those_since_the_last_tool_call() {
        let mut words = Words::default();
        let text = |text: &str| FrameBody::Text { text: text.to_owned() };
        words.fill(text("before "));
        words.fill(FrameBody::ToolCall { id: "c".into(), name: "n".into(), args: serde_json::json!({}) });
        words.fill(text("after "));
        words.fill(text("that"));
        assert_eq!(words.fill(FrameBody::Result { text: "own".into() }), FrameBody::Result { text: "own".into() });
        let filled = FrameBody::Result { text: "after that".into() };
        assert_eq!(words.fill(FrameBody::Result { text: String::new() }), filled);
    }

    #[test]
    fn words_are_bounded() {
        let mut words = Words::default();
        for _ in 0..100 {
            words.fill(FrameBody::Text { text: "x".repeat(100_000) });
        }
        assert!(words.0.len() <= LINE_BYTES_MAX);
    }
}
