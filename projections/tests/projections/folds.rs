//! What makes a projection disposable: the same log is the same state, however it is cut, and a state is its rows.

use crate::fixtures::{exported, fold, recorded};
use crate::logs::CASES;
use custody_ledger::{Projection, Recorded, Seq, Stored};
use custody_projections::{Audit, Dispatches, Folded, Sessions, Usage, digest};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Every message of every case.
static MESSAGES: LazyLock<Vec<Stored>> = LazyLock::new(|| CASES.iter().flat_map(|(_, make)| make()).collect());

fn digest_of<P: Folded>(events: &[Recorded]) -> String {
    digest::<P>(&fold::<P>(events), Seq(1))
}

/// Folded with a snapshot taken and restored after each chunk.
fn in_chunks<P: Folded>(events: &[Recorded], cuts: &[usize]) -> String {
    let mut state = P::State::default();
    let mut rest = events;
    for cut in cuts {
        let (chunk, after) = rest.split_at((*cut).min(rest.len()));
        chunk.iter().for_each(|e| P::apply(&mut state, e));
        state = P::restore(exported::<P>(&state)).expect("its own rows can be read");
        rest = after;
    }
    rest.iter().for_each(|e| P::apply(&mut state, e));
    digest::<P>(&state, Seq(1))
}

/// Folded with only the changed rows written after each chunk, as a store keeps them.
fn by_changes<P: Folded>(events: &[Recorded], chunk: usize) -> String {
    let (mut state, mut store) = (P::State::default(), BTreeMap::new());
    for chunk in events.chunks(chunk) {
        chunk.iter().for_each(|e| P::apply(&mut state, e));
        for (key, bytes) in P::take_changes(&mut state) {
            match bytes {
                Some(bytes) => store.insert(key, bytes),
                None => store.remove(&key),
            };
        }
        assert!(P::take_changes(&mut state).is_empty(), "changes are taken once");
    }
    let stored = P::restore(store.into_iter().collect()).expect("its own rows can be read");
    assert_eq!(exported::<P>(&stored), exported::<P>(&state));
    digest::<P>(&stored, Seq(1))
}

fn all_ways<P: Folded>(events: &[Recorded], cuts: &[usize], chunk: usize) {
    let at_once = digest_of::<P>(events);
    assert_eq!(at_once, digest_of::<P>(events), "{}: twice", P::NAME);
    assert_eq!(at_once, in_chunks::<P>(events, cuts), "{}: in chunks", P::NAME);
    assert_eq!(at_once, by_changes::<P>(events, chunk), "{}: by changes", P::NAME);
}

/// Any messages of any case, in any order, some more than once.
fn any_log() -> impl Strategy<Value = Vec<Recorded>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..60).prop_map(|picks| {
        let messages: Vec<Stored> = picks
            .into_iter()
            .zip(1..)
            .map(|(pick, seq)| Stored { seq: Seq(seq), ..MESSAGES[pick.index(MESSAGES.len())].clone() })
            .collect();
        recorded(&messages)
    })
}

proptest! {
    #[test]
    fn folding_in_chunks_is_folding_at_once_in_every_order(
        events in any_log(), cuts in prop::collection::vec(0usize..20, 0..6), chunk in 1usize..20,
    ) {
        all_ways::<Dispatches>(&events, &cuts, chunk);
        all_ways::<Sessions>(&events, &cuts, chunk);
        all_ways::<Usage>(&events, &cuts, chunk);
        all_ways::<Audit>(&events, &cuts, chunk);
    }

    #[test]
    fn what_ended_stays_as_it_ended_whatever_follows(events in any_log()) {
        let (mut state, mut ended) = (Default::default(), BTreeMap::new());
        for event in &events {
            Dispatches::apply(&mut state, event);
            for (key, row) in state.iter().filter(|(_, r)| r.terminal_events > 0) {
                let now = (row.status, row.reason.clone(), row.finished_at, row.container.clone());
                prop_assert_eq!(ended.entry(key.to_owned()).or_insert_with(|| now.clone()), &now);
            }
        }
    }
}

#[test]
fn the_logs_of_the_goldens_fold_the_same_in_every_chunk() {
    for (_, make) in CASES {
        let events = recorded(&make());
        for chunk in [1, 2, 3, 7, 100] {
            let cuts = vec![chunk; events.len() / chunk + 1];
            all_ways::<Dispatches>(&events, &cuts, chunk);
            all_ways::<Sessions>(&events, &cuts, chunk);
            all_ways::<Usage>(&events, &cuts, chunk);
            all_ways::<Audit>(&events, &cuts, chunk);
        }
    }
}

#[test]
fn a_digest_is_of_name_version_sequence_and_every_row() {
    let events = recorded(&CASES[0].1());
    let state = fold::<Dispatches>(&events);
    let here = digest::<Dispatches>(&state, Seq(15));
    assert_ne!(here, digest::<Dispatches>(&state, Seq(14)));
    assert_ne!(here, digest::<Dispatches>(&fold::<Dispatches>(&events[..10]), Seq(15)));
    let empty = Seq(0);
    let digests = [
        digest::<Dispatches>(&Default::default(), empty),
        digest::<Sessions>(&Default::default(), empty),
        digest::<Usage>(&Default::default(), empty),
        digest::<Audit>(&Default::default(), empty),
    ];
    assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2]);
}
