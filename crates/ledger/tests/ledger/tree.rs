//! The tree against its definition and against known answers of others.

use custody_contracts::canonical::{hex, unhex};
use custody_ledger::merkle::{Frontier, Hash, inclusion_proof, leaf, root, verify_inclusion};
use proptest::prelude::*;

/// Leaves and roots of the reference implementation of RFC 6962 (certificate-transparency, merkle_tree_test).
const KNOWN: [(&str, &str); 8] = [
    ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
    ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
    ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
    ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
    ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
    ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
    ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
    ("606162636465666768696a6b6c6d6e6f", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
];

#[test]
fn roots_are_those_of_the_reference_implementation() {
    let (mut frontier, mut leaves) = (Frontier::default(), Vec::new());
    for (bytes, expected) in KNOWN {
        let hash = leaf(&unhex(bytes).unwrap());
        frontier.push(hash);
        leaves.push(hash);
        assert_eq!(hex(&root(&leaves)), expected);
        assert_eq!(hex(&frontier.root()), expected);
    }
}

fn leaves() -> impl Strategy<Value = Vec<Hash>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..200)
        .prop_map(|all| all.iter().map(|bytes| leaf(bytes)).collect())
}

proptest! {
    #[test]
    fn the_frontier_is_the_root_at_every_size(all in leaves()) {
        let mut frontier = Frontier::default();
        for (size, hash) in all.iter().enumerate() {
            prop_assert_eq!(frontier.root(), root(&all[..size]));
            frontier.push(*hash);
        }
        prop_assert_eq!((frontier.root(), frontier.size()), (root(&all), all.len() as u64));
    }

    #[test]
    fn a_changed_moved_or_missing_leaf_is_another_root(all in leaves(), at in any::<prop::sample::Index>()) {
        prop_assume!(all.len() > 1);
        let (top, at) = (root(&all), at.index(all.len()));
        let mut edited = all.clone();
        edited[at][0] ^= 1;
        prop_assert_ne!(root(&edited), top);
        let mut cut = all.clone();
        cut.remove(at);
        prop_assert_ne!(root(&cut), top);
        let other = (at + 1) % all.len();
        if all[at] != all[other] {
            let mut swapped = all.clone();
            swapped.swap(at, other);
            prop_assert_ne!(root(&swapped), top);
        }
    }

    #[test]
    fn a_proof_holds_for_its_leaf_place_and_root_alone(
        all in leaves(), at in any::<prop::sample::Index>(), bit in 0usize..256,
    ) {
        prop_assume!(!all.is_empty());
        let (top, at) = (root(&all), at.index(all.len()));
        let (size, index) = (all.len() as u64, at as u64);
        let proof = inclusion_proof(&all, at).unwrap();
        prop_assert!(proof.len() <= 8, "log2 of 200");
        prop_assert!(verify_inclusion(&all[at], index, size, &proof, &top));
        let flip = |hash: &Hash| { let mut h = *hash; h[bit / 8] ^= 1 << (bit % 8); h };
        prop_assert!(!verify_inclusion(&flip(&all[at]), index, size, &proof, &top));
        prop_assert!(!verify_inclusion(&all[at], index, size, &proof, &flip(&top)));
        prop_assert!(!verify_inclusion(&all[at], size, size, &proof, &top));
        for i in 0..proof.len() {
            let mut forged = proof.clone();
            forged[i] = flip(&forged[i]);
            prop_assert!(!verify_inclusion(&all[at], index, size, &forged, &top));
            forged.remove(i);
            prop_assert!(!verify_inclusion(&all[at], index, size, &forged, &top));
        }
        let mut longer = proof;
        longer.push(top);
        prop_assert!(!verify_inclusion(&all[at], index, size, &longer, &top));
    }
}
