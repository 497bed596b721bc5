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
        Arc,
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
}

/// Starts the reading threads. When both streams are at their end and all is in the outbox, [`Event::OutputDone`] is
/// sent.
///
/// Errors: when no thread can be started.
pub fn start(
    stdout: impl Read + Send + 'static,
    stderr: impl Read + Send + 'static,
    stream: &Stream,
    output_bytes: u64,
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
        coalescer: Coalescer::default(),
        budget: Budget::new(output_bytes),
        outbox,
        result_seen: Arc::clone(&shared.result_seen),
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

struct Pump {
    stream: Stream,
    coalescer: Coalescer,
    budget: Budget,
    outbox: Arc<Outbox>,
    result_seen: Arc<AtomicBool>,
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
        let body = match piece {
            Piece::Line(line) => map_line(&self.stream.map, &line),
            Piece::Text(text) => Some(FrameBody::Text { text }),
            Piece::Stderr(text) => Some(FrameBody::Log { stream: LogStream::Stderr, text }),
        };
        for body in body.into_iter().flat_map(|body| self.coalescer.push(body, now)).collect::<Vec<_>>() {
            self.emit(body);
        }
    }

    fn flush(&mut self) {
        if let Some(body) = self.coalescer.flush() {
            self.emit(body);
        }
    }

    fn emit(&mut self, body: FrameBody) {
        for body in self.budget.admit(body) {
            let is_result = matches!(body, FrameBody::Result { .. });
            if self.outbox.push(body) && is_result {
                self.result_seen.store(true, Ordering::Relaxed);
            }
        }
    }
}
