//! Proofs about one tree, made in one pass over its leaves: which perfect subtrees the proofs need is known before the
//! first leaf, so nothing else is kept. Must never give a proof of a tree that was not read whole.

use super::{Frontier, Hash, node};
use std::collections::BTreeMap;

/// The longest proof of any tree whose size fits 64 bits; a longer one is refused unread.
pub const PROOF_HASHES_MAX: usize = 64;

/// Half-open ranges of leaves, in the order in which a proof lists their hashes.
type Ranges = Vec<(u64, u64)>;

/// Makes inclusion and consistency proofs for the tree over the first `size` leaves. Memory: the tree's right edge and
/// at most 64 × 64 hashes for each proof that was asked for, whatever the size of the log.
#[derive(Debug, Clone)]
pub struct Prover {
    size: u64,
    frontier: Frontier,
    wanted: BTreeMap<(u32, u64), Option<Hash>>,
}

impl Prover {
    /// For the tree of this size.
    pub fn new(size: u64) -> Prover {
        Prover { size, frontier: Frontier::default(), wanted: BTreeMap::new() }
    }

    /// Asks for the audit path of leaf `index`; false when the tree has no such leaf. Ask before the first leaf is pushed.
    pub fn want_inclusion(&mut self, index: u64) -> bool {
        inclusion(index, self.size).map(|ranges| self.want(&ranges)).is_some()
    }

    /// Asks for the proof that the tree goes on from its first `old_size` leaves; false when it is smaller. Ask before the
    /// first leaf is pushed.
    pub fn want_consistency(&mut self, old_size: u64) -> bool {
        consistency(old_size, self.size).map(|ranges| self.want(&ranges)).is_some()
    }

    /// For the tree of this size, of which the first leaves were taken already: the leaves after them are pushed. Only the
    /// consistency with those first leaves can be proved, for their own hashes are gone.
    pub fn going_on(from: Frontier, size: u64) -> Prover {
        Prover { size, frontier: from, wanted: BTreeMap::new() }
    }

    fn want(&mut self, ranges: &Ranges) {
        for perfect in ranges.iter().flat_map(|(from, to)| perfects(*from, *to)) {
            let taken = self.frontier.peak(perfect.0, perfect.1);
            self.wanted.insert(perfect, taken);
        }
    }

    /// Takes the next leaf hash; leaves beyond the tree are not of it.
    pub fn push(&mut self, leaf: Hash) {
        if self.frontier.size() >= self.size {
            return;
        }
        let wanted = &mut self.wanted;
        self.frontier.push_noting(leaf, |height, place, hash| {
            if let Some(slot) = wanted.get_mut(&(height, place)) {
                *slot = Some(*hash);
            }
        });
    }

    /// The root, once every leaf was pushed.
    pub fn root(&self) -> Option<Hash> {
        (self.frontier.size() == self.size).then(|| self.frontier.root())
    }

    /// The audit path of a leaf that was asked for, once every leaf was pushed.
    pub fn inclusion(&self, index: u64) -> Option<Vec<Hash>> {
        self.path(inclusion(index, self.size)?)
    }

    /// The consistency proof of a size that was asked for, once every leaf was pushed.
    pub fn consistency(&self, old_size: u64) -> Option<Vec<Hash>> {
        self.path(consistency(old_size, self.size)?)
    }

    /// The tree's right edge, to go on from.
    pub fn into_frontier(self) -> Frontier {
        self.frontier
    }

    fn path(&self, ranges: Ranges) -> Option<Vec<Hash>> {
        self.root()?;
        ranges.into_iter().map(|(from, to)| self.range(from, to)).collect()
    }

    fn range(&self, from: u64, to: u64) -> Option<Hash> {
        let parts: Option<Vec<Hash>> = perfects(from, to).map(|p| self.wanted.get(&p).copied().flatten()).collect();
        parts?.into_iter().rev().reduce(|right, left| node(&left, &right))
    }
}

/// The ranges of an audit path, deepest first. RFC 6962 section 2.1.1.
fn inclusion(index: u64, size: u64) -> Option<Ranges> {
    if index >= size {
        return None;
    }
    let (mut from, mut to, mut path) = (0, size, Vec::new());
    while to - from > 1 {
        let middle = from + split64(to - from);
        if index < middle {
            path.push((middle, to));
            to = middle;
        } else {
            path.push((from, middle));
            from = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// The ranges of a consistency proof, deepest first. RFC 6962 section 2.1.2.
fn consistency(old_size: u64, size: u64) -> Option<Ranges> {
    if old_size > size {
        return None;
    }
    if old_size == 0 || old_size == size {
        return Some(Vec::new());
    }
    let (mut from, mut to, mut whole, mut path) = (0, size, true, Vec::new());
    while old_size != to {
        let middle = from + split64(to - from);
        if old_size <= middle {
            path.push((middle, to));
            to = middle;
        } else {
            path.push((from, middle));
            from = middle;
            whole = false;
        }
    }
    // The old tree as a whole is known to whoever asks.
    if !whole {
        path.push((from, to));
    }
    path.reverse();
    Some(path)
}

/// The perfect subtrees that a range is made of, left to right, as height and place; the range begins at a multiple of
/// the largest of them.
fn perfects(from: u64, to: u64) -> impl Iterator<Item = (u32, u64)> {
    let mut at = from;
    std::iter::from_fn(move || {
        let left = to.checked_sub(at).filter(|left| *left > 0)?;
        let height = left.ilog2();
        let place = at >> height;
        at += 1 << height;
        Some((height, place))
    })
}

/// The largest power of two below `n`, for n ≥ 2.
fn split64(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::super::{inclusion_proof, leaf, root, verify_consistency, verify_inclusion};
    use super::*;

    fn leaves(n: u64) -> Vec<Hash> {
        (0..n).map(|i| leaf(&i.to_be_bytes())).collect()
    }

    fn prover(all: &[Hash], size: u64) -> Prover {
        let mut prover = Prover::new(size);
        assert!((0..size).all(|i| prover.want_inclusion(i)) && (0..=size).all(|m| prover.want_consistency(m)));
        all.iter().for_each(|l| prover.push(*l));
        prover
    }

    #[test]
    fn every_inclusion_is_that_of_the_definition() {
        let all = leaves(70);
        for size in 1..=70 {
            let (tree, made) = (&all[..size as usize], prover(&all, size));
            assert_eq!(made.root(), Some(root(tree)));
            for index in 0..size {
                assert_eq!(made.inclusion(index), inclusion_proof(tree, index as usize), "{index} of {size}");
            }
            assert_eq!(made.inclusion(size), None);
        }
    }

    #[test]
    fn every_small_tree_goes_on_from_each_of_its_beginnings_and_from_no_other() {
        let all = leaves(40);
        for size in 1..=40u64 {
            let made = prover(&all, size);
            let new = root(&all[..size as usize]);
            for old_size in 0..=size {
                let old = root(&all[..old_size as usize]);
                let proof = made.consistency(old_size).expect("it was asked for");
                assert!(verify_consistency(old_size, size, &proof, &old, &new), "{old_size} to {size}");
                let other = leaf(b"other");
                assert!(!verify_consistency(old_size, size, &proof, &other, &new), "another beginning");
                assert!(old_size == 0 || !verify_consistency(old_size, size, &proof, &old, &other), "another end");
                let longer = [proof.as_slice(), &[other]].concat();
                assert!(!verify_consistency(old_size, size, &longer, &old, &new), "one hash more");
                if let Some((_, shorter)) = proof.split_last() {
                    assert!(!verify_consistency(old_size, size, shorter, &old, &new), "one hash less");
                }
                for at in 0..proof.len() {
                    let mut changed = proof.clone();
                    changed[at][7] ^= 1;
                    assert!(!verify_consistency(old_size, size, &changed, &old, &new), "hash {at} changed");
                }
            }
            assert_eq!(made.consistency(size + 1), None);
        }
        assert!(!verify_consistency(3, 2, &[], &root(&all[..3]), &root(&all[..2])), "a tree does not shrink");
    }

    /// RFC 6962 section 2.1.3: the tree of seven leaves.
    #[test]
    fn the_example_of_the_rfc() {
        let all = leaves(7);
        let made = prover(&all, 7);
        let h = |from: usize, to: usize| root(&all[from..to]);
        assert_eq!(made.inclusion(0), Some(vec![h(1, 2), h(2, 4), h(4, 7)]));
        assert_eq!(made.inclusion(6), Some(vec![h(4, 6), h(0, 4)]));
        assert_eq!(made.consistency(3), Some(vec![h(2, 3), h(3, 4), h(0, 2), h(4, 7)]));
        assert_eq!(made.consistency(4), Some(vec![h(4, 7)]));
        assert_eq!(made.consistency(6), Some(vec![h(4, 6), h(6, 7), h(0, 4)]));
    }

    #[test]
    fn a_tree_that_was_not_read_whole_proves_nothing() {
        let all = leaves(9);
        let mut part = Prover::new(9);
        assert!(part.want_inclusion(2) && !part.want_inclusion(9) && !part.want_consistency(10));
        all[..8].iter().for_each(|l| part.push(*l));
        assert_eq!((part.root(), part.inclusion(2), part.consistency(4)), (None, None, None));
        part.push(all[8]);
        part.push(leaf(b"beyond"));
        assert_eq!(part.root(), Some(root(&all)), "what comes after the tree is not of it");
        assert_eq!(part.inclusion(3), None, "nobody asked for it");
    }

    #[test]
    fn a_tree_that_was_taken_in_part_goes_on_from_there() {
        let all = leaves(40);
        for old_size in 0..=40u64 {
            let mut first = Frontier::default();
            all[..old_size as usize].iter().for_each(|l| first.push(*l));
            for size in old_size..=40 {
                let mut made = Prover::going_on(first.clone(), size);
                assert!(made.want_consistency(old_size));
                all[old_size as usize..].iter().for_each(|l| made.push(*l));
                let top = root(&all[..size as usize]);
                assert_eq!(made.root(), Some(top));
                let proof = made.consistency(old_size).expect("what is missing was taken");
                assert!(verify_consistency(old_size, size, &proof, &first.root(), &top), "{old_size} to {size}");
                assert_eq!(made.into_frontier().size(), size);
            }
        }
    }

    #[test]
    fn a_large_tree_needs_little() {
        let size = 100_000;
        let mut made = Prover::new(size);
        assert!(made.want_inclusion(70_001) && made.want_consistency(65_537));
        let kept = made.wanted.len();
        assert!(kept <= 2 * PROOF_HASHES_MAX, "{kept}");
        let mut old = Frontier::default();
        for i in 0..size {
            let hash = leaf(&i.to_be_bytes());
            made.push(hash);
            if i < 65_537 {
                old.push(hash);
            }
        }
        let top = made.root().unwrap();
        let path = made.inclusion(70_001).unwrap();
        assert_eq!(path.len(), 17);
        assert!(verify_inclusion(&leaf(&70_001u64.to_be_bytes()), 70_001, size, &path, &top));
        assert!(verify_consistency(65_537, size, &made.consistency(65_537).unwrap(), &old.root(), &top));
    }
}
