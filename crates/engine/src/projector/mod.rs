//! The projector role: folds the ledger into projections, keeps disposable snapshots, answers queries. Writes nothing
//! to the ledger and holds nothing that is secret.

mod held;
mod queries;
#[cfg(test)]
mod tests;
mod waiting;

use crate::follow::{follow, read_or_note};
use custody_domain::queue::Caps;
use custody_ledger::{Log, LogError, Seq, Stored};
use custody_ports::requests::Requests;
use custody_ports::snapshots::Snapshots;
use custody_projections::{Audit, Dispatches, Folded, Grants, Inbox, Sessions, Usage, Workspaces, digest};
use futures::StreamExt;
use held::Held;
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use queries::QUERIES;

/// Events between two snapshots while catching up.
const SNAPSHOT_EVENTS: u64 = 5_000;
/// The longest that a change waits for its snapshot.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(2);

/// What a projection is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProjectionFacts {
    /// Its name.
    pub name: String,
    /// Version of its fold.
    pub version: u32,
    /// Last ledger sequence applied.
    pub seq: u64,
    /// How many rows.
    pub rows: usize,
    /// Digest over all rows at that sequence.
    pub digest: String,
}

/// A projection rebuilt from nothing beside the live one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Its name.
    pub name: String,
    /// The sequence at which both were compared.
    pub seq: u64,
    /// Digest of the live one.
    pub live: String,
    /// Digest of the rebuilt one.
    pub rebuilt: String,
    /// Whether they are equal.
    pub equal: bool,
}

/// The projections of this process.
pub(crate) struct All {
    pub(crate) dispatches: Held<Dispatches>,
    pub(crate) sessions: Held<Sessions>,
    pub(crate) usage: Held<Usage>,
    pub(crate) audit: Held<Audit>,
    pub(crate) workspaces: Held<Workspaces>,
    pub(crate) grants: Held<Grants>,
    pub(crate) inbox: Held<Inbox>,
}

impl All {
    fn apply(&mut self, stored: &Stored) {
        let recorded = read_or_note(stored);
        self.dispatches.apply(stored, &recorded);
        self.sessions.apply(stored, &recorded);
        self.usage.apply(stored, &recorded);
        self.audit.apply(stored, &recorded);
        self.workspaces.apply(stored, &recorded);
        self.grants.apply(stored, &recorded);
        self.inbox.apply(stored, &recorded);
    }

    fn oldest(&self) -> Seq {
        let own = self.audit.seq().min(self.workspaces.seq()).min(self.grants.seq()).min(self.inbox.seq());
        self.dispatches.seq().min(self.sessions.seq()).min(self.usage.seq()).min(own)
    }

    fn save(&mut self, store: &dyn Snapshots) {
        self.dispatches.save(store);
        self.sessions.save(store);
        self.usage.save(store);
        self.audit.save(store);
        self.workspaces.save(store);
        self.grants.save(store);
        self.inbox.save(store);
    }
}

/// Everything the projector needs.
#[derive(Clone)]
pub struct Projector {
    /// The ledger.
    pub log: Arc<dyn Log>,
    /// Snapshots.
    pub store: Arc<dyn Snapshots>,
    state: Arc<Mutex<All>>,
    seq: watch::Sender<u64>,
    /// How many boxes run at once, to say what a dispatch waits for.
    caps: Caps,
}

impl Projector {
    /// A projector that begins where its snapshots stand. A snapshot that cannot be read, is of another version or of
    /// another log, or is ahead of the log, is thrown away.
    ///
    /// # Errors
    /// [`LogError`] when the log cannot be read.
    pub async fn open(log: Arc<dyn Log>, store: Arc<dyn Snapshots>) -> Result<Projector, LogError> {
        let last = log.last_seq().await?;
        let genesis = genesis(log.as_ref()).await?;
        let all = All {
            dispatches: Held::open(store.as_ref(), &genesis, last),
            sessions: Held::open(store.as_ref(), &genesis, last),
            usage: Held::open(store.as_ref(), &genesis, last),
            audit: Held::open(store.as_ref(), &genesis, last),
            workspaces: Held::open(store.as_ref(), &genesis, last),
            grants: Held::open(store.as_ref(), &genesis, last),
            inbox: Held::open(store.as_ref(), &genesis, last),
        };
        let seq = watch::channel(all.oldest().0).0;
        Ok(Projector { log, store, state: Arc::new(Mutex::new(all)), seq, caps: Caps::default() })
    }

    /// The same, with the caps that the runtimes keep.
    #[must_use]
    pub fn with_caps(mut self, caps: Caps) -> Projector {
        self.caps = caps;
        self
    }

    pub(crate) fn with<T>(&self, read: impl FnOnce(&mut All) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where each projection stands: its name and the last ledger sequence that it has applied.
    pub fn positions(&self) -> [(&'static str, u64); 3] {
        self.with(|all| {
            [("dispatches", all.dispatches.seq().0), ("sessions", all.sessions.seq().0), ("audit", all.audit.seq().0)]
        })
    }

    /// Folds until cancelled.
    ///
    /// # Errors
    /// [`LogError`] when the log is broken.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), LogError> {
        let from = self.with(|all| all.oldest());
        let mut since_save = 0u64;
        let folder = self.clone();
        let folding = follow(self.log.clone(), from, cancel.clone(), move |stored| {
            since_save += 1;
            folder.with(|all| {
                if changes_a_person(&stored) {
                    all.dispatches.forget_before(&stored, folder.store.as_ref());
                }
                all.apply(&stored);
                if since_save >= SNAPSHOT_EVENTS {
                    all.save(folder.store.as_ref());
                    since_save = 0;
                }
            });
            folder.seq.send_replace(stored.seq.0);
        });
        let saver = self.clone();
        let saving = async move {
            loop {
                tokio::time::sleep(SNAPSHOT_EVERY).await;
                saver.with(|all| all.save(saver.store.as_ref()));
            }
        };
        let result = tokio::select! {
            result = folding => result,
            () = saving => Ok(()),
        };
        self.with(|all| all.save(self.store.as_ref()));
        result
    }

    /// Waits until everything up to `seq` is folded, at most `limit`. True when it is.
    pub async fn caught_up(&self, seq: u64, limit: Duration) -> bool {
        let mut folded = self.seq.subscribe();
        tokio::time::timeout(limit, folded.wait_for(|s| *s >= seq)).await.is_ok_and(|r| r.is_ok())
    }

    /// What each projection is now.
    pub fn facts(&self) -> Vec<ProjectionFacts> {
        self.with(|all| {
            let (dispatches, sessions) = (all.dispatches.facts(), all.sessions.facts());
            let (workspaces, grants, inbox) = (all.workspaces.facts(), all.grants.facts(), all.inbox.facts());
            vec![dispatches, sessions, all.usage.facts(), all.audit.facts(), workspaces, grants, inbox]
        })
    }

    /// Throws a projection's snapshot away and folds it again from the first event; the old one answers until then.
    /// `None` for a name that is no projection's.
    ///
    /// # Errors
    /// [`LogError`] when the log cannot be read.
    pub async fn rebuild(&self, name: &str) -> Result<Option<ProjectionFacts>, LogError> {
        match name {
            "dispatches" => self.rebuild_one(|all| &mut all.dispatches).await.map(Some),
            "sessions" => self.rebuild_one(|all| &mut all.sessions).await.map(Some),
            "usage" => self.rebuild_one(|all| &mut all.usage).await.map(Some),
            "audit" => self.rebuild_one(|all| &mut all.audit).await.map(Some),
            "workspaces" => self.rebuild_one(|all| &mut all.workspaces).await.map(Some),
            "grants" => self.rebuild_one(|all| &mut all.grants).await.map(Some),
            "inbox" => self.rebuild_one(|all| &mut all.inbox).await.map(Some),
            _ => Ok(None),
        }
    }

    async fn rebuild_one<P: Folded>(
        &self,
        pick: impl Fn(&mut All) -> &mut Held<P> + Send,
    ) -> Result<ProjectionFacts, LogError>
    where
        P::State: Send,
    {
        let mut fresh = fold_from_start::<P>(self.log.as_ref(), None).await?;
        loop {
            // The live one may have moved on meanwhile: follow it until both stand at the same place, then swap.
            let live = self.with(|all| pick(all).seq());
            if fresh.1 >= live {
                let done = self.with(|all| {
                    let held = pick(all);
                    (held.seq() == fresh.1).then(|| {
                        if let Err(error) = self.store.wipe(P::NAME) {
                            tracing::warn!(%error, "old snapshot not wiped; it is overwritten");
                        }
                        held.replace(std::mem::take(&mut fresh.0));
                        held.facts()
                    })
                });
                if let Some(facts) = done {
                    return Ok(facts);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            let mut more = self.log.read(fresh.1.next()).await?;
            while let Some(stored) = more.next().await {
                let stored = stored?;
                if stored.seq > live {
                    break;
                }
                read_or_note(&stored).iter().for_each(|r| P::apply(&mut fresh.0, r));
                fresh.1 = stored.seq;
            }
        }
    }

    /// Rebuilds every projection from nothing, beside the live ones, and compares digests.
    ///
    /// # Errors
    /// [`LogError`] when the log cannot be read.
    pub async fn verify(&self) -> Result<Vec<Verified>, LogError> {
        let live = self.facts();
        let mut out = Vec::new();
        for facts in live {
            let at = Some(Seq(facts.seq));
            let rebuilt = match facts.name.as_str() {
                "dispatches" => {
                    fold_from_start::<Dispatches>(self.log.as_ref(), at).await.map(|f| digest::<Dispatches>(&f.0, f.1))
                }
                "sessions" => {
                    fold_from_start::<Sessions>(self.log.as_ref(), at).await.map(|f| digest::<Sessions>(&f.0, f.1))
                }
                "usage" => fold_from_start::<Usage>(self.log.as_ref(), at).await.map(|f| digest::<Usage>(&f.0, f.1)),
                "inbox" => fold_from_start::<Inbox>(self.log.as_ref(), at).await.map(|f| digest::<Inbox>(&f.0, f.1)),
                "workspaces" => {
                    let fresh = fold_from_start::<Workspaces>(self.log.as_ref(), at).await;
                    fresh.map(|f| digest::<Workspaces>(&f.0, f.1))
                }
                "grants" => fold_from_start::<Grants>(self.log.as_ref(), at).await.map(|f| digest::<Grants>(&f.0, f.1)),
                _ => fold_from_start::<Audit>(self.log.as_ref(), at).await.map(|f| digest::<Audit>(&f.0, f.1)),
            }?;
            let equal = rebuilt == facts.digest;
            out.push(Verified { name: facts.name, seq: facts.seq, live: facts.digest, rebuilt, equal });
        }
        Ok(out)
    }

    /// Answers queries until cancelled.
    pub async fn serve(self, requests: Arc<dyn Requests>, cancel: CancellationToken) {
        queries::serve(self, requests, cancel).await;
    }
}

/// Whether a message says what became of a person's key. Only dispatches hold words of persons.
fn changes_a_person(stored: &Stored) -> bool {
    stored.log_subject.starts_with("ledger.key.person-")
}

/// Digest of the first message: which log this is.
async fn genesis(log: &dyn Log) -> Result<String, LogError> {
    let mut first = log.read(Seq(1)).await?;
    match first.next().await {
        Some(stored) => Ok(custody_contracts::canonical::digest(&stored?.bytes)),
        None => Ok(String::new()),
    }
}

/// Folds a projection from the first event to `until`, or to the end.
///
/// # Errors
/// [`LogError`] when the log cannot be read.
pub async fn fold_from_start<P: Folded>(log: &dyn Log, until: Option<Seq>) -> Result<(P::State, Seq), LogError> {
    let mut state = P::State::default();
    let mut seq = Seq(0);
    if until == Some(seq) {
        return Ok((state, seq));
    }
    let mut messages = log.read(Seq(1)).await?;
    while let Some(stored) = messages.next().await {
        let stored = stored?;
        read_or_note(&stored).iter().for_each(|r| P::apply(&mut state, r));
        seq = stored.seq;
        if until.is_some_and(|u| seq >= u) {
            break;
        }
    }
    Ok((state, seq))
}
