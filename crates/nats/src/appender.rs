//! Appends to the ledger: alone when few wait, coalesced into atomic batches (NATS ADR-50) when many do, because the
//! server syncs a batch once but every single publish for itself. Must never answer a caller before its message is
//! durable, and never with another caller's sequence.

use crate::connect::{Connection, REQUEST_TIMEOUT};
use crate::wire::{ApiError, AskError, PubAck, RawMessage, code, pub_ack};
use async_nats::HeaderMap;
use custody_contracts::envelope::MESSAGE_BYTES_MAX;
use custody_ledger::{Append, AppendError, Seq};
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::json;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// Appends that may wait; more callers wait for a place.
pub const QUEUE_MAX: usize = 4096;
/// Appends that go their own way, without a queue, before the rest is coalesced: a lone caller pays no hop.
pub const SINGLES_MAX: usize = 1;
/// The least that is worth a batch: a batch costs a few syncs whatever its size, so below it single publishes are as
/// fast (measured with 2.15.1 and `sync_interval: always`: 8 to 10).
pub const BATCH_MIN: usize = 8;
/// The most in one batch. The server's own limit is 1000; 512 gave a tenth more at 1024 callers and nothing at 256.
pub const BATCH_MAX: usize = 256;
/// Batches on their way at the same time. One is a little faster; with two, a batch that fails or waits for an answer
/// that never comes does not hold up everybody else.
pub const BATCHES_MAX: usize = 2;
/// How long an append may wait for its turn; after that its caller is told that nothing was sent.
pub const QUEUE_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a batch may take: handing it to the client can wait as well while the connection is down.
const BATCH_TIMEOUT: Duration = REQUEST_TIMEOUT;
/// How often one append is sent when no answer comes.
pub const SENDS_MAX: u32 = 3;
/// The longest message id in bytes.
pub const MESSAGE_ID_BYTES_MAX: usize = 128;
/// The most messages of one entity that are searched or loaded.
pub const HISTORY_MAX: usize = 10_000;

struct Waiting {
    append: Append,
    answer: oneshot::Sender<Result<Seq, AppendError>>,
    since: Instant,
}

/// Cloneable handle of the task that coalesces.
#[derive(Debug, Clone)]
pub(crate) struct Appender {
    connection: Connection,
    stream: Arc<str>,
    queue: mpsc::Sender<Waiting>,
    singles: Arc<Semaphore>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.append.message_id)
    }
}

impl Appender {
    /// Starts the task; it ends with the last handle.
    pub(crate) fn start(connection: Connection, stream: &str) -> Appender {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let stream: Arc<str> = stream.into();
        tokio::spawn(coalesce(connection.clone(), stream.clone(), waiting));
        Appender { connection, stream, queue, singles: Arc::new(Semaphore::new(SINGLES_MAX)) }
    }

    pub(crate) async fn append(&self, append: Append) -> Result<Seq, AppendError> {
        check(&append)?;
        if let Ok(_permit) = self.singles.try_acquire() {
            return append_one(&self.connection, &self.stream, &append).await;
        }
        let (answer, answered) = oneshot::channel();
        let gone = || AppendError::Unavailable("the appender has ended".to_owned());
        let waiting = Waiting { append, answer, since: Instant::now() };
        let queued = tokio::time::timeout(QUEUE_WAIT_MAX, self.queue.send(waiting)).await;
        queued.map_err(|_| overdue())?.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn overdue() -> AppendError {
    AppendError::Unavailable(format!("not sent: waited longer than {} s for its turn", QUEUE_WAIT_MAX.as_secs()))
}

fn check(append: &Append) -> Result<(), AppendError> {
    if append.bytes.len() > MESSAGE_BYTES_MAX {
        return Err(AppendError::TooLarge { bytes: append.bytes.len(), max: MESSAGE_BYTES_MAX });
    }
    let id = &append.message_id;
    if id.is_empty() || id.len() > MESSAGE_ID_BYTES_MAX || !id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(AppendError::Refused("a message id is 1 to 128 printable ASCII characters".to_owned()));
    }
    Ok(())
}

/// Drains the queue into batches of different entities until every handle is gone.
async fn coalesce(connection: Connection, stream: Arc<str>, mut waiting: mpsc::Receiver<Waiting>) {
    let mut pending: VecDeque<Waiting> = VecDeque::new();
    // Entities of the batches under way: a second append of one would make its batch fail.
    let mut busy: BTreeSet<String> = BTreeSet::new();
    let mut flying = FuturesUnordered::new();
    let mut open = true;
    while open || !pending.is_empty() || !flying.is_empty() {
        while flying.len() < BATCHES_MAX {
            let batch = pick(&mut pending, &mut busy, Instant::now());
            if batch.is_empty() {
                break;
            }
            flying.push(tokio::spawn(send(connection.clone(), stream.clone(), batch)));
        }
        tokio::select! {
            Some(done) = flying.next(), if !flying.is_empty() => match done {
                Ok(entities) => entities.iter().for_each(|e| { busy.remove(e); }),
                Err(error) => {
                    // Its callers have seen their channel close; which entities were its own is lost with it.
                    tracing::error!(%error, "a batch ended early");
                    busy.clear();
                }
            },
            first = waiting.recv(), if open && pending.len() < QUEUE_MAX => match first {
                Some(first) => {
                    pending.push_back(first);
                    while pending.len() < QUEUE_MAX
                        && let Ok(more) = waiting.try_recv()
                    {
                        pending.push_back(more);
                    }
                }
                None => open = false,
            },
        }
    }
}

/// Takes the oldest appends, at most one of each entity and none of an entity that is busy; those that waited for too
/// long are answered instead.
fn pick(pending: &mut VecDeque<Waiting>, busy: &mut BTreeSet<String>, now: Instant) -> Vec<Waiting> {
    let mut batch = Vec::new();
    let mut kept = VecDeque::with_capacity(pending.len());
    while let Some(waiting) = pending.pop_front() {
        if now.saturating_duration_since(waiting.since) > QUEUE_WAIT_MAX {
            // Its caller may have stopped waiting.
            let _ = waiting.answer.send(Err(overdue()));
        } else if batch.len() < BATCH_MAX && busy.insert(waiting.append.entity.log_subject()) {
            batch.push(waiting);
        } else {
            kept.push_back(waiting);
        }
    }
    *pending = kept;
    batch
}

/// Sends what was picked and answers every caller; returns the entities.
async fn send(connection: Connection, stream: Arc<str>, batch: Vec<Waiting>) -> Vec<String> {
    let entities = batch.iter().map(|w| w.append.entity.log_subject()).collect();
    if batch.len() >= BATCH_MIN {
        let sent = tokio::time::timeout(BATCH_TIMEOUT, send_batch(&connection, &stream, &batch)).await;
        let late = |_| ApiError::Ask(AskError::TimedOut("a batch".to_owned()));
        match sent.map_err(late).and_then(|sent| sent) {
            Ok(first) => {
                for (offset, waiting) in (0u64..).zip(batch) {
                    // A caller that stopped waiting needs no answer; its message is stored all the same.
                    let _ = waiting.answer.send(Ok(Seq(first + offset)));
                }
                return entities;
            }
            // One stale expectation fails all; alone, each gets its own answer. When no answer came, the batch may be
            // stored, and each finds its own message there.
            Err(error) => tracing::debug!(%error, size = batch.len(), "batch not stored; sending singly"),
        }
    }
    let (connection, stream) = (&connection, &stream);
    let mut singles: FuturesUnordered<_> = batch
        .into_iter()
        .map(|waiting| async move {
            let result = append_one(connection, stream, &waiting.append).await;
            // A caller that stopped waiting needs no answer; the fate of its message is the same.
            let _ = waiting.answer.send(result);
        })
        .collect();
    while singles.next().await.is_some() {}
    entities
}

/// Stores a batch whole or not at all and returns its first sequence. Source: NATS ADR-50.
async fn send_batch(connection: &Connection, stream: &str, batch: &[Waiting]) -> Result<u64, ApiError> {
    let id = connection.unique();
    let lost = |e: &dyn std::fmt::Display| ApiError::Ask(AskError::Lost(e.to_string()));
    let Some((last, before)) = batch.split_last() else {
        return Err(ApiError::Malformed("an empty batch".to_owned()));
    };
    for (index, waiting) in (1u64..).zip(before) {
        let mut headers = headers_of(stream, &waiting.append);
        headers.insert("Nats-Batch-Id", id.as_str());
        headers.insert("Nats-Batch-Sequence", index.to_string());
        let subject = waiting.append.entity.log_subject();
        let payload = waiting.append.bytes.clone().into();
        connection.client().publish_with_headers(subject, headers, payload).await.map_err(|e| lost(&e))?;
    }
    let mut headers = headers_of(stream, &last.append);
    headers.insert("Nats-Batch-Id", id.as_str());
    headers.insert("Nats-Batch-Sequence", batch.len().to_string());
    headers.insert("Nats-Batch-Commit", "1");
    let subject = last.append.entity.log_subject();
    let answer = connection.ask(&subject, Some(headers), last.append.bytes.clone().into(), REQUEST_TIMEOUT).await?;
    let ack = pub_ack(&answer.payload)?;
    let size = batch.len() as u64;
    if ack.stream != stream || ack.batch.as_deref() != Some(id.as_str()) || ack.count != Some(size) || ack.seq < size {
        return Err(ApiError::Malformed("the ack is not of this batch".to_owned()));
    }
    Ok(ack.seq - size + 1)
}

fn headers_of(stream: &str, append: &Append) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", append.message_id.as_str());
    headers.insert("Nats-Expected-Stream", stream);
    headers.insert("Nats-Expected-Last-Subject-Sequence", append.expected.value().to_string());
    headers
}

/// Sends one append until its fate is known, at most [`SENDS_MAX`] times.
pub(crate) async fn append_one(connection: &Connection, stream: &str, append: &Append) -> Result<Seq, AppendError> {
    let subject = append.entity.log_subject();
    let mut last = String::new();
    for _ in 0..SENDS_MAX {
        let headers = headers_of(stream, append);
        let payload = append.bytes.clone().into();
        let sent = match connection.ask(&subject, Some(headers), payload, REQUEST_TIMEOUT).await {
            Ok(answer) => pub_ack(&answer.payload),
            Err(error) => Err(error.into()),
        };
        match sent {
            Ok(ack) if ack.duplicate => return duplicate(connection, stream, append, &ack).await,
            Ok(ack) => return Ok(Seq(ack.seq)),
            Err(error) => match fate(error, append) {
                Fate::Known(error) => return Err(error),
                Fate::Moved => return resolve(connection, stream, append).await,
                // Sent again under the same id and expectation: whichever copy comes first wins, the other moves.
                Fate::Unknown(why) => last = why,
            },
        }
    }
    Err(AppendError::Unavailable(last))
}

enum Fate {
    Known(AppendError),
    Moved,
    Unknown(String),
}

fn fate(error: ApiError, append: &Append) -> Fate {
    let full = |description: String| Fate::Known(AppendError::Full(description));
    match error {
        ApiError::Api { code, description } => match code {
            code::WRONG_LAST_SEQUENCE | code::WRONG_LAST_SEQUENCE_IN_FLIGHT => Fate::Moved,
            code::STORE_FAILED
            | code::ACCOUNT_STORAGE_EXCEEDED
            | code::STORAGE_EXCEEDED
            | code::INSUFFICIENT_RESOURCES => full(description),
            code::MESSAGE_TOO_LARGE => {
                Fate::Known(AppendError::TooLarge { bytes: append.bytes.len(), max: MESSAGE_BYTES_MAX })
            }
            code::TOO_MANY_REQUESTS => Fate::Unknown(description),
            code if code::UNAVAILABLE.contains(&code) => Fate::Unknown(description),
            code => Fate::Known(AppendError::Refused(format!("{description} ({code})"))),
        },
        ApiError::Ask(AskError::Refused(subject)) => {
            Fate::Known(AppendError::Refused(format!("this role may not publish {subject}")))
        }
        ApiError::Ask(AskError::TooLarge { bytes }) => {
            Fate::Known(AppendError::TooLarge { bytes, max: MESSAGE_BYTES_MAX })
        }
        other => Fate::Unknown(other.to_string()),
    }
}

/// The server knows the id: ours if it is on our entity. Ids are stream-wide there.
async fn duplicate(connection: &Connection, stream: &str, append: &Append, ack: &PubAck) -> Result<Seq, AppendError> {
    let unavailable = |e: ApiError| AppendError::Unavailable(e.to_string());
    let stored = connection.leader_get(stream, &json!({ "seq": ack.seq })).await.map_err(unavailable)?;
    if stored.is_some_and(|s| s.subject == append.entity.log_subject()) {
        return Ok(Seq(ack.seq));
    }
    Err(AppendError::Refused(format!("message id {} belongs to another entity", append.message_id)))
}

/// The entity moved: by us, when an ack was lost, or by somebody else.
async fn resolve(connection: &Connection, stream: &str, append: &Append) -> Result<Seq, AppendError> {
    let subject = append.entity.log_subject();
    let ours = |m: &RawMessage| m.message_id.as_deref() == Some(append.message_id.as_str());
    let unavailable = |e: ApiError| AppendError::Unavailable(e.to_string());
    let last = connection.leader_get(stream, &json!({ "last_by_subj": subject })).await.map_err(unavailable)?;
    let actual = last.as_ref().map_or(0, |m| m.seq);
    if let Some(last) = last.filter(ours) {
        return Ok(Seq(last.seq));
    }
    // Others appended after us, so ours is further back; how far is not known when an old command comes again.
    let mut from = 1;
    for _ in 0..HISTORY_MAX {
        let query = json!({ "seq": from, "next_by_subj": subject });
        match connection.leader_get(stream, &query).await.map_err(unavailable)? {
            Some(message) if ours(&message) => return Ok(Seq(message.seq)),
            Some(message) => from = message.seq + 1,
            None => break,
        }
    }
    Err(AppendError::Conflict { entity: subject, expected: append.expected.value(), actual: Some(actual) })
}

#[cfg(test)]
mod tests {
    use super::{BATCH_MAX, QUEUE_WAIT_MAX, Waiting, check, pick};
    use custody_contracts::envelope::MESSAGE_BYTES_MAX;
    use custody_contracts::events::Kind;
    use custody_ledger::{Append, AppendError, Entity, Expected, Seq};
    use std::collections::{BTreeSet, VecDeque};
    use std::time::Duration;
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    type Answer = oneshot::Receiver<Result<Seq, AppendError>>;

    fn append(id: &str, message_id: &str) -> Append {
        let entity = Entity::new(Kind::Run, id).unwrap();
        Append { entity, expected: Expected::NEW, message_id: message_id.to_owned(), bytes: Vec::new() }
    }

    fn waiting(ids: &[&str], since: Instant) -> (VecDeque<Waiting>, Vec<Answer>) {
        let one = |(n, id): (usize, &&str)| {
            let (answer, answered) = oneshot::channel();
            (Waiting { append: append(id, &n.to_string()), answer, since }, answered)
        };
        ids.iter().enumerate().map(one).unzip()
    }

    fn names(waiting: impl IntoIterator<Item = Waiting>) -> Vec<String> {
        waiting.into_iter().map(|w| [&w.append.entity.id, "/", &w.append.message_id].concat()).collect()
    }

    #[rstest::rstest]
    #[case::different(&["a", "b", "c"], &[], &["a/0", "b/1", "c/2"], &[])]
    #[case::the_same_twice(&["a", "b", "a"], &[], &["a/0", "b/1"], &["a/2"])]
    #[case::busy(&["a", "b", "a"], &["a"], &["b/1"], &["a/0", "a/2"])]
    #[case::nothing(&[], &["a"], &[], &[])]
    #[case::only_busy(&["a"], &["a"], &[], &["a/0"])]
    fn a_batch_has_each_entity_once(
        #[case] ids: &[&str],
        #[case] busy: &[&str],
        #[case] batch: &[&str],
        #[case] left: &[&str],
    ) {
        let now = Instant::now();
        let (mut pending, _answers) = waiting(ids, now);
        let mut busy: BTreeSet<String> = busy.iter().map(|id| append(id, "").entity.log_subject()).collect();
        assert_eq!(names(pick(&mut pending, &mut busy, now)), batch);
        assert_eq!(names(pending), left);
    }

    #[test]
    fn a_batch_ends_at_its_maximum_and_marks_only_what_it_took() {
        let now = Instant::now();
        let ids: Vec<String> = (0..=BATCH_MAX).map(|n| format!("e-{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let (mut pending, _answers) = waiting(&ids, now);
        let mut busy = BTreeSet::new();
        assert_eq!(pick(&mut pending, &mut busy, now).len(), BATCH_MAX);
        assert_eq!((pending.len(), busy.len()), (1, BATCH_MAX));
        assert_eq!(pick(&mut pending, &mut busy, now).len(), 1);
    }

    #[test]
    fn who_waited_too_long_is_told_so_and_not_sent() {
        let since = Instant::now();
        let (mut pending, mut answers) = waiting(&["a"], since);
        let mut busy = BTreeSet::new();
        assert!(pick(&mut pending, &mut busy, since + QUEUE_WAIT_MAX + Duration::from_millis(1)).is_empty());
        assert!(matches!(answers[0].try_recv(), Ok(Err(AppendError::Unavailable(_)))));
        assert!(pending.is_empty() && busy.is_empty());
        let (mut pending, _answers) = waiting(&["a"], since);
        assert_eq!(pick(&mut pending, &mut busy, since + QUEUE_WAIT_MAX).len(), 1);
    }

    #[rstest::rstest]
    #[case::plain("m-1", 10, true)]
    #[case::longest(&"m".repeat(128), MESSAGE_BYTES_MAX, true)]
    #[case::too_long(&"m".repeat(129), 10, false)]
    #[case::empty("", 10, false)]
    #[case::header_injection("m\r\nNats-Rollup: all", 10, false)]
    #[case::space("m 1", 10, false)]
    #[case::too_large("m-1", MESSAGE_BYTES_MAX + 1, false)]
    fn what_may_be_sent(#[case] message_id: &str, #[case] bytes: usize, #[case] good: bool) {
        let append = Append { bytes: vec![0; bytes], ..append("a", message_id) };
        assert_eq!(check(&append).is_ok(), good);
    }
}
