//! The two tails of this process, and what was heard: one reader of the ledger, one of the output, each into rings that
//! every connection reads by its own cursor. Must never make a reader on the server for a connection, and never hold
//! more than its limits.

use super::items::{self, LedgerItem, LedgerMessage, OutputItem};
use super::ring::{Placed, Ring};
use custody_engine::follow::follow;
use custody_ledger::{Log, LogError, Seq};
use custody_ports::pages::OutputPages;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Messages of the ledger that are held.
pub const LEDGER_ITEMS_MAX: usize = 20_000;
/// Bytes of the ledger that are held.
pub const LEDGER_BYTES_MAX: usize = 32 << 20;
/// Messages of the ledger that are read at start, so that a page that was open before finds its place.
const PRELOAD: u64 = 5_000;
/// Chunks of one dispatch that are held.
const CHUNKS_MAX: usize = 4_000;
/// Bytes of one dispatch's output that are held.
const TOPIC_BYTES_MAX: usize = 4 << 20;
/// Bytes of all output that are held; the dispatch that was silent longest goes first.
pub const OUTPUT_BYTES_MAX: usize = 32 << 20;
/// Whose dispatch it is, remembered for the newest so many.
const OWNERS_MAX: usize = 100_000;
/// The longest pause before the output is read again.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Whose a dispatch is, as its admission said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The person.
    pub subject: Option<String>,
    /// The session.
    pub session: Option<String>,
}

/// What the tails heard. Clones share it.
#[derive(Clone)]
pub struct Hub {
    ledger: Arc<RwLock<Ring<LedgerMessage>>>,
    output: Arc<Mutex<Topics>>,
    owners: Arc<Mutex<Owners>>,
    head: watch::Sender<u64>,
    heard: watch::Sender<u64>,
    /// Where the ledger ended when this began to read.
    end: u64,
}

#[derive(Default)]
struct Owners {
    by_dispatch: BTreeMap<String, Owner>,
    order: std::collections::VecDeque<String>,
}

impl Owners {
    fn put(&mut self, dispatch: &str, owner: Owner) {
        if self.by_dispatch.insert(dispatch.to_owned(), owner).is_none() {
            self.order.push_back(dispatch.to_owned());
        }
        while self.order.len() > OWNERS_MAX {
            if let Some(old) = self.order.pop_front() {
                self.by_dispatch.remove(&old);
            }
        }
    }
}

struct Topics {
    by_dispatch: BTreeMap<String, Ring<OutputItem>>,
    bytes: usize,
    /// Chunks after this one of OUTPUT were heard, or are gone by a ring's own mark.
    since: u64,
    /// The newest chunk that was let go with its whole ring: what came before it must be read again.
    dropped: u64,
}

impl Hub {
    /// Hubs hear from here on; `ledger` and `output` are the last sequences that they will not hold.
    pub fn new(ledger: u64, output: u64) -> Hub {
        let topics = Topics { by_dispatch: BTreeMap::new(), bytes: 0, since: output, dropped: output };
        Hub {
            ledger: Arc::new(RwLock::new(Ring::new(ledger, LEDGER_ITEMS_MAX, LEDGER_BYTES_MAX))),
            output: Arc::new(Mutex::new(topics)),
            owners: Arc::default(),
            head: watch::channel(ledger).0,
            heard: watch::channel(output).0,
            end: ledger,
        }
    }

    /// A hub that stands a little before the end of both streams.
    ///
    /// # Errors
    /// When a stream cannot be asked where it ends.
    pub async fn open(log: &dyn Log, output: &dyn OutputPages) -> Result<Hub, LogError> {
        let last = log.last_seq().await?.0;
        let chunks = output.last_seq().await.map_err(|e| LogError::Unavailable(e.to_string()))?;
        Ok(Hub { end: last, ..Hub::new(last.saturating_sub(PRELOAD), chunks) })
    }

    /// Whether a cursor is one of this ledger. After a start what was written before is still being read: a page that
    /// comes back then is ahead of what was heard, and finds its place all the same.
    pub fn reaches(&self, cursor: u64) -> bool {
        cursor <= self.head().max(self.end)
    }

    /// The last sequence of the ledger that was heard.
    pub fn head(&self) -> u64 {
        *self.head.borrow()
    }

    /// Changes with every message of the ledger.
    pub fn heads(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Changes with every chunk of output.
    pub fn chunks(&self) -> watch::Receiver<u64> {
        self.heard.subscribe()
    }

    /// Reads the ledger's ring.
    pub fn ledger<T>(&self, read: impl FnOnce(&Ring<LedgerMessage>) -> T) -> T {
        read(&self.ledger.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chunks of a dispatch after a cursor, at most `max`; `None` when some of them are not held and must be read from
    /// the stream. The flag says whether there are more.
    pub fn output(&self, dispatch: &str, cursor: u64, max: usize) -> Option<(Vec<Arc<OutputItem>>, bool)> {
        let topics = self.topics();
        match topics.by_dispatch.get(dispatch) {
            Some(ring) => {
                let mut items: Vec<_> = ring.after(cursor)?.take(max + 1).cloned().collect();
                let more = items.len() > max;
                items.truncate(max);
                Some((items, more))
            }
            None => (cursor >= topics.dropped).then(|| (Vec::new(), false)),
        }
    }

    /// How many chunks of a dispatch come after a cursor, as far as they are held.
    pub fn output_behind(&self, dispatch: &str, cursor: u64) -> usize {
        self.topics().by_dispatch.get(dispatch).map_or(0, |ring| ring.behind(cursor))
    }

    /// The newest chunk of any dispatch that was heard.
    pub fn last_chunk(&self) -> u64 {
        *self.heard.borrow()
    }

    /// Whose a dispatch is, if its admission was heard or told.
    pub fn owner(&self, dispatch: &str) -> Option<Owner> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).by_dispatch.get(dispatch).cloned()
    }

    /// Remembers whose a dispatch is.
    pub fn own(&self, dispatch: &str, owner: Owner) {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).put(dispatch, owner);
    }

    /// Takes in one message of the ledger.
    pub fn hear(&self, mut message: LedgerMessage) {
        for item in &mut message.items {
            self.attribute(item);
        }
        let seq = message.seq;
        let mut ring = self.ledger.write().unwrap_or_else(PoisonError::into_inner);
        // What is held of before may have the words of somebody whose key is gone: it is read anew, from streams that have not.
        if message.items.iter().any(|item| item.erases) {
            *ring = Ring::new(seq - 1, LEDGER_ITEMS_MAX, LEDGER_BYTES_MAX);
            self.topics().drop_all(self.last_chunk());
        }
        ring.push(Arc::new(message));
        drop(ring);
        self.head.send_replace(seq);
    }

    /// An event that does not say whose it is belongs to whom its dispatch belongs to.
    fn attribute(&self, item: &mut LedgerItem) {
        let Some(dispatch) = &item.dispatch else { return };
        if item.kind == custody_contracts::events::Kind::Dispatch && item.subject.is_some() {
            let known = self.owner(dispatch);
            if known.is_none_or(|o| o.session.is_none()) {
                self.own(dispatch, Owner { subject: item.subject.clone(), session: item.session.clone() });
            }
        }
        if let Some(owner) = self.owner(dispatch) {
            item.subject = item.subject.take().or(owner.subject);
            item.session = item.session.take().or(owner.session);
        }
    }

    /// Takes in one chunk of output.
    pub fn hear_output(&self, dispatch: &str, item: OutputItem) {
        let seq = item.seq;
        let mut topics = self.topics();
        let since = topics.since.max(topics.dropped);
        let ring = topics
            .by_dispatch
            .entry(dispatch.to_owned())
            .or_insert_with(|| Ring::new(since, CHUNKS_MAX, TOPIC_BYTES_MAX));
        let before = ring.bytes();
        ring.push(Arc::new(item));
        let after = ring.bytes();
        topics.bytes = topics.bytes + after - before;
        while topics.bytes > OUTPUT_BYTES_MAX && topics.by_dispatch.len() > 1 {
            topics.drop_quietest();
        }
        drop(topics);
        self.heard.send_replace(seq);
    }

    /// Follows the ledger until cancelled.
    ///
    /// # Errors
    /// [`LogError::Broken`] when it has a hole: nothing after it may be shown.
    pub async fn follow_ledger(self, log: Arc<dyn Log>, cancel: CancellationToken) -> Result<(), LogError> {
        let from = Seq(self.ledger(Ring::since));
        follow(log, from, cancel, move |stored| self.hear(items::ledger(&stored))).await
    }

    /// Follows the output until cancelled; a lost reader is made again where it was.
    pub async fn follow_output(self, pages: Arc<dyn OutputPages>, cancel: CancellationToken) {
        let mut cursor = self.last_chunk();
        let mut backoff = Duration::from_millis(20);
        loop {
            let mut tail = pages.tail(cursor);
            let why = loop {
                let next = tokio::select! {
                    () = cancel.cancelled() => return,
                    next = tail.next() => next,
                };
                match next {
                    Some(Ok((dispatch, stored))) => {
                        cursor = stored.seq;
                        backoff = Duration::from_millis(20);
                        match items::output(&stored) {
                            Some(item) => self.hear_output(&dispatch, item),
                            None => tracing::error!(seq = stored.seq, "unreadable chunk of output skipped"),
                        }
                    }
                    Some(Err(error)) => break error.to_string(),
                    None => break "the reader ended".to_owned(),
                }
            };
            tracing::warn!(after = cursor, why, "output reader lost; reading again");
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Waits for the first event of a dispatch's own entity: whether it was admitted or refused, as JSON.
    pub async fn decision(&self, dispatches: &[&str], after: u64, limit: Duration) -> Option<String> {
        let mut heads = self.heads();
        let found = async {
            loop {
                heads.borrow_and_update();
                let event = self.ledger(|ring| {
                    let messages = ring.after(after.max(ring.since()))?;
                    let mut items = messages.flat_map(|m| &m.items);
                    let is = |item: &&LedgerItem| {
                        item.kind == custody_contracts::events::Kind::Dispatch
                            && item.dispatch.as_deref().is_some_and(|d| dispatches.contains(&d))
                    };
                    items.find(is).map(|item| item.event.clone())
                });
                if event.is_some() || heads.changed().await.is_err() {
                    return event;
                }
            }
        };
        tokio::time::timeout(limit, found).await.ok().flatten()
    }
}

impl Topics {
    fn drop_all(&mut self, heard: u64) {
        self.by_dispatch.clear();
        self.bytes = 0;
        self.dropped = self.dropped.max(heard);
    }

    fn drop_quietest(&mut self) {
        let quietest = self.by_dispatch.iter().min_by_key(|(_, ring)| ring.last_seq());
        let Some(dispatch) = quietest.map(|(d, _)| d.clone()) else { return };
        if let Some(ring) = self.by_dispatch.remove(&dispatch) {
            self.bytes -= ring.bytes();
            self.dropped = self.dropped.max(ring.last_seq().unwrap_or(0));
        }
    }
}

impl Placed for Arc<LedgerMessage> {
    fn seq(&self) -> u64 {
        self.as_ref().seq
    }
    fn bytes(&self) -> usize {
        self.as_ref().bytes()
    }
}

#[cfg(test)]
mod tests;
