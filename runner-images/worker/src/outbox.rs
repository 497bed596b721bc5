//! Numbers frames and keeps those that the gateway has not acknowledged, in a bounded buffer. A full buffer blocks the
//! one who reads the agent's output, and so the agent. Must never forget an unacknowledged frame or reuse a number.

use crate::{
    frames::encode,
    protocol::{FrameBody, LINE_BYTES_MAX},
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The most unacknowledged bytes.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;

/// The shared buffer; one producer for the agent's output, one for the worker's own frames, one link that sends.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
    blocked: AtomicBool,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<(u64, Arc<[u8]>)>,
    bytes: usize,
    last_seq: u64,
    acked: u64,
    /// The agent's output is over: what still arrives is dropped.
    closed: bool,
}

impl Outbox {
    /// An empty buffer of at most `bytes_max` bytes, at least one line's worth.
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.max(LINE_BYTES_MAX);
        Self { state: Mutex::default(), changed: Condvar::new(), blocked: AtomicBool::new(false), bytes_max }
    }

    /// Numbers and keeps a frame of the agent's; waits while the buffer is full. Drops it once the buffer is closed.
    /// Says whether it was kept.
    pub fn push(&self, body: FrameBody) -> bool {
        let mut state = self.lock();
        while !state.closed && state.bytes + LINE_BYTES_MAX > self.bytes_max && !state.frames.is_empty() {
            self.blocked.store(true, Ordering::Relaxed);
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.blocked.store(false, Ordering::Relaxed);
        if !state.closed {
            self.append(&mut state, body);
        }
        !state.closed
    }

    /// Numbers and keeps a frame of the worker's own without waiting: there are only a handful in a life.
    /// Gives back its number.
    pub fn push_own(&self, body: FrameBody) -> u64 {
        let mut state = self.lock();
        self.append(&mut state, body)
    }

    /// Whether a producer waits for room now: then silence is the gateway's fault and not the agent's.
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Ends the agent's output: a producer that waits goes on, and what it brings is dropped.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Forgets every frame up to and including this one. Numbers never given out are ignored.
    pub fn ack(&self, seq: u64) {
        let mut state = self.lock();
        let seq = seq.min(state.last_seq);
        while let Some((first, line)) = state.frames.front() {
            if *first > seq {
                break;
            }
            let length = line.len();
            state.frames.pop_front();
            state.bytes -= length;
        }
        state.acked = state.acked.max(seq);
        drop(state);
        self.changed.notify_all();
    }

    /// The highest number given out.
    pub fn last_seq(&self) -> u64 {
        self.lock().last_seq
    }

    /// The highest number acknowledged.
    pub fn acked(&self) -> u64 {
        self.lock().acked
    }

    /// The first kept frame above `sent`, or `None` when there is none within `wait` or someone called [`Outbox::wake`].
    pub fn next_after(&self, sent: u64, wait: Duration) -> Option<(u64, Arc<[u8]>)> {
        let first = |state: &State| state.frames.get(state.frames.partition_point(|(seq, _)| *seq <= sent)).cloned();
        let state = self.lock();
        first(&state).or_else(|| {
            let (state, _) = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
            first(&state)
        })
    }

    /// Waits until `seq` is acknowledged, somebody calls [`Outbox::wake`], or the deadline; says whether it is.
    pub fn wait_acked(&self, seq: u64, deadline: Instant) -> bool {
        let state = self.lock();
        if state.acked >= seq {
            return true;
        }
        let wait = deadline.saturating_duration_since(Instant::now());
        let (state, _) = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
        state.acked >= seq
    }

    /// Makes every waiter look again.
    pub fn wake(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    fn append(&self, state: &mut State, body: FrameBody) -> u64 {
        state.last_seq += 1;
        let line: Arc<[u8]> = encode(state.last_seq, unix_ms(), body).into();
        state.bytes += line.len();
        state.frames.push_back((state.last_seq, line));
        self.changed.notify_all();
        state.last_seq
    }

    /// A panic elsewhere must not take the frames along.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the worker is the edge of the box: its clock is the frame's hint for screens"
)]
fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, thread};

    fn text(bytes: usize) -> FrameBody {
        FrameBody::Text { text: "x".repeat(bytes) }
    }

    fn sent_from(outbox: &Outbox, mut sent: u64) -> Vec<u64> {
        let mut seen = Vec::new();
        while let Some((seq, _)) = outbox.next_after(sent, Duration::ZERO) {
            seen.push(seq);
            sent = seq;
        }
        seen
    }

    #[test]
    fn resends_what_is_above_the_ack() {
        let outbox = Outbox::new(BYTES_MAX);
        for _ in 0..5 {
            outbox.push(text(1));
        }
        assert_eq!(sent_from(&outbox, 0), [1, 2, 3, 4, 5]);
        outbox.ack(3);
        assert_eq!(sent_from(&outbox, 0), [4, 5]);
        outbox.ack(2);
        outbox.ack(99);
        assert_eq!((outbox.acked(), outbox.last_seq()), (5, 5), "an ack beyond the last number is not believed");
        assert_eq!(outbox.push_own(text(1)), 6);
        assert_eq!(sent_from(&outbox, 5), [6]);
    }

    #[test]
    fn a_full_buffer_blocks_its_producer_until_an_ack() {
        let outbox = Arc::new(Outbox::new(LINE_BYTES_MAX + 10_000));
        let (done, seen) = mpsc::channel();
        let producer = Arc::clone(&outbox);
        let thread = thread::spawn(move || {
            for _ in 0..4 {
                producer.push(text(8_000));
                done.send(()).unwrap();
            }
        });
        // Two fit (8 kB each passes 10 kB only with the second); the third waits.
        seen.recv().unwrap();
        seen.recv().unwrap();
        while !outbox.is_blocked() {
            thread::yield_now();
        }
        assert!(seen.try_recv().is_err());
        assert!(outbox.lock().bytes <= LINE_BYTES_MAX + 10_000);
        outbox.ack(2);
        seen.recv().unwrap();
        seen.recv().unwrap();
        thread.join().unwrap();
        assert!(!outbox.is_blocked());
        assert_eq!(sent_from(&outbox, 0), [3, 4]);
    }

    #[test]
    fn closing_frees_the_producer_and_drops_what_it_brings() {
        let outbox = Arc::new(Outbox::new(LINE_BYTES_MAX));
        outbox.push(text(10));
        let producer = Arc::clone(&outbox);
        let thread = thread::spawn(move || assert!(!producer.push(text(10))));
        while !outbox.is_blocked() {
            thread::yield_now();
        }
        outbox.close();
        thread.join().unwrap();
        assert_eq!(outbox.last_seq(), 1);
        assert_eq!(outbox.push_own(FrameBody::Truncated { bytes: 1 }), 2, "the worker's own frames still pass");
    }

    #[test]
    fn waits_for_an_ack_until_the_deadline() {
        let outbox = Outbox::new(BYTES_MAX);
        outbox.push(text(1));
        assert!(!outbox.wait_acked(1, Instant::now()));
        outbox.ack(1);
        assert!(outbox.wait_acked(1, Instant::now()));
    }
}
