//! From the worker's frames to the output topic: in order, without gaps or doubles, flushed every 100 ms or 32 KiB, and
//! at once after a silence, so that nobody waits for a first word. A frame is acknowledged to the worker only when it is
//! stored.

use custody_contracts::box_protocol::{Frame, FrameBody};
use custody_contracts::canonical::derived_id;
use custody_contracts::events::DispatchAdmitted;
use custody_contracts::ids::{LauncherId, Subject};
use custody_contracts::messages::Chunk;
use custody_ports::blobs::{BlobError, Blobs};
use custody_ports::output::{Output, OutputError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The longest that a frame waits for others.
pub(super) const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// Chunks that may follow each other at once after a silence.
const BURST: u32 = 4;
/// Bytes after which a chunk is published at once.
const FLUSH_BYTES: usize = 32 * 1024;
/// Tries to publish one chunk before the connection is given up; the worker then connects again and resends.
const TRIES_MAX: u32 = 20;

/// Why a worker's stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    /// A frame is missing.
    #[error("frame {found} came after {last}")]
    Gap {
        /// The last one taken.
        last: u64,
        /// What came.
        found: u64,
    },
    /// The output stream.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The person's key.
    #[error("the chunk cannot be sealed: {0}")]
    Sealed(#[from] BlobError),
    /// A frame that cannot be written.
    #[error("frame cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
}

/// When the next chunk may be published: one every [`FLUSH_EVERY`], and a few at once after a silence. A token bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    left: u32,
    /// When the last token was put in.
    filled: Instant,
}

impl Pace {
    /// A full bucket.
    pub(super) fn full(now: Instant) -> Pace {
        Pace { left: BURST, filled: now }
    }

    /// The earliest time for the next chunk.
    pub(super) fn due(&mut self, now: Instant) -> Instant {
        let whole = now.saturating_duration_since(self.filled).as_millis() / FLUSH_EVERY.as_millis();
        let whole = u32::try_from(whole).unwrap_or(u32::MAX);
        if whole > 0 {
            let more = self.left.saturating_add(whole);
            // A bucket that is full keeps no fraction of a token either.
            self.filled = if more >= BURST { now } else { self.filled + FLUSH_EVERY * whole };
            self.left = more.min(BURST);
        }
        if self.left > 0 { now } else { self.filled + FLUSH_EVERY }
    }

    /// A chunk was published.
    pub(super) fn spend(&mut self, now: Instant) {
        self.due(now);
        if self.left == BURST {
            self.filled = now;
        }
        self.left = self.left.saturating_sub(1);
    }
}

/// The relay of one dispatch.
pub(super) struct Relay {
    output: Arc<dyn Output>,
    /// What seals chunks with their person's key.
    blobs: Arc<dyn Blobs>,
    subject: Subject,
    /// Who hears what was stored.
    launcher: LauncherId,
    dispatch: String,
    attempt: u32,
    /// Last frame stored.
    stored: u64,
    /// Its chunk's place.
    last_seq: u64,
    waiting: Vec<Frame>,
    waiting_bytes: usize,
    /// Whether the last frame of the box is stored.
    ended: bool,
}

impl Relay {
    /// A relay that goes on where the topic stands.
    pub(super) async fn open(
        output: Arc<dyn Output>,
        blobs: Arc<dyn Blobs>,
        admitted: &DispatchAdmitted,
        attempt: u32,
    ) -> Result<Relay, RelayError> {
        let dispatch = admitted.dispatch.as_str();
        let last = output.last(dispatch).await?;
        let mut relay = Relay {
            output,
            blobs,
            subject: admitted.unit.identity.subject.clone(),
            launcher: admitted.launch.launcher.clone(),
            dispatch: dispatch.to_owned(),
            attempt,
            stored: 0,
            last_seq: 0,
            waiting: Vec::new(),
            waiting_bytes: 0,
            ended: false,
        };
        if let Some(chunk) = last {
            relay.last_seq = chunk.seq;
            let chunk: Chunk = serde_json::from_slice(&relay.blobs.open(chunk.bytes)?)?;
            relay.ended = chunk.frames.last().is_some_and(|f| matches!(f.body, FrameBody::Exit { .. }));
            relay.stored = chunk.to;
        }
        Ok(relay)
    }

    /// Last frame stored.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// Whether something waits to be published.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes one frame; true when the chunk should be published now.
    pub(super) fn take(&mut self, frame: Frame) -> Result<bool, RelayError> {
        let last = self.waiting.last().map_or(self.stored, |f| f.seq);
        if frame.seq <= last || self.ended {
            return Ok(false);
        }
        if frame.seq != last + 1 {
            return Err(RelayError::Gap { last, found: frame.seq });
        }
        let exit = matches!(frame.body, FrameBody::Exit { .. });
        self.waiting_bytes += serde_json::to_vec(&frame)?.len();
        self.waiting.push(frame);
        Ok(exit || self.waiting_bytes >= FLUSH_BYTES)
    }

    /// Whether the frames that wait hold the last one.
    pub(super) fn holds_exit(&self) -> bool {
        self.waiting.last().is_some_and(|f| matches!(f.body, FrameBody::Exit { .. }))
    }

    /// Publishes what waits. Safe to call again after a failure.
    pub(super) async fn flush(&mut self) -> Result<(), RelayError> {
        let (Some(first), Some(last)) = (self.waiting.first(), self.waiting.last()) else { return Ok(()) };
        let chunk = Chunk {
            dispatch: self.dispatch.clone(),
            attempt: self.attempt,
            from: first.seq,
            to: last.seq,
            frames: self.waiting.clone(),
        };
        let said = serde_json::to_vec(&chunk)?;
        let bytes = self.blobs.seal(&self.subject, said.clone())?;
        let id = derived_id("out-", &[self.dispatch.as_bytes(), &chunk.from.to_be_bytes(), &bytes]);
        let mut pause = Duration::from_millis(20);
        for tried in 1..=TRIES_MAX {
            match self.output.append(&self.dispatch, self.last_seq, &id, bytes.clone()).await {
                Ok(seq) => {
                    self.last_seq = seq;
                    self.stored = chunk.to;
                    self.ended = self.holds_exit();
                    self.waiting.clear();
                    self.waiting_bytes = 0;
                    // Whether it hears of it is its own matter: the topic has it.
                    if let Err(error) = self.output.tell(self.launcher.as_str(), &self.dispatch, said).await {
                        tracing::debug!(%error, dispatch = self.dispatch, "the launcher was not told what was said");
                    }
                    return Ok(());
                }
                Err(error @ OutputError::Conflict(_)) => return Err(error.into()),
                Err(error) if tried == TRIES_MAX => return Err(error.into()),
                Err(error) => tracing::warn!(%error, dispatch = self.dispatch, "output not stored; trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        Ok(())
    }
}
