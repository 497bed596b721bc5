//! A rule over keys, a signer without a key, and logs that race, forget to answer, or break.

use custody_contracts::canonical::digest;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{KeyEvent, KeyIntroduced, KeyRetired, Kind, LedgerEvent, Role};
use custody_ledger::{Append, AppendError, Decider, Entity, Log, LogError, MemoryLog, Seq, Sign, Stored};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::sync::Mutex;

/// The value of a future that is ready.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("in memory everything is ready at once")
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfKey(pub(crate) KeyEvent);

impl TryFrom<LedgerEvent> for OfKey {
    type Error = ();
    fn try_from(event: LedgerEvent) -> Result<Self, ()> {
        if let LedgerEvent::Key(inner) = event { Ok(OfKey(inner)) } else { Err(()) }
    }
}

impl From<OfKey> for LedgerEvent {
    fn from(event: OfKey) -> Self {
        LedgerEvent::Key(event.0)
    }
}

/// A rule with every kind of outcome: an event, two, none, a refusal.
#[derive(Debug)]
pub(crate) struct Rule;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Do {
    /// One event, always.
    Introduce(&'static str),
    /// One event, or nothing when there is one already.
    IntroduceOnce(&'static str),
    /// Two events.
    Replace(&'static str),
    /// Refused when there are events.
    OnlyWhenNew,
}

impl Decider for Rule {
    type Command = Do;
    type Event = OfKey;
    type State = Vec<OfKey>;
    type Refusal = usize;

    fn decide(state: &Vec<OfKey>, command: Do) -> Result<Vec<OfKey>, usize> {
        Ok(match command {
            Do::Introduce(kid) => vec![OfKey(introduced(kid))],
            Do::IntroduceOnce(_) if !state.is_empty() => Vec::new(),
            Do::IntroduceOnce(kid) => vec![OfKey(introduced(kid))],
            Do::Replace(kid) => vec![OfKey(retired("old")), OfKey(introduced(kid))],
            Do::OnlyWhenNew if state.is_empty() => vec![OfKey(introduced("new"))],
            Do::OnlyWhenNew => return Err(state.len()),
        })
    }

    fn evolve(mut state: Vec<OfKey>, event: &OfKey) -> Vec<OfKey> {
        state.push(event.clone());
        state
    }
}

pub(crate) fn introduced(kid: &str) -> KeyEvent {
    KeyEvent::Introduced(KeyIntroduced {
        kid: kid.into(),
        role: Role::Authority,
        public_key: "ab".repeat(32),
        instance: "test".into(),
    })
}

pub(crate) fn retired(kid: &str) -> KeyEvent {
    KeyEvent::Retired(KeyRetired { kid: kid.into(), why: "test".into() })
}

/// Signs with a digest: enough where nobody verifies.
pub(crate) struct NoKey;

impl Sign for NoKey {
    fn kid(&self) -> &str {
        "k-test"
    }
    fn role(&self) -> Role {
        Role::Authority
    }
    fn sign_hex(&self, bytes: &[u8]) -> String {
        digest(bytes).trim_start_matches("sha256:").repeat(2)
    }
}

pub(crate) fn meta() -> Meta {
    Meta { time: "2026-11-22T21:00:00.000Z".into(), ..Meta::default() }
}

pub(crate) fn entity(id: &str) -> Entity {
    Entity::new(Kind::Key, id).unwrap()
}

/// What goes wrong with an append.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// Somebody else appends first.
    Race,
    /// It is stored, and the answer is lost.
    StoredThen(AppendError),
    /// It is not stored.
    Fails(AppendError),
}

/// A log with troubles, one for each append from the first on.
pub(crate) struct Troubled {
    pub(crate) inner: MemoryLog,
    pub(crate) troubles: Mutex<Vec<Trouble>>,
    pub(crate) load: Option<LogError>,
}

impl Troubled {
    pub(crate) fn new(troubles: &[Trouble]) -> Self {
        let troubles = Mutex::new(troubles.iter().rev().cloned().collect());
        Troubled { inner: MemoryLog::new(), troubles, load: None }
    }
}

impl Log for Troubled {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Seq, AppendError>> {
        let trouble = self.troubles.lock().unwrap().pop();
        match trouble {
            None => self.inner.append(append),
            Some(Trouble::Fails(error)) => Box::pin(async move { Err(error) }),
            Some(Trouble::StoredThen(error)) => {
                now(self.inner.append(append)).expect("it is stored");
                Box::pin(async move { Err(error) })
            }
            Some(Trouble::Race) => {
                let other = format!("other-{}", now(self.inner.last_seq()).unwrap());
                let bytes =
                    custody_ledger::recorded::encode(&NoKey, &other, &[LedgerEvent::Key(introduced("other"))], &meta());
                let before = Append { message_id: other, bytes: bytes.unwrap(), ..append.clone() };
                now(self.inner.append(before)).expect("the other one is first");
                self.inner.append(append)
            }
        }
    }

    fn load<'a>(&'a self, entity: &'a Entity) -> BoxFuture<'a, Result<Vec<Stored>, LogError>> {
        match self.load.clone() {
            Some(error) => Box::pin(async move { Err(error) }),
            None => self.inner.load(entity),
        }
    }

    fn read(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        self.inner.read(from)
    }

    fn tail(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        self.inner.tail(from)
    }

    fn last_seq(&self) -> BoxFuture<'_, Result<Seq, LogError>> {
        self.inner.last_seq()
    }
}
