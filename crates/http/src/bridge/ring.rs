//! The newest part of a stream in memory, bounded by count and bytes, read by cursor. Pure. Must never answer as if it
//! held what it has let go.

use std::collections::VecDeque;
use std::sync::Arc;

/// What has a place and a size.
pub trait Placed {
    /// Its sequence.
    fn seq(&self) -> u64;
    /// Bytes that holding it costs.
    fn bytes(&self) -> usize;
}

/// The newest items of one stream, in the order of their sequences.
#[derive(Debug)]
pub struct Ring<T> {
    items: VecDeque<Arc<T>>,
    bytes: usize,
    items_max: usize,
    bytes_max: usize,
    /// Every item after this sequence is held.
    since: u64,
}

impl<T: Placed> Ring<T> {
    /// Holds everything after `since`, as far as the limits allow.
    pub fn new(since: u64, items_max: usize, bytes_max: usize) -> Ring<T> {
        Ring { items: VecDeque::new(), bytes: 0, items_max, bytes_max, since }
    }

    /// Takes in the next item; what is too old or too much goes. Items come in the order of their sequences.
    pub fn push(&mut self, item: Arc<T>) {
        self.bytes += item.bytes();
        self.items.push_back(item);
        while self.items.len() > self.items_max || (self.bytes > self.bytes_max && self.items.len() > 1) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(old) = self.items.pop_front() {
            self.bytes -= old.bytes();
            self.since = old.seq();
        }
    }

    /// Whether everything after this cursor is held.
    pub fn covers(&self, cursor: u64) -> bool {
        cursor >= self.since
    }

    /// What comes after a cursor, oldest first; `None` when some of it is gone.
    pub fn after(&self, cursor: u64) -> Option<impl Iterator<Item = &Arc<T>>> {
        if !self.covers(cursor) {
            return None;
        }
        let start = self.items.partition_point(|item| item.seq() <= cursor);
        Some(self.items.range(start..))
    }

    /// How many items come after a cursor.
    pub fn behind(&self, cursor: u64) -> usize {
        self.items.len() - self.items.partition_point(|item| item.seq() <= cursor)
    }

    /// Every item after this sequence is held.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The newest.
    pub fn last_seq(&self) -> Option<u64> {
        self.items.back().map(|item| item.seq())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug)]
    struct Item(u64, usize);

    impl Placed for Item {
        fn seq(&self) -> u64 {
            self.0
        }
        fn bytes(&self) -> usize {
            self.1
        }
    }

    fn seqs(ring: &Ring<Item>, cursor: u64) -> Option<Vec<u64>> {
        ring.after(cursor).map(|items| items.map(|i| i.0).collect())
    }

    #[test]
    fn a_cursor_that_fell_out_is_gone_and_not_answered_with_less() {
        let mut ring = Ring::new(10, 3, 1_000);
        for seq in [11, 13, 17, 19] {
            ring.push(Arc::new(Item(seq, 1)));
        }
        assert_eq!(seqs(&ring, 10), None);
        assert_eq!(seqs(&ring, 11), Some(vec![13, 17, 19]));
        assert_eq!(seqs(&ring, 14), Some(vec![17, 19]));
        assert_eq!(seqs(&ring, 19), Some(vec![]));
        assert_eq!((ring.behind(13), ring.since(), ring.last_seq()), (2, 11, Some(19)));
    }

    #[test]
    fn bytes_are_bounded_and_the_newest_stays() {
        let mut ring = Ring::new(0, 100, 10);
        ring.push(Arc::new(Item(1, 8)));
        ring.push(Arc::new(Item(2, 8)));
        assert_eq!((seqs(&ring, 0), seqs(&ring, 1)), (None, Some(vec![2])));
        ring.push(Arc::new(Item(3, 50)));
        assert_eq!(seqs(&ring, 2), Some(vec![3]));
    }

    proptest! {
        #[test]
        fn what_is_answered_is_exactly_what_came_after(steps in prop::collection::vec((1u64..4, 1usize..9), 0..200), at in 0u64..500) {
            let mut ring = Ring::new(0, 20, 60);
            let (mut all, mut seq) = (Vec::new(), 0);
            for (step, size) in steps {
                seq += step;
                all.push(seq);
                ring.push(Arc::new(Item(seq, size)));
            }
            if let Some(found) = seqs(&ring, at) {
                prop_assert_eq!(found, all.into_iter().filter(|s| *s > at).collect::<Vec<_>>());
            }
        }
    }
}
