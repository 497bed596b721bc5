//! Fakes behind the ports: a clock that is set, blobs and output in memory, and containers that are data. Never in place
//! of the thing that a claim is about: the claims about boxes are made by live tests.

use custody_contracts::canonical::digest;
use custody_contracts::ids::{Subject, UnixMillis};
use custody_ports::blobs::{BlobError, Blobs};
use custody_ports::clock::{Clock, Forward};
use custody_ports::containers::{
    BoxError, BoxSet, BoxSpec, BoxState, BoxStatus, Containers, End, EngineFacts, Listening,
};
use custody_ports::inputs::Inputs;
use custody_ports::output::{Output, OutputError, StoredChunk};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock that moves only when it is told to, and shows what the real one would.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall: AtomicU64,
    up: AtomicU64,
    shown: Mutex<Forward>,
}

impl ManualClock {
    /// A clock that stands at this time.
    pub fn at(ms: u64) -> Self {
        let clock = ManualClock { wall: AtomicU64::new(ms), ..ManualClock::default() };
        clock.now();
        clock
    }

    /// Time goes by.
    pub fn advance(&self, ms: u64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
        self.up.fetch_add(ms, Ordering::SeqCst);
    }

    /// Somebody sets the machine's clock back, and no time goes by.
    pub fn move_back(&self, ms: u64) {
        // It is looked at all the time; only what was shown cannot be taken back.
        self.now();
        self.wall.fetch_sub(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        let (wall, up) = (self.wall.load(Ordering::SeqCst), self.up.load(Ordering::SeqCst));
        lock(&self.shown).read(UnixMillis(wall), up)
    }
}

/// Blobs in memory.
#[derive(Debug, Default)]
pub struct MemoryBlobs(Mutex<BTreeMap<String, Vec<u8>>>);

impl Blobs for MemoryBlobs {
    fn put<'a>(&'a self, _of: &'a Subject, bytes: Vec<u8>) -> BoxFuture<'a, Result<String, BlobError>> {
        let name = digest(&bytes);
        lock(&self.0).insert(name.clone(), bytes);
        Box::pin(async move { Ok(name) })
    }
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<u8>, BlobError>> {
        let found = lock(&self.0).get(name).cloned();
        Box::pin(async move { found.ok_or_else(|| BlobError::Missing(name.to_owned())) })
    }
}

/// Output topics in memory, with failures to order.
#[derive(Debug, Default)]
pub struct MemoryOutput {
    chunks: Mutex<Vec<(String, String, StoredChunk)>>,
    /// The next so many appends are not answered; whether they were stored is the flag's.
    failing: Mutex<Vec<Stored>>,
    /// Launcher, dispatch and chunk of everything that a launcher was told.
    told: Mutex<Vec<(String, String, Vec<u8>)>>,
    /// Dispatch and words of every follow-up that was kept.
    inputs: Mutex<Vec<(String, Vec<u8>)>>,
}

/// What an append that is not answered did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It was stored before the answer was lost.
    Yes,
    /// It never arrived.
    No,
}

impl MemoryOutput {
    /// The next appends are not answered, in this order.
    pub fn fail_next(&self, failures: &[Stored]) {
        lock(&self.failing).extend_from_slice(failures);
    }

    /// Launcher, dispatch and chunk of everything that a launcher was told, in order.
    pub fn told(&self) -> Vec<(String, String, Vec<u8>)> {
        lock(&self.told).clone()
    }

    fn put(&self, dispatch: &str, last_seq: u64, id: &str, bytes: Vec<u8>) -> Result<u64, OutputError> {
        let mut chunks = lock(&self.chunks);
        if let Some((_, _, same)) = chunks.iter().find(|(d, i, _)| d == dispatch && i == id) {
            return Ok(same.seq);
        }
        let last = chunks.iter().rev().find(|(d, _, _)| d == dispatch).map_or(0, |(_, _, c)| c.seq);
        if last != last_seq {
            return Err(OutputError::Conflict(dispatch.to_owned()));
        }
        let seq = chunks.len() as u64 + 1;
        chunks.push((dispatch.to_owned(), id.to_owned(), StoredChunk { seq, bytes }));
        Ok(seq)
    }

    fn of(&self, dispatch: &str) -> Vec<StoredChunk> {
        lock(&self.chunks).iter().filter(|(d, _, _)| d == dispatch).map(|(_, _, c)| c.clone()).collect()
    }
}

impl Output for MemoryOutput {
    fn append<'a>(
        &'a self,
        dispatch: &'a str,
        last_seq: u64,
        message_id: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<u64, OutputError>> {
        let mut failing = lock(&self.failing);
        let failure = (!failing.is_empty()).then(|| failing.remove(0));
        drop(failing);
        let result = match failure {
            Some(Stored::No) => Err(OutputError::Unavailable("ordered".into())),
            Some(Stored::Yes) => match self.put(dispatch, last_seq, message_id, bytes) {
                Ok(_) => Err(OutputError::Unavailable("stored, not answered".into())),
                Err(error) => Err(error),
            },
            None => self.put(dispatch, last_seq, message_id, bytes),
        };
        Box::pin(async move { result })
    }
    fn tell<'a>(
        &'a self,
        launcher: &'a str,
        dispatch: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<(), OutputError>> {
        lock(&self.told).push((launcher.to_owned(), dispatch.to_owned(), bytes));
        Box::pin(async { Ok(()) })
    }
    fn last<'a>(&'a self, dispatch: &'a str) -> BoxFuture<'a, Result<Option<StoredChunk>, OutputError>> {
        let last = self.of(dispatch).pop();
        Box::pin(async move { Ok(last) })
    }
    fn all<'a>(&'a self, dispatch: &'a str) -> BoxFuture<'a, Result<Vec<StoredChunk>, OutputError>> {
        let all = self.of(dispatch);
        Box::pin(async move { Ok(all) })
    }
    fn follow<'a>(
        &'a self,
        dispatch: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<StoredChunk, OutputError>>, OutputError>> {
        let all: Vec<_> = self.of(dispatch).into_iter().map(Ok).collect();
        Box::pin(async move { Ok(futures::stream::iter(all).chain(futures::stream::pending()).boxed()) })
    }
}

impl Inputs for MemoryOutput {
    fn keep<'a>(&'a self, dispatch: &'a str, _: &'a str, bytes: Vec<u8>) -> BoxFuture<'a, Result<u64, OutputError>> {
        let mut inputs = lock(&self.inputs);
        inputs.push((dispatch.to_owned(), bytes));
        let seq = inputs.len() as u64;
        Box::pin(async move { Ok(seq) })
    }
    fn at<'a>(&'a self, dispatch: &'a str, seq: u64) -> BoxFuture<'a, Result<Option<Vec<u8>>, OutputError>> {
        let inputs = lock(&self.inputs);
        let index = usize::try_from(seq).unwrap_or(usize::MAX).wrapping_sub(1);
        let found = inputs.get(index).filter(|(d, _)| d == dispatch).map(|(_, bytes)| bytes.clone());
        Box::pin(async move { Ok(found) })
    }
}

/// Containers that are data. A box runs until the test ends it, unless it was made to end at its start.
#[derive(Debug, Default)]
pub struct FakeContainers {
    boxes: Mutex<BTreeMap<String, BoxStatus>>,
    /// Counts changes of boxes, for those that listen for an end.
    changes: watch::Sender<u64>,
    /// What was asked, in order: the call and the box.
    calls: Mutex<Vec<String>>,
    created: Mutex<Vec<String>>,
    images: Mutex<Vec<String>>,
    ends_at_once: Mutex<Option<i64>>,
    /// How many looks at a box that has ended do not tell yet that it was for memory.
    oom_after: Mutex<Option<u32>>,
    makes_ahead: bool,
}

impl FakeContainers {
    /// An engine that has these images.
    pub fn with_images(images: &[&str]) -> Self {
        let fake = FakeContainers::default();
        *lock(&fake.images) = images.iter().map(|i| (*i).to_owned()).collect();
        fake
    }

    /// Every box ends with this code as soon as it starts.
    pub fn ending_at_once(self, code: i64) -> Self {
        *lock(&self.ends_at_once) = Some(code);
        self
    }

    /// Boxes may be made ahead of their claims.
    pub fn making_ahead(self) -> Self {
        FakeContainers { makes_ahead: true, ..self }
    }

    /// Every box that ends was killed for memory, which this many looks do not tell yet.
    pub fn telling_of_oom_after(self, looks: u32) -> Self {
        *lock(&self.oom_after) = Some(looks);
        self
    }

    /// Names of all boxes that were ever created, in order.
    pub fn created(&self) -> Vec<String> {
        lock(&self.created).clone()
    }

    /// Names of the boxes that exist.
    pub fn existing(&self) -> Vec<String> {
        lock(&self.boxes).keys().cloned().collect()
    }

    /// Puts a box there that nobody of ours created.
    pub fn plant(&self, status: BoxStatus) {
        lock(&self.boxes).insert(status.name.clone(), status);
        self.changed("plant", "");
    }

    /// What was asked of one box, in order: `create`, `listen next`, `listen any`, `start`, `inspect`, `stop`, `remove`.
    pub fn calls(&self, name: &str) -> Vec<String> {
        let of = |call: &String| call.strip_suffix(name).and_then(|call| call.strip_suffix(' ')).map(str::to_owned);
        lock(&self.calls).iter().filter_map(of).collect()
    }

    fn note(&self, call: &str, name: &str) {
        lock(&self.calls).push([call, " ", name].concat());
    }

    fn changed(&self, call: &str, name: &str) {
        self.note(call, name);
        self.changes.send_modify(|n| *n += 1);
    }

    /// Whether somebody who listens for the end of a box hears something now. As of the real engine: of a box that has
    /// ended before one listened for its next end, nothing.
    fn heard(&self, name: &str, end: End, ended_before: bool) -> bool {
        match (lock(&self.boxes).get(name).map(|status| &status.state), end) {
            (None, _) => true,
            (Some(BoxState::Exited { .. }), End::Next) => !ended_before,
            (Some(BoxState::Exited { .. } | BoxState::Created), End::Any) => true,
            (Some(BoxState::Created | BoxState::Running), _) => false,
        }
    }
}

impl Containers for FakeContainers {
    fn has_image<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<bool, BoxError>> {
        let has = lock(&self.images).iter().any(|i| i == image);
        Box::pin(async move { Ok(has) })
    }
    fn resolve_image<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<String>, BoxError>> {
        let found = lock(&self.images).iter().find(|i| *i == name).cloned();
        Box::pin(async move { Ok(found) })
    }
    fn create<'a>(&'a self, spec: &'a BoxSpec) -> BoxFuture<'a, Result<String, BoxError>> {
        let mut boxes = lock(&self.boxes);
        let result = if !lock(&self.images).contains(&spec.image) {
            Err(BoxError::ImageMissing(spec.image.clone()))
        } else if boxes.contains_key(&spec.name) {
            Err(BoxError::NameTaken(spec.name.clone()))
        } else {
            let id = digest(spec.name.as_bytes()).trim_start_matches("sha256:").to_owned();
            lock(&self.created).push(spec.name.clone());
            self.note("create", &spec.name);
            boxes.insert(
                spec.name.clone(),
                BoxStatus {
                    id: id.clone(),
                    name: spec.name.clone(),
                    labels: spec.labels.clone(),
                    state: BoxState::Created,
                    created_at: UnixMillis(0),
                    started_at: None,
                    finished_at: None,
                    set: Some(BoxSet {
                        seccomp_digest: digest(spec.sockets.as_str().as_bytes()),
                        runtime: spec.runtime.clone().unwrap_or_else(|| "fake".into()),
                        memory_bytes: spec.memory_bytes,
                        nano_cpus: spec.nano_cpus,
                        pids: spec.pids,
                    }),
                    pid: None,
                },
            );
            Ok(id)
        };
        Box::pin(async move { result })
    }
    fn makes_ahead(&self) -> bool {
        self.makes_ahead
    }
    fn start<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), BoxError>> {
        let code = *lock(&self.ends_at_once);
        let started = match lock(&self.boxes).get_mut(name) {
            None => Err(BoxError::NoSuchBox(name.to_owned())),
            Some(status) => {
                status.started_at = Some(UnixMillis(1_000));
                status.state = BoxState::Running;
                if let Some(code) = code {
                    status.state = BoxState::Exited { code, oom: false, error: None };
                    status.finished_at = Some(UnixMillis(2_000));
                }
                Ok(())
            }
        };
        self.changed("start", name);
        Box::pin(async move { started })
    }
    fn inspect<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<BoxStatus>, BoxError>> {
        self.note("inspect", name);
        let mut found = lock(&self.boxes).get(name).cloned();
        if let Some(BoxState::Exited { oom, .. }) = found.as_mut().map(|status| &mut status.state)
            && let Some(left) = lock(&self.oom_after).as_mut()
        {
            *oom = *left == 0;
            *left = left.saturating_sub(1);
        }
        Box::pin(async move { Ok(found) })
    }
    fn list<'a>(&'a self, labels: &'a BTreeMap<String, String>) -> BoxFuture<'a, Result<Vec<BoxStatus>, BoxError>> {
        let wanted = |s: &&BoxStatus| labels.iter().all(|(k, v)| s.labels.get(k) == Some(v));
        let found = lock(&self.boxes).values().filter(wanted).cloned().collect();
        Box::pin(async move { Ok(found) })
    }
    fn listen<'a>(&'a self, name: &'a str, end: End) -> BoxFuture<'a, Result<Listening<'a>, BoxError>> {
        self.note(if end == End::Next { "listen next" } else { "listen any" }, name);
        let ended = |status: &BoxStatus| matches!(status.state, BoxState::Exited { .. });
        let ended_before = lock(&self.boxes).get(name).map(ended);
        let mut changes = self.changes.subscribe();
        let answer = match ended_before {
            None => Err(BoxError::NoSuchBox(name.to_owned())),
            Some(before) => {
                let listening: Listening<'a> = Box::pin(async move {
                    // The sender lives as long as these containers.
                    let _ = changes.wait_for(|_| self.heard(name, end, before)).await;
                });
                Ok(listening)
            }
        };
        Box::pin(async move { answer })
    }
    fn stop<'a>(&'a self, name: &'a str, _: u64) -> BoxFuture<'a, Result<(), BoxError>> {
        if let Some(status) = lock(&self.boxes).get_mut(name) {
            status.state = BoxState::Exited { code: 113, oom: false, error: None };
            status.finished_at = Some(UnixMillis(3_000));
        }
        self.changed("stop", name);
        Box::pin(async { Ok(()) })
    }
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), BoxError>> {
        lock(&self.boxes).remove(name);
        self.changed("remove", name);
        Box::pin(async { Ok(()) })
    }
    fn facts(&self) -> BoxFuture<'_, Result<EngineFacts, BoxError>> {
        let facts = EngineFacts {
            version: "fake".into(),
            api_version: "fake".into(),
            cgroup_version: "2".into(),
            live_restore: true,
            security: Vec::new(),
            runtimes: vec!["fake".into()],
            default_runtime: "fake".into(),
            uid_offset: 0,
        };
        Box::pin(async move { Ok(facts) })
    }
}
