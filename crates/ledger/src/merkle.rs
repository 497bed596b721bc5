//! The tamper-evidence tree: RFC 6962 hashes over the stored bytes of the ledger. Pure arithmetic; signing is `trust`'s.

mod prover;

pub use prover::{PROOF_HASHES_MAX, Prover};

use sha2::{Digest, Sha256};

/// A node or leaf hash.
pub type Hash = [u8; 32];

/// Leaf hash of stored bytes: SHA-256 of 0x00 and the bytes. Source: RFC 6962 section 2.1.
pub fn leaf(bytes: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(bytes);
    hash.finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// The hash of the empty tree.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The largest power of two below `n`, for n ≥ 2.
fn split(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

/// Root over leaf hashes.
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(split(many.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The growing right edge of the tree: appends in O(log n) memory and amortised O(1) time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the perfect subtrees, largest first.
    peaks: Vec<(u32, Hash)>,
}

impl Frontier {
    /// How many leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds one leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        self.push_noting(leaf, |_, _, _| {});
    }

    /// Adds one leaf hash and tells of every perfect subtree that it completes: its height (0 for the leaf itself), its
    /// place among those of that height, its hash.
    pub fn push_noting(&mut self, leaf: Hash, mut note: impl FnMut(u32, u64, &Hash)) {
        let mut current = (0u32, leaf);
        note(0, self.size, &leaf);
        while let Some((height, left)) = self.peaks.last().copied() {
            if height != current.0 {
                break;
            }
            self.peaks.pop();
            current = (height + 1, node(&left, &current.1));
            note(current.0, self.size >> current.0, &current.1);
        }
        self.peaks.push(current);
        self.size += 1;
    }

    /// The perfect subtree of this height and place, when it is one of the right edge.
    fn peak(&self, height: u32, place: u64) -> Option<Hash> {
        let found = self.peaks.iter().find(|(found, _)| *found == height)?;
        (place == (self.size >> height) & !1).then_some(found.1)
    }

    /// The root over all leaves so far.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some((_, first)) = peaks.next() else { return empty_root() };
        peaks.fold(*first, |right, (_, left)| node(left, &right))
    }
}

/// The audit path of leaf `index` in the tree over `leaves`; `None` if there is no such leaf. RFC 6962 section 2.1.1.
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let mut path = Vec::new();
    let (mut part, mut at) = (leaves, index);
    while part.len() > 1 {
        let (left, right) = part.split_at(split(part.len()));
        if at < left.len() {
            path.push(root(right));
            part = left;
        } else {
            path.push(root(left));
            at -= left.len();
            part = right;
        }
    }
    path.reverse();
    Some(path)
}

/// Whether `leaf` is leaf `index` of the tree of `size` leaves with this root. RFC 9162 section 2.1.3.2.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], expected: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *expected
}

/// Whether the tree of `size` leaves with root `new` goes on from the tree of `old_size` leaves with root `old`. RFC
/// 9162 section 2.1.4.2; from the empty tree only the empty proof is taken.
pub fn verify_consistency(old_size: u64, size: u64, proof: &[Hash], old: &Hash, new: &Hash) -> bool {
    if old_size > size {
        return false;
    }
    if old_size == 0 {
        return proof.is_empty() && *old == empty_root();
    }
    if old_size == size {
        return proof.is_empty() && old == new;
    }
    let (mut at, mut last) = (old_size - 1, size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    // An old tree that is one perfect subtree begins the path itself.
    let (seed, path) = match (at, proof) {
        (0, path) => (old, path),
        (_, [first, path @ ..]) => (first, path),
        (_, []) => return false,
    };
    let (mut before, mut after) = (*seed, *seed);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            before = node(sibling, &before);
            after = node(sibling, &after);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            after = node(&after, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && before == *old && after == *new
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn leaves(n: usize) -> Vec<Hash> {
        (0..n).map(|i| leaf(&i.to_be_bytes())).collect()
    }

    #[test]
    fn known_answers_of_rfc_6962() {
        let hex = |h: Hash| h.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(leaf(&[])), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    }

    #[rstest]
    #[case(0)]
    #[case(1)]
    #[case(2)]
    #[case(3)]
    #[case(7)]
    #[case(8)]
    #[case(9)]
    #[case(100)]
    fn frontier_agrees_with_the_definition(#[case] n: usize) {
        let all = leaves(n);
        let mut frontier = Frontier::default();
        all.iter().for_each(|l| frontier.push(*l));
        assert_eq!(frontier.root(), root(&all));
        assert_eq!(frontier.size(), n as u64);
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proved_and_no_other_is() {
        for n in 1..20 {
            let all = leaves(n);
            let top = root(&all);
            for i in 0..n {
                let proof = inclusion_proof(&all, i).expect("leaf exists");
                assert!(verify_inclusion(&all[i], i as u64, n as u64, &proof, &top), "{i} of {n}");
                let other = leaf(b"other");
                assert!(!verify_inclusion(&other, i as u64, n as u64, &proof, &top));
                assert!(!verify_inclusion(&all[i], (i as u64 + 1) % n as u64, n as u64, &proof, &top) || n == 1);
            }
            assert!(inclusion_proof(&all, n).is_none());
        }
    }
}
