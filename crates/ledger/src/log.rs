//! The log port: append under an expectation, load one entity, read everything in order.
//!
//! The same conformance suite (`testkit::conformance`) runs over the in-memory log and over JetStream.

use custody_contracts::events::Kind;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::fmt;

/// A stream sequence: 1 for the first message of a log. Never a count, never compared with an attempt or a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Seq {
    /// The one after this.
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

/// One entity: `ledger.<kind>.<id>`. The id is a log-subject token, checked when it was made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: String,
}

impl Entity {
    /// An entity of a kind; `None` if the id is not 1 to 80 characters of `[a-z0-9_-]`.
    pub fn new(kind: Kind, id: &str) -> Option<Entity> {
        let ok = !id.is_empty()
            && id.len() <= 80
            && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        ok.then(|| Entity { kind, id: id.to_owned() })
    }

    /// The log subject.
    pub fn log_subject(&self) -> String {
        ["ledger", self.kind.as_str(), &self.id].join(".")
    }

    /// The entity of a log subject.
    pub fn parse(log_subject: &str) -> Option<Entity> {
        let mut tokens = log_subject.split('.');
        match (tokens.next(), tokens.next(), tokens.next(), tokens.next()) {
            (Some("ledger"), Some(kind), Some(id), None) => Entity::new(Kind::parse(kind)?, id),
            _ => None,
        }
    }
}

/// The last sequence that the entity must have: [`Expected::NEW`] means that it must not exist. Made from a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected(u64);

impl Expected {
    /// The entity must be new.
    pub const NEW: Expected = Expected(0);

    /// After the last message of what was loaded.
    pub fn after(history: &[Stored]) -> Expected {
        Expected(history.last().map_or(0, |s| s.seq.0))
    }

    /// After exactly this message.
    pub fn at(seq: Seq) -> Expected {
        Expected(seq.0)
    }

    /// The header's value: 0 for a new entity.
    pub fn value(self) -> u64 {
        self.0
    }
}

/// One message to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// To which entity.
    pub entity: Entity,
    /// Under which expectation.
    pub expected: Expected,
    /// Derived from the command, so that a retry is recognised; at most 128 bytes.
    pub message_id: String,
    /// The bytes to store.
    pub bytes: Vec<u8>,
}

/// One stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the log.
    pub seq: Seq,
    /// `ledger.<kind>.<id>`.
    pub log_subject: String,
    /// The id it was appended under.
    pub message_id: Option<String>,
    /// Exactly the bytes that were appended: leaf `seq - 1` of the tree is their hash.
    pub bytes: Vec<u8>,
}

/// Why an append did not happen, or is not known to have happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Somebody appended before; load again and decide again.
    #[error("{entity} moved: expected sequence {expected}, found {actual:?}")]
    Conflict {
        /// The log subject.
        entity: String,
        /// What was expected.
        expected: u64,
        /// What is there, when known.
        actual: Option<u64>,
    },
    /// The log is full; it refuses rather than forgets.
    #[error("the log is full: {0}")]
    Full(String),
    /// The message is larger than the log takes.
    #[error("message of {bytes} bytes is larger than {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The server refused for another reason, for example a missing permission.
    #[error("the log refused: {0}")]
    Refused(String),
    /// No answer came in time. It may have been stored; a retry with the same id is safe.
    #[error("the log did not answer: {0}")]
    Unavailable(String),
}

/// Why a read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Not reachable; back off and retry.
    #[error("the log is not reachable: {0}")]
    Unavailable(String),
    /// What came back breaks the order or is gone.
    #[error("the log is broken at sequence {seq}: {why}")]
    Broken {
        /// Where.
        seq: u64,
        /// How.
        why: String,
    },
}

/// The ledger, as loops and rules see it.
pub trait Log: Send + Sync {
    /// Appends one message under its expectation and returns its sequence when it is durable. Safe to call again with
    /// the same message id: the same sequence comes back.
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Seq, AppendError>>;

    /// Everything of one entity, oldest first, read from the leader.
    fn load<'a>(&'a self, entity: &'a Entity) -> BoxFuture<'a, Result<Vec<Stored>, LogError>>;

    /// Everything from a sequence on, in order, without gaps, ending at the last message that existed at the call.
    fn read(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>>;

    /// Everything from a sequence on, in order, without gaps, and then what comes; ends only with an error.
    fn tail(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>>;

    /// The last sequence; 0 for an empty log. [`LogError::Broken`] when the log does not hold everything up to there, at
    /// sequence 0 when it is not there at all.
    fn last_seq(&self) -> BoxFuture<'_, Result<Seq, LogError>>;
}
