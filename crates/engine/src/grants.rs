//! Grants as a process of ours sees them: a fold that follows the ledger. The authority chooses from it the grant that
//! covers a launch; the gateway asks it before each call whether the dispatch's grant still stands, and how long ago it
//! last heard of the ledger, and whether that is whole: who cannot know of a revocation must not go on, nor who calls where
//! nothing is kept. Must never decide from a clock of its own.

use crate::follow::read_or_note;
use custody_contracts::events::{DispatchAdmitted, GrantCheck};
use custody_contracts::grant::GrantIssued;
use custody_contracts::ids::{GrantId, UnixMillis};
use custody_domain::grant::Book;
use custody_ledger::{Log, LogError, Seq, Stored};
use custody_trust::grant::Shortfall;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between two questions to the server where the ledger ends: as often as checkpoints are signed, so that a ledger that was
/// cut is told before the next of them.
pub const PROBE_EVERY: Duration = crate::authority::notary::INTERVAL;
/// Without having heard of the ledger for so long no tool is called.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long one question may take.
const PROBE_WAIT: Duration = Duration::from_secs(4);

/// The book, and where it stands. Clones share it.
#[derive(Debug, Clone)]
pub struct Grants {
    book: Arc<RwLock<Book>>,
    changed: watch::Sender<u64>,
    cursor: Arc<AtomicU64>,
    heard: watch::Sender<Instant>,
    extent: Arc<RwLock<Extent>>,
    /// Held for reading from a judgement to its append, for writing by a revocation: none comes between.
    deciding: Arc<tokio::sync::RwLock<()>>,
}

/// What the server's answers say of the ledger as a whole.
#[derive(Debug, Default)]
struct Extent {
    /// The farthest end that it said.
    last: u64,
    /// Why it is not whole.
    broken: Option<String>,
    /// Whether it cannot be believed to be whole again.
    for_good: bool,
}

impl Extent {
    /// Takes in an answer; `known` is what this process had read before it asked.
    ///
    /// That its end came back, or that a part is gone, stays until the process ends: what comes after could be anybody's. A
    /// stream that is not there may be one that its server has not found yet, and is believed again when it is as long.
    fn take_in(&mut self, answer: &Result<Seq, LogError>, known: u64) {
        let end = self.last.max(known);
        let broken = match answer {
            Ok(Seq(last)) if *last >= end => {
                self.last = *last;
                None
            }
            Ok(Seq(last)) => Some((format!("the ledger ended at {end} and ends at {last} now"), true)),
            Err(LogError::Broken { seq, why }) => Some((format!("broken at sequence {seq}: {why}"), *seq > 0)),
            // Who says nothing is told by the silence.
            Err(LogError::Unavailable(_)) => return,
        };
        match broken {
            Some((why, for_good)) => {
                if self.broken.is_none() {
                    tracing::error!(why, "the ledger is not whole; no tool is called");
                }
                self.for_good |= for_good;
                self.broken = Some(why);
            }
            None if !self.for_good => self.broken = None,
            None => {}
        }
    }
}

impl Default for Grants {
    fn default() -> Self {
        Grants {
            book: Arc::default(),
            changed: watch::channel(0).0,
            cursor: Arc::default(),
            heard: watch::channel(Instant::now()).0,
            extent: Arc::default(),
            deciding: Arc::default(),
        }
    }
}

impl Grants {
    /// Reads the book.
    pub fn with<T>(&self, read: impl FnOnce(&Book) -> T) -> T {
        read(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the book.
    pub(crate) fn edit<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        change(&mut self.book.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// A grant as it was issued.
    pub fn get(&self, id: &str) -> Option<Arc<GrantIssued>> {
        self.with(|book| book.get(id).map(|held| held.issued.clone()))
    }

    /// Told whenever something changed that may end a grant or a dispatch under one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes in one stored message; the same one again changes nothing. In order, as the ledger is followed.
    pub fn take_in(&self, stored: &Stored) {
        self.learn(stored);
        self.cursor.fetch_max(stored.seq.0, Ordering::SeqCst);
        self.heard.send_replace(Instant::now());
    }

    /// Takes in what this process has just written or read, before it comes round.
    pub fn learn(&self, stored: &Stored) {
        let of = ["ledger.grant.", "ledger.dispatch.", "ledger.run.", "ledger.effect."];
        if !of.iter().any(|kind| stored.log_subject.starts_with(kind)) {
            return;
        }
        for recorded in read_or_note(stored) {
            let Some(event) = &recorded.event else { continue };
            let time = UnixMillis::parse(&recorded.envelope.time).unwrap_or_default();
            self.edit(|book| book.take_in(recorded.seq.0, time, event));
        }
        if !stored.log_subject.starts_with("ledger.effect.") {
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// Held while a launch is judged and its decision appended.
    pub async fn deciding(&self) -> OwnedRwLockReadGuard<()> {
        self.deciding.clone().read_owned().await
    }

    /// Held while a grant is revoked: waits for what is being decided, and holds back what comes.
    pub async fn revoking(&self) -> OwnedRwLockWriteGuard<()> {
        self.deciding.clone().write_owned().await
    }

    /// Whether what a dispatch was admitted under still stands. One from before grants goes on.
    ///
    /// # Errors
    /// `GRANT_REVOKED`, `GRANT_EXPIRED` or `GRANT_MISSING`.
    pub fn stands(&self, admitted: &DispatchAdmitted, now: UnixMillis) -> Result<(), Shortfall> {
        match &admitted.grant {
            GrantCheck::NotChecked => Ok(()),
            GrantCheck::Checked(used) => self.with(|book| book.standing(used.id.as_str(), now).map(|_| ())),
        }
    }

    /// Whether the grant that a dispatch was admitted under has money left for one more model call. Calls that are under
    /// way count when they are recorded.
    ///
    /// # Errors
    /// `GRANT_BUDGET`.
    pub fn affords(&self, admitted: &DispatchAdmitted, now: UnixMillis) -> Result<(), Shortfall> {
        match &admitted.grant {
            GrantCheck::NotChecked => Ok(()),
            GrantCheck::Checked(used) => self.with(|book| book.affords(used.id.as_str(), now)),
        }
    }

    /// Whether revocations reach this process, and the ledger holds all that it held.
    ///
    /// # Errors
    /// `LEDGER_BROKEN` when it was cut, emptied, taken back or removed; `REVOCATION_FEED_LOST` when nothing was heard of it for
    /// [`SILENCE_MAX`].
    pub fn hears(&self) -> Result<(), Shortfall> {
        if let Some(why) = &self.extent.read().unwrap_or_else(PoisonError::into_inner).broken {
            return Err(Shortfall::new("LEDGER_BROKEN", format!("{why}; what is done now could be kept by nobody")));
        }
        let silent = self.heard.borrow().elapsed();
        if silent <= SILENCE_MAX {
            return Ok(());
        }
        let text =
            format!("nothing was heard of the ledger for {} s, so a revocation could be missed", silent.as_secs());
        Err(Shortfall::new("REVOCATION_FEED_LOST", text))
    }

    /// Asks the server every [`PROBE_EVERY`] where the ledger ends, until cancelled. Having folded as far counts as heard;
    /// an answer from a server whose messages do not arrive does not.
    pub async fn listen(self, log: Arc<dyn Log>, cancel: CancellationToken) {
        loop {
            let (asked, known) = (Instant::now(), self.cursor.load(Ordering::SeqCst));
            if let Ok(answer) = tokio::time::timeout(PROBE_WAIT, log.last_seq()).await {
                self.extent.write().unwrap_or_else(PoisonError::into_inner).take_in(&answer, known);
                if let Ok(Seq(last)) = answer {
                    self.heard_up_to(last, asked).await;
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep_until(asked + PROBE_EVERY) => {}
            }
        }
    }

    /// Waits, not for ever, until the fold is as far as the server said, and notes when the server said it.
    async fn heard_up_to(&self, last: u64, asked: Instant) {
        let mut heard = self.heard.subscribe();
        let arrived = async {
            while self.cursor.load(Ordering::SeqCst) < last {
                if heard.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(PROBE_EVERY, arrived).await.is_ok() {
            self.heard.send_if_modified(|at| {
                let later = asked > *at;
                *at = (*at).max(asked);
                later
            });
        }
    }

    /// Gives back the place that was taken for a dispatch that was not admitted.
    pub(crate) fn release(&self, id: &GrantId, dispatch: &str, at: UnixMillis) {
        self.edit(|book| book.release(id.as_str(), dispatch, at));
    }
}
