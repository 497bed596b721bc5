//! Tables of given, when, then.

use super::{CheckpointChain, DoesNotGrow};
use crate::events::OfCheckpoint;
use crate::tests::{carried_out, check, golden};
use custody_contracts::events::{CheckpointEvent, CheckpointSigned, LedgerEvent};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

fn signed(size: u64) -> CheckpointSigned {
    match golden("CheckpointSigned", &[("size", json!(size))]) {
        LedgerEvent::Checkpoint(CheckpointEvent::Signed(signed)) => signed,
        other => panic!("{other:?}"),
    }
}

fn of(size: u64) -> OfCheckpoint {
    OfCheckpoint(CheckpointEvent::Signed(signed(size)))
}

#[rstest]
#[case::the_first(&[], 1, None)]
#[case::over_nothing(&[], 0, Some(0))]
#[case::a_larger_one(&[5], 6, None)]
#[case::the_same_size(&[5], 5, Some(5))]
#[case::a_smaller_one(&[5, 9], 8, Some(9))]
fn a_checkpoint_covers_more_than_the_one_before(
    #[case] history: &[u64],
    #[case] size: u64,
    #[case] refused_over: Option<u64>,
) {
    let history: Vec<OfCheckpoint> = history.iter().map(|size| of(*size)).collect();
    let expected = refused_over.map_or_else(|| Ok(vec![of(size)]), |is| Err(DoesNotGrow { asked: size, is }));
    check::<CheckpointChain>(&history, signed(size), expected);
}

proptest! {
    #[test]
    fn sizes_only_grow(sizes in prop::collection::vec(0u64..50, 0..40)) {
        let events = carried_out::<CheckpointChain>(sizes.into_iter().map(signed).collect());
        let sizes: Vec<u64> = events.iter().map(|e| { let CheckpointEvent::Signed(s) = &e.0; s.size }).collect();
        prop_assert!(sizes.first().is_none_or(|s| *s > 0) && sizes.is_sorted_by(|a, b| a < b), "{sizes:?}");
    }
}
