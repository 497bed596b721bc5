//! Warm boxes: running, blank, single-use, their worker waiting for a socket. A blank box has no identity, no policy and
//! no mount of anybody's; it gets them when it is claimed, and its slot is bound. Must never give one box twice, never
//! take one back, and never keep one that its image or profile has left behind.
//!
//! What is kept warm follows use: the image, profile and class of each runner's last admission, for the few runners that
//! were used last.

use super::Runtime;
use super::plan::LABEL_INSTANCE;
use custody_ports::containers::{BoxError, BoxMount, BoxSet, BoxSpec, BoxState};
use custody_ports::slots::{SlotError, Slots};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

/// Label of a blank box: which life of which runtime made it.
pub(crate) const LABEL_POOL: &str = "custody.pool";
/// Names of blank boxes begin with this; the slot's name follows.
const NAME: &str = "custody-w-";
/// Runners that are kept warm at one time: those used last.
pub(super) const KINDS_MAX: usize = 4;
/// The most blank boxes of one kind.
pub const SIZE_MAX: usize = 64;
/// Age after which a blank box is replaced, in milliseconds: its worker ends by itself after an hour.
const AGE_MAX_MS: u64 = 45 * 60_000;
/// Between two looks at the pool when nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Between two boxes that are made.
const PACE: Duration = Duration::from_millis(20);
/// After a failure.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What an operator decides about warm boxes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolConfig {
    /// Blank boxes of each kind; 0 keeps none.
    pub size: usize,
}

/// What must be the same for a blank box to be a dispatch's: everything that a box is, but its name, its labels and what
/// is mounted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind(BoxSpec);

impl Kind {
    /// The kind of a box.
    pub(crate) fn of(spec: &BoxSpec) -> Kind {
        let (name, labels, mounts) = (String::new(), BTreeMap::new(), Vec::new());
        Kind(BoxSpec { name, labels, mounts, slots: true, ..spec.clone() })
    }

    /// The box of this kind before anybody claims it.
    fn blank(&self, instance: &str, owner: &str, slot: &str, mounts: Vec<BoxMount>) -> BoxSpec {
        let labels = BTreeMap::from([
            (LABEL_INSTANCE.to_owned(), instance.to_owned()),
            (LABEL_POOL.to_owned(), owner.to_owned()),
        ]);
        BoxSpec { name: [NAME, slot].concat(), labels, mounts, ..self.0.clone() }
    }
}

/// One blank box that runs.
#[derive(Debug, Clone)]
pub(crate) struct Blank {
    pub(crate) name: String,
    pub(crate) container: String,
    pub(crate) set: Option<BoxSet>,
    pid: u32,
    made_at: u64,
}

/// The pool of one runtime.
pub(crate) struct Pool {
    slots: Option<Arc<dyn Slots>>,
    size: usize,
    /// This life of this runtime.
    owner: String,
    state: Mutex<State>,
    wanted: Notify,
}

#[derive(Default)]
struct State {
    /// By runner: the kind of its last admission and when that was.
    kinds: BTreeMap<String, (u64, Kind)>,
    blanks: BTreeMap<Kind, VecDeque<Blank>>,
    /// Boxes that are being made: their slots are nobody's leftovers.
    making: BTreeSet<String>,
    made: u64,
    /// Why there are none, when there can be none.
    off: Option<String>,
}

impl Pool {
    pub(crate) fn new(slots: Option<Arc<dyn Slots>>, config: PoolConfig, owner: String) -> Pool {
        let size = config.size.min(SIZE_MAX);
        Pool { slots, size, owner, state: Mutex::default(), wanted: Notify::new() }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A runner was used: its kind is kept warm from now on, and what it was before no longer is.
    pub(crate) fn used(&self, runner: &str, seq: u64, kind: Kind) {
        if self.size == 0 {
            return;
        }
        self.with(|state| {
            state.kinds.insert(runner.to_owned(), (seq, kind));
            if state.kinds.len() > KINDS_MAX {
                let oldest = state.kinds.iter().min_by_key(|(_, (seq, _))| *seq).map(|(name, _)| name.clone());
                oldest.and_then(|name| state.kinds.remove(&name));
            }
        });
        self.wanted.notify_one();
    }

    /// Takes a blank box that runs and has a place for these mounts: it is the caller's for its one life.
    pub(crate) fn take(&self, kind: &Kind, spec: &BoxSpec) -> Option<Blank> {
        let slots = self.slots.as_ref()?;
        if !slots.fits(&spec.mounts) {
            return None;
        }
        let taken = self.with(|state| {
            let blanks = state.blanks.get_mut(kind)?;
            // One that ended by itself is left to the reaper.
            std::iter::from_fn(|| blanks.pop_front()).find(|blank| alive(blank.pid))
        });
        self.wanted.notify_one();
        taken
    }

    /// Whether a container of ours is a blank box that waits, or is just being made.
    pub(crate) fn holds(&self, name: &str) -> bool {
        let slot = slot_of(name).unwrap_or_default();
        self.with(|state| {
            state.making.contains(slot) || state.blanks.values().flatten().any(|blank| blank.name == name)
        })
    }

    /// Gives a claimed box what its dispatch mounts.
    pub(crate) fn bind(&self, container: &str, spec: &BoxSpec) -> Result<(), SlotError> {
        match (&self.slots, slot_of(container)) {
            (Some(slots), Some(slot)) => slots.bind(slot, &spec.mounts),
            _ => Err(SlotError::Unsupported("this runtime keeps no warm boxes".to_owned())),
        }
    }

    /// Whether a claimed box has its socket, and so may have begun.
    pub(crate) fn bound(&self, container: &str) -> bool {
        match (&self.slots, slot_of(container)) {
            (Some(slots), Some(slot)) => slots.bound(slot),
            _ => false,
        }
    }

    /// Takes everything out of the slot of a box that is gone.
    pub(crate) fn clear(&self, container: &str) {
        if let (Some(slots), Some(slot)) = (&self.slots, slot_of(container))
            && let Err(error) = slots.clear(slot)
        {
            tracing::warn!(%error, "slot not cleared; trying again later");
        }
    }

    /// Clears slots that neither a blank box nor any of these containers has.
    pub(crate) fn clear_leftovers(&self, claimed: &BTreeSet<String>) {
        let Some(slots) = &self.slots else { return };
        let left = slots.all().into_iter().map(|slot| [NAME, &slot].concat());
        for name in left.filter(|name| !claimed.contains(name) && !self.holds(name)) {
            self.clear(&name);
        }
    }

    /// What is missing, most wanted first, and what nobody wants any more.
    fn plan(&self, now: u64) -> (Option<Kind>, Vec<Blank>) {
        self.with(|state| {
            let wanted: BTreeSet<Kind> = match state.off {
                Some(_) => BTreeSet::new(),
                None => state.kinds.values().map(|(_, kind)| kind.clone()).collect(),
            };
            let mut surplus = Vec::new();
            for (kind, blanks) in &mut state.blanks {
                let keep = |blank: &Blank| {
                    wanted.contains(kind) && now.saturating_sub(blank.made_at) < AGE_MAX_MS && alive(blank.pid)
                };
                let (kept, gone): (VecDeque<Blank>, Vec<Blank>) = {
                    let mut kept = VecDeque::new();
                    let mut gone = Vec::new();
                    for blank in blanks.drain(..) {
                        if keep(&blank) { kept.push_back(blank) } else { gone.push(blank) }
                    }
                    (kept, gone)
                };
                *blanks = kept;
                surplus.extend(gone);
            }
            state.blanks.retain(|_, blanks| !blanks.is_empty());
            let mut by_use: Vec<&(u64, Kind)> =
                state.kinds.values().filter(|(_, kind)| wanted.contains(kind)).collect();
            by_use.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
            let has = |kind: &Kind| state.blanks.get(kind).map_or(0, VecDeque::len);
            let missing = by_use.into_iter().map(|(_, kind)| kind).find(|kind| has(kind) < self.size).cloned();
            (missing, surplus)
        })
    }

    /// Why there are no warm boxes, when there can be none.
    fn off(&self, why: &SlotError) {
        tracing::warn!(%why, "every box starts cold");
        self.with(|state| state.off = Some(why.to_string()));
    }
}

/// The slot of a warm box, from its name; `None` for any other container.
fn slot_of(container: &str) -> Option<&str> {
    container.strip_prefix(NAME).filter(|slot| !slot.is_empty() && !slot.contains(['/', '.']))
}

/// Whether a container is a warm one.
pub(crate) fn is_warm(container: &str) -> bool {
    slot_of(container).is_some()
}

/// Whether a process is there. Without an id nobody can say, and a box of which nobody can say is not given away.
fn alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Keeps the pool filled until cancelled, and empties it then.
/// `claimed` are the containers of open claims of earlier lives: their slots are theirs.
pub(super) async fn keep(
    runtime: &Runtime,
    pool: &Pool,
    starts: &Semaphore,
    claimed: &BTreeSet<String>,
    cancel: CancellationToken,
) {
    let Some(slots) = pool.slots.clone().filter(|_| pool.size > 0) else { return cancel.cancelled().await };
    if let Err(error) = slots.prepare(&|slot| claimed.contains(&[NAME, slot].concat())) {
        pool.off(&error);
        return cancel.cancelled().await;
    }
    let mut pause = Duration::ZERO;
    loop {
        let (missing, surplus) = pool.plan(runtime.clock.now().0);
        for blank in surplus {
            discard(runtime, pool, &blank).await;
        }
        let made = match &missing {
            Some(kind) => {
                tokio::select! {
                    () = cancel.cancelled() => break,
                    // Starts of dispatches come first: they queue for the same permits, and this is one at a time.
                    permit = starts.acquire() => {
                        let made = make(runtime, pool, kind).await;
                        drop(permit);
                        Some(made)
                    }
                }
            }
            None => None,
        };
        pause = match made {
            Some(Ok(())) => PACE,
            Some(Err(())) => (pause.max(Duration::from_millis(500)) * 2).min(PAUSE_MAX),
            None => LOOK_EVERY,
        };
        tokio::select! {
            () = cancel.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
            () = pool.wanted.notified(), if missing.is_none() => {}
        }
    }
    let left: Vec<Blank> = pool.with(|state| std::mem::take(&mut state.blanks).into_values().flatten().collect());
    for blank in left {
        discard(runtime, pool, &blank).await;
    }
    if let Err(error) = slots.close() {
        tracing::warn!(%error, "the folder of slots is still mounted");
    }
}

/// One more blank box. A failure is told here; the caller only waits longer.
async fn make(runtime: &Runtime, pool: &Pool, kind: &Kind) -> Result<(), ()> {
    let Some(slots) = &pool.slots else { return Err(()) };
    let number = pool.with(|state| {
        state.made += 1;
        state.made
    });
    let slot = format!("{}-{number}", pool.owner);
    pool.with(|state| state.making.insert(slot.clone()));
    let made = try_make(runtime, pool, slots.as_ref(), kind, &slot).await;
    let outcome = match made {
        Ok(blank) => {
            pool.with(|state| state.blanks.entry(kind.clone()).or_default().push_back(blank));
            Ok(())
        }
        Err(why) => {
            tracing::warn!(why, image = kind.0.image, "no warm box made");
            let name = [NAME, &slot].concat();
            if let Err(error) = runtime.containers.remove(&name).await {
                tracing::debug!(%error, name, "a blank box is left to the reaper");
            }
            pool.clear(&name);
            Err(())
        }
    };
    pool.with(|state| state.making.remove(&slot));
    outcome
}

async fn try_make(runtime: &Runtime, pool: &Pool, slots: &dyn Slots, kind: &Kind, slot: &str) -> Result<Blank, String> {
    let mounts = slots.make(slot).map_err(|e| e.to_string())?;
    let config = &runtime.config;
    let spec = kind.blank(&config.instance, &pool.owner, slot, mounts);
    if let Err(error) = runtime.containers.create(&spec).await {
        if matches!(error, BoxError::ImageMissing(_)) {
            // Its runner will say so when it is used again; nobody needs to hear it every half minute.
            pool.with(|state| state.kinds.retain(|_, (_, wanted)| wanted.0.image != kind.0.image));
        }
        return Err(error.to_string());
    }
    runtime.containers.start(&spec.name).await.map_err(|e| e.to_string())?;
    let status = runtime.containers.inspect(&spec.name).await.map_err(|e| e.to_string())?;
    let status = status.filter(|s| s.state == BoxState::Running).ok_or("it ended at once")?;
    let pid = status.pid.ok_or("the engine does not say its process id")?;
    if let Err(error) = slots.reaches(slot, pid) {
        pool.off(&error);
        return Err(error.to_string());
    }
    tracing::debug!(container = spec.name, image = kind.0.image, "blank box waits");
    let made_at = runtime.clock.now().0;
    Ok(Blank { name: spec.name, container: status.id, set: status.set, pid, made_at })
}

/// Ends a blank box that will not be used.
async fn discard(runtime: &Runtime, pool: &Pool, blank: &Blank) {
    match runtime.containers.remove(&blank.name).await {
        Ok(()) => pool.clear(&blank.name),
        Err(error) => tracing::warn!(%error, container = blank.name, "blank box not removed; the reaper will"),
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
