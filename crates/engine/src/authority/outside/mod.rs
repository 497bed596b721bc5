//! Checkpoints leave the box: each place has a task of its own, a bounded queue and a bounded number of tries, so that
//! one which is slow or gone holds up neither the log nor the others. A checkpoint that is dropped is no loss: the next
//! one covers what it covered. Must never wait for a place in the notary's loop.

#[cfg(test)]
mod tests;
mod witness;

pub use witness::{Watched, feed};

use custody_contracts::events::CheckpointSigned;
use custody_ports::clock::Clock;
use custody_ports::outside::{Outside, OutsideError};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Checkpoints that wait for one place; the one that comes to a full queue is dropped and counted.
pub const WAITING_MAX: usize = 256;
/// How often one checkpoint is tried at one place.
pub const TRIES_MAX: u32 = 4;
/// The longest that one try may take.
pub const TRY_TIME: Duration = Duration::from_secs(10);
/// The wait before the second try; it doubles.
pub const WAIT_MIN: Duration = Duration::from_millis(250);
/// How long what still waits may take when the role stops.
pub const DRAIN_TIME: Duration = Duration::from_secs(5);
/// The longest error that is kept.
const WORDS_MAX: usize = 300;

/// How one place stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// Which.
    pub name: String,
    /// Checkpoints that got there.
    pub sent: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Checkpoints that were given up, or found the queue full.
    pub dropped: u64,
    /// Checkpoints that the place refused: an alarm.
    pub refused: u64,
    /// Messages under the newest checkpoint that is there.
    pub size: u64,
    /// When it got there; Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// What went wrong last; gone with the next success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Who is told whenever a place stands otherwise.
pub type Tell = Arc<dyn Fn(&[Standing]) + Send + Sync>;

/// How every place stands. Clones share it.
#[derive(Clone)]
pub struct Board {
    places: Arc<Mutex<BTreeMap<String, Standing>>>,
    clock: Arc<dyn Clock>,
    tell: Tell,
}

impl Board {
    /// An empty board.
    pub fn new(clock: Arc<dyn Clock>, tell: Tell) -> Board {
        Board { places: Arc::default(), clock, tell }
    }

    /// Every place, by name.
    pub fn standings(&self) -> Vec<Standing> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn note(&self, name: &str, change: impl FnOnce(&mut Standing)) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place =
            places.entry(name.to_owned()).or_insert_with(|| Standing { name: name.into(), ..Standing::default() });
        change(place);
        let all: Vec<Standing> = places.values().cloned().collect();
        (self.tell)(&all);
    }

    fn there(&self, name: &str, size: u64) {
        let now = self.clock.now().0;
        self.note(name, |s| {
            s.sent += 1;
            s.size = s.size.max(size);
            (s.at, s.error) = (Some(now), None);
        });
    }

    fn failed(&self, name: &str, why: &str) {
        tracing::warn!(place = name, why, "a checkpoint did not get out; it is tried again");
        self.note(name, |s| {
            s.failed += 1;
            s.error = Some(cut(why));
        });
    }

    fn dropped(&self, name: &str, size: u64) {
        tracing::error!(place = name, size, "a checkpoint was given up; the next one covers it");
        self.note(name, |s| s.dropped += 1);
    }

    fn refused(&self, name: &str, why: &str) {
        tracing::error!(place = name, why, "ALARM: a checkpoint was refused");
        self.note(name, |s| {
            s.refused += 1;
            s.error = Some(cut(why));
        });
    }
}

fn cut(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect()
}

/// Hands checkpoints to every place.
#[derive(Clone)]
pub struct Copies {
    places: Vec<Place>,
    board: Board,
}

#[derive(Clone)]
struct Place {
    name: String,
    queue: mpsc::Sender<Arc<CheckpointSigned>>,
}

impl Copies {
    /// Starts a task for each place. A task ends when this is gone and what waits is done, or [`DRAIN_TIME`] after the token.
    pub fn start(
        places: Vec<Arc<dyn Outside>>,
        board: Board,
        cancel: &CancellationToken,
    ) -> (Copies, Vec<JoinHandle<()>>) {
        let start = |place: Arc<dyn Outside>| {
            let (queue, waiting) = mpsc::channel(WAITING_MAX);
            let name = place.name().to_owned();
            board.note(&name, |_| {});
            let task = tokio::spawn(serve(place, waiting, board.clone(), cancel.clone()));
            (Place { name, queue }, task)
        };
        let (places, tasks) = places.into_iter().map(start).unzip();
        (Copies { places, board: board.clone() }, tasks)
    }

    /// Hands a checkpoint to every place. Never waits.
    pub fn give(&self, signed: &CheckpointSigned) {
        let signed = Arc::new(signed.clone());
        for place in &self.places {
            if place.queue.try_send(signed.clone()).is_err() {
                self.board.dropped(&place.name, signed.size);
            }
        }
    }
}

async fn serve(
    place: Arc<dyn Outside>,
    mut waiting: mpsc::Receiver<Arc<CheckpointSigned>>,
    board: Board,
    cancel: CancellationToken,
) {
    let mut taken = 0u64;
    let mut skipped = None;
    // The notary signs a last checkpoint when it is told to stop, and that one is to get there too.
    let late = async {
        cancel.cancelled().await;
        tokio::time::sleep(DRAIN_TIME).await;
    };
    tokio::pin!(late);
    loop {
        let signed = tokio::select! {
            biased;
            signed = waiting.recv() => signed,
            () = &mut late => None,
        };
        let Some(signed) = signed else { break };
        // The first one, and then every so many.
        if taken.is_multiple_of(place.every().max(1)) {
            skipped = None;
            put(place.as_ref(), &signed, &board).await;
        } else {
            skipped = Some(signed);
        }
        taken += 1;
    }
    // An orderly stop leaves the newest one there.
    if let Some(newest) = skipped
        && tokio::time::timeout(DRAIN_TIME, put(place.as_ref(), &newest, &board)).await.is_err()
    {
        board.dropped(place.name(), newest.size);
    }
}

async fn put(place: &dyn Outside, signed: &CheckpointSigned, board: &Board) {
    let mut wait = WAIT_MIN;
    for n in 1..=TRIES_MAX {
        let late = OutsideError::Unavailable(format!("no answer within {} s", TRY_TIME.as_secs()));
        match tokio::time::timeout(TRY_TIME, place.put(signed)).await.unwrap_or(Err(late)) {
            Ok(()) => return board.there(place.name(), signed.size),
            Err(OutsideError::Refused(why)) => return board.refused(place.name(), &why),
            Err(OutsideError::Unavailable(why)) => board.failed(place.name(), &why),
        }
        if n < TRIES_MAX {
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }
    board.dropped(place.name(), signed.size);
}
