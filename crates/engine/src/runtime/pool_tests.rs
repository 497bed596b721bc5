//! The pool's books: what is kept, for whom, and what is not given away.

use super::*;
use custody_contracts::isolation::Sockets;
use rstest::rstest;

fn kind(image: &str) -> Kind {
    Kind::of(&BoxSpec { image: image.into(), ..spec("/session") })
}

fn pool(size: usize) -> Pool {
    Pool::new(Some(Arc::new(NoSlots)), PoolConfig { size }, "o".into())
}

/// A process that is there as long as the test is.
fn blank(slot: &str, made_at: u64) -> Blank {
    let name = [NAME, slot].concat();
    Blank { name, container: "c".into(), set: None, pid: std::process::id(), made_at }
}

fn put(pool: &Pool, kind: &Kind, blank: Blank) {
    pool.with(|state| state.blanks.entry(kind.clone()).or_default().push_back(blank));
}

fn spec(target: &str) -> BoxSpec {
    BoxSpec {
        name: "custody-d-1".into(),
        image: "a".into(),
        labels: BTreeMap::from([("custody.dispatch".into(), "d-1".into())]),
        env: BTreeMap::new(),
        mounts: vec![BoxMount { source: "/x".into(), target: target.into(), read_only: true }],
        memory_bytes: 1,
        nano_cpus: 1,
        pids: 1,
        tmp_bytes: custody_ports::containers::SCRATCH_BYTES,
        home_bytes: custody_ports::containers::SCRATCH_BYTES,
        sockets: Sockets::Unix,
        runtime: None,
        slots: false,
    }
}

/// Slots with one place.
struct NoSlots;

impl Slots for NoSlots {
    fn prepare(&self, _: &dyn Fn(&str) -> bool) -> Result<(), SlotError> {
        Ok(())
    }
    fn make(&self, _: &str) -> Result<Vec<BoxMount>, SlotError> {
        Ok(Vec::new())
    }
    fn reaches(&self, _: &str, _: u32) -> Result<(), SlotError> {
        Ok(())
    }
    fn fits(&self, mounts: &[BoxMount]) -> bool {
        mounts.iter().all(|mount| mount.target == "/session")
    }
    fn bind(&self, _: &str, _: &[BoxMount]) -> Result<(), SlotError> {
        Ok(())
    }
    fn bound(&self, _: &str) -> bool {
        false
    }
    fn clear(&self, _: &str) -> Result<(), SlotError> {
        Ok(())
    }
    fn all(&self) -> Vec<String> {
        Vec::new()
    }
    fn close(&self) -> Result<(), SlotError> {
        Ok(())
    }
}

#[test]
fn a_box_is_given_once_and_only_for_its_own_kind() {
    let pool = pool(2);
    let (ours, other) = (kind("a"), kind("b"));
    pool.used("r", 1, ours.clone());
    put(&pool, &ours, blank("1", 0));
    assert!(pool.take(&other, &spec("/session")).is_none(), "another image");
    for (other, what) in [
        (BoxSpec { sockets: Sockets::Loopback, ..spec("/session") }, "another profile"),
        (BoxSpec { runtime: Some("runsc".into()), ..spec("/session") }, "another class"),
        (BoxSpec { memory_bytes: 2, ..spec("/session") }, "another limit"),
    ] {
        assert!(pool.take(&Kind::of(&other), &other).is_none(), "{what}");
    }
    assert!(pool.take(&ours, &spec("/elsewhere")).is_none(), "a mount that no slot has a place for");
    assert!(pool.holds("custody-w-1"));
    assert_eq!(pool.take(&ours, &spec("/session")).unwrap().name, "custody-w-1");
    assert!(pool.take(&ours, &spec("/session")).is_none(), "never twice");
    assert!(!pool.holds("custody-w-1"), "it is the dispatch's now");
}

#[test]
fn a_box_that_ended_by_itself_is_not_given_away() {
    let pool = pool(2);
    let ours = kind("a");
    put(&pool, &ours, Blank { pid: u32::MAX, ..blank("dead", 0) });
    put(&pool, &ours, blank("alive", 0));
    assert_eq!(pool.take(&ours, &spec("/session")).unwrap().name, "custody-w-alive");
}

#[test]
fn what_is_missing_is_made_for_the_runner_used_last_and_never_more_than_the_size() {
    let pool = pool(1);
    pool.used("old", 1, kind("a"));
    pool.used("new", 2, kind("b"));
    assert_eq!(pool.plan(0).0, Some(kind("b")));
    put(&pool, &kind("b"), blank("1", 0));
    assert_eq!(pool.plan(0).0, Some(kind("a")));
    put(&pool, &kind("a"), blank("2", 0));
    assert_eq!(pool.plan(0).0, None, "full");
}

#[test]
fn a_new_image_drains_the_old_one() {
    let pool = pool(1);
    pool.used("r", 1, kind("old"));
    put(&pool, &kind("old"), blank("1", 0));
    pool.used("r", 2, kind("new"));
    let (missing, surplus) = pool.plan(0);
    assert_eq!(missing, Some(kind("new")));
    assert_eq!(surplus.iter().map(|blank| blank.name.as_str()).collect::<Vec<_>>(), ["custody-w-1"]);
    assert!(pool.take(&kind("old"), &spec("/session")).is_none());
}

#[rstest]
#[case::young(AGE_MAX_MS - 1, 0)]
#[case::old(AGE_MAX_MS, 1)]
fn a_box_is_replaced_before_its_worker_gives_up(#[case] age: u64, #[case] gone: usize) {
    let pool = pool(1);
    pool.used("r", 1, kind("a"));
    put(&pool, &kind("a"), blank("1", 1_000));
    assert_eq!(pool.plan(1_000 + age).1.len(), gone);
}

#[test]
fn only_so_many_runners_are_kept_warm() {
    let pool = pool(1);
    for seq in 0..=KINDS_MAX as u64 {
        pool.used(&format!("r{seq}"), seq, kind(&seq.to_string()));
    }
    let kinds = pool.with(|state| state.kinds.keys().cloned().collect::<Vec<_>>());
    assert_eq!(kinds.len(), KINDS_MAX);
    assert!(!kinds.contains(&"r0".to_owned()), "the one used longest ago goes");
}

#[rstest]
#[case::none(0)]
#[case::too_many(SIZE_MAX + 1)]
fn sizes(#[case] size: usize) {
    let pool = pool(size);
    pool.used("r", 1, kind("a"));
    assert_eq!(pool.plan(0).0.is_some(), size > 0);
    assert!(pool.size <= SIZE_MAX);
}

#[rstest]
#[case::warm("custody-w-abc-1", Some("abc-1"))]
#[case::cold("custody-d-abc", None)]
#[case::nothing("custody-w-", None)]
#[case::up("custody-w-../x", None)]
fn slots_are_told_by_names(#[case] name: &str, #[case] slot: Option<&str>) {
    assert_eq!(slot_of(name), slot);
}

#[test]
fn a_blank_box_has_nothing_of_a_dispatch() {
    let of_a_dispatch = spec("/session");
    let blank = Kind::of(&of_a_dispatch).blank("i-1", "life", "s-1", Vec::new());
    assert_eq!((blank.name.as_str(), blank.mounts.as_slice(), blank.slots), ("custody-w-s-1", &[][..], true));
    assert_eq!(blank.labels.keys().collect::<Vec<_>>(), [LABEL_INSTANCE, LABEL_POOL]);
    assert_eq!(Kind::of(&blank), Kind::of(&of_a_dispatch), "and is what it will be asked to be");
}
