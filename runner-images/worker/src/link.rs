//! The connection to the gateway: upgrade, hello, frames out, messages in, and again after every loss. Must never send a
//! frame on a new connection before the gateway said what it already has, and never decide anything about the agent.

use crate::{
    event::Event,
    frames,
    lines::read_line,
    mounts::{LOOK_EVERY, Mounts},
    outbox::Outbox,
    protocol::{GatewayMessage, LINE_BYTES_MAX, PROTOCOL, UPGRADE, WorkerMessage},
};
use std::{
    io::{self, BufReader, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::SyncSender,
    },
    thread,
    time::{Duration, Instant},
};

const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A blank worker looks more often: whoever claims it waits for it. Twenty connects a second are not measurable.
const BLANK_BACKOFF_MAX: Duration = Duration::from_millis(50);
/// How long the answer to the upgrade may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// How long one write may take before the connection counts as lost.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// How long, after a job, to wait for the ack that should have come first on a reconnect.
const ACK_WAIT_MAX: Duration = Duration::from_secs(1);
const HEAD_LINE_MAX: usize = 4_096;
const HEAD_LINES_MAX: usize = 64;

/// Where and how long.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// The gateway's socket.
    pub socket: PathBuf,
    /// How long the gateway may stay away from a worker that has a job.
    pub lost_after: Duration,
    /// How long a blank worker waits for its job, also while no gateway is there: a box of a pool is not bound to one yet.
    pub job_wait: Duration,
}

/// What the supervisor and the link tell each other besides events.
#[derive(Debug, Default)]
pub struct LinkState {
    /// The dispatch, once a job said it.
    pub dispatch: Mutex<Option<String>>,
    /// Whether a connection is up.
    pub connected: AtomicBool,
    /// Set by the supervisor: no frame may be sent any more.
    pub silenced: AtomicBool,
    /// The highest numbered follow-up that was taken; 0 for none. A gateway that comes anew goes on after it.
    pub inputs: AtomicU32,
}

impl LinkState {
    /// Whether a follow-up is to be taken: one without a number always, one with a number once.
    fn takes(&self, n: Option<u32>) -> bool {
        n.is_none_or(|n| self.inputs.fetch_max(n, Ordering::Relaxed) < n)
    }
}

/// Starts the link's thread. It ends after [`Event::GatewayLost`] or when nobody listens.
///
/// Errors: when no thread can be started.
pub fn spawn(
    config: LinkConfig,
    state: Arc<LinkState>,
    outbox: Arc<Outbox>,
    events: SyncSender<Event>,
) -> io::Result<()> {
    let link = Link { config, state, outbox, events };
    thread::Builder::new().name("link".to_owned()).spawn(move || link.run())?;
    Ok(())
}

struct Link {
    config: LinkConfig,
    state: Arc<LinkState>,
    outbox: Arc<Outbox>,
    events: SyncSender<Event>,
}

/// One connection's state, shared by its reading and its writing half.
#[derive(Debug, Default)]
struct Connection {
    dead: AtomicBool,
    /// The gateway said what it has.
    acked: AtomicBool,
    /// It said something at all: the connection counts as good.
    heard: AtomicBool,
    job_at: Mutex<Option<Instant>>,
}

impl Link {
    fn run(self) {
        let mounts = Mounts::watch();
        let mut lost_since = Instant::now();
        let mut backoff = BACKOFF_MIN;
        loop {
            if let Ok((stream, reader)) = self.connect() {
                let heard = self.serve(&stream, reader);
                self.state.connected.store(false, Ordering::Relaxed);
                if heard {
                    lost_since = Instant::now();
                    backoff = BACKOFF_MIN;
                }
            }
            self.outbox.wake();
            let blank = self.state.dispatch.lock().unwrap_or_else(PoisonError::into_inner).is_none();
            let most = if blank { self.config.job_wait } else { self.config.lost_after };
            let left = most.saturating_sub(lost_since.elapsed());
            if left.is_zero() {
                // The receiver is gone only when the worker is about to exit.
                let _ = self.events.send(Event::GatewayLost);
                return;
            }
            if blank && !self.config.socket.exists() {
                // A blank box of a pool: its socket is mounted when it is claimed, and may be a long time in coming.
                mounts.changed(LOOK_EVERY.min(left));
            } else {
                thread::sleep(backoff.min(left));
                backoff = (backoff * 2).min(if blank { BLANK_BACKOFF_MAX } else { BACKOFF_MAX });
            }
        }
    }

    /// Connects and upgrades.
    fn connect(&self) -> io::Result<(UnixStream, BufReader<UnixStream>)> {
        let mut stream = UnixStream::connect(&self.config.socket)?;
        stream.set_read_timeout(Some(HANDSHAKE_MAX))?;
        stream.set_write_timeout(Some(WRITE_MAX))?;
        write!(stream, "GET /worker HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: {UPGRADE}\r\n\r\n")?;
        let mut reader = BufReader::new(stream.try_clone()?);
        read_switching(&mut reader)?;
        stream.set_read_timeout(None)?;
        Ok((stream, reader))
    }

    /// Serves one connection to its end; says whether the gateway said anything.
    fn serve(&self, stream: &UnixStream, reader: BufReader<UnixStream>) -> bool {
        let connection = Arc::new(Connection::default());
        let dispatch = self.state.dispatch.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Without a job there is nothing that the gateway could already have.
        connection.acked.store(dispatch.is_none(), Ordering::Relaxed);
        let inputs = Some(self.state.inputs.load(Ordering::Relaxed)).filter(|n| *n > 0);
        let last_seq = self.outbox.last_seq();
        let hello = WorkerMessage::Hello { protocol: PROTOCOL.to_owned(), dispatch, last_seq, inputs };
        let mut writer = stream;
        if writer.write_all(&frames::line(&hello)).is_err() {
            return false;
        }
        self.state.connected.store(true, Ordering::Relaxed);
        thread::scope(|scope| {
            let shared = Arc::clone(&connection);
            scope.spawn(move || {
                self.receive(reader, &shared);
                shared.dead.store(true, Ordering::Relaxed);
                self.outbox.wake();
            });
            self.send(stream, &connection);
            // Ends the reading half too; an error means that it is down already.
            let _ = stream.shutdown(Shutdown::Both);
        });
        connection.heard.load(Ordering::Relaxed)
    }

    fn send(&self, mut stream: &UnixStream, connection: &Connection) {
        let mut sent = 0;
        while !connection.dead.load(Ordering::Relaxed) && !self.state.silenced.load(Ordering::Relaxed) {
            if !connection.may_send() {
                // Only waits: the number is above every frame.
                self.outbox.next_after(u64::MAX, Duration::from_millis(50));
                continue;
            }
            if let Some((seq, line)) = self.outbox.next_after(sent, Duration::from_millis(500)) {
                if stream.write_all(&line).is_err() {
                    return;
                }
                sent = seq;
            }
        }
    }

    fn receive(&self, mut reader: BufReader<UnixStream>, connection: &Connection) {
        while let Ok(Some(line)) = read_line(&mut reader, LINE_BYTES_MAX) {
            if !line.whole && line.cut == 0 {
                return; // A gateway that died in the middle of a line says it again after the reconnect.
            }
            if line.bytes.is_empty() {
                continue;
            }
            let event = if line.cut > 0 {
                Event::BadMessage(format!("a line of the gateway is longer than {LINE_BYTES_MAX} bytes"))
            } else {
                match serde_json::from_slice::<GatewayMessage>(&line.bytes) {
                    Err(error) => Event::BadMessage(format!("not a box.v2 message: {error}")),
                    Ok(message) => {
                        connection.heard.store(true, Ordering::Relaxed);
                        match message {
                            GatewayMessage::Ack { seq } => {
                                connection.acked.store(true, Ordering::Relaxed);
                                self.outbox.ack(seq);
                                continue;
                            }
                            GatewayMessage::Job { job } => {
                                *connection.job_at.lock().unwrap_or_else(PoisonError::into_inner) =
                                    Some(Instant::now());
                                Event::Job(job)
                            }
                            GatewayMessage::Stop { grace_ms, reason } => {
                                Event::Stop { grace_ms, reason: reason.into() }
                            }
                            GatewayMessage::Input { n, .. } if !self.state.takes(n) => continue,
                            GatewayMessage::Input { text, .. } => Event::Input(text),
                        }
                    }
                }
            };
            if self.events.send(event).is_err() {
                return;
            }
        }
    }
}

impl Connection {
    fn may_send(&self) -> bool {
        let job_at = || *self.job_at.lock().unwrap_or_else(PoisonError::into_inner);
        self.acked.load(Ordering::Relaxed) || job_at().is_some_and(|at| at.elapsed() >= ACK_WAIT_MAX)
    }
}

/// Reads the head of the answer; anything but 101 is a failed attempt.
fn read_switching(reader: &mut BufReader<UnixStream>) -> io::Result<()> {
    let mut status = None;
    for _ in 0..HEAD_LINES_MAX {
        let line = read_line(reader, HEAD_LINE_MAX)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let line = line.bytes.strip_suffix(b"\r").unwrap_or(&line.bytes);
        match &status {
            None => status = Some(line.starts_with(b"HTTP/1.1 101 ")),
            Some(true) if line.is_empty() => return Ok(()),
            Some(true) => {}
            Some(false) => break,
        }
    }
    // Not read further: the connection is dropped with what the gateway wrote.
    Err(io::Error::from(io::ErrorKind::ConnectionRefused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_follow_up_is_taken_once_and_one_without_a_number_always() {
        let state = LinkState::default();
        let taken: Vec<bool> = [Some(1), Some(1), None, Some(2), Some(1), None].map(|n| state.takes(n)).into();
        assert_eq!(taken, [true, false, true, true, false, true]);
        assert_eq!(state.inputs.load(Ordering::Relaxed), 2);
    }
}
