//! The tree against published vectors, against the recursive definition, and against forged proofs.

use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::fixtures::{EndlessLog, MemoryLog, filled, leaves, reference_root};
use super::*;

/// The leaves that the implementations of certificate transparency test with.
const PUBLISHED_LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

/// The roots of the trees of the first 0, 1, … 8 of them.
const PUBLISHED_ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

#[test]
fn the_roots_are_those_that_were_published() {
    let mut frontier = Frontier::default();
    for (size, root) in (0..).zip(PUBLISHED_ROOTS) {
        assert_eq!(frontier.head(), TreeHead { size, root: hash(root) });
        if let Some(leaf) = published_leaves().get(usize::try_from(size).expect("size")) {
            frontier.append(*leaf, |_| {});
        }
    }
}

#[test]
fn a_published_inclusion_proof_is_made_and_accepted() {
    let log = MemoryLog::new(published_leaves());
    let proof = inclusion_proof(&log, 5, 8).expect("proof");
    let published = [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(proof, published.map(hash));
    let head = TreeHead { size: 8, root: hash(PUBLISHED_ROOTS[8]) };
    assert_eq!(verify_inclusion(&log.leaves[5], 5, &head, &proof), Ok(()));
}

#[test]
fn the_right_edge_of_any_size_is_found_again_in_the_stored_hashes() {
    let all = leaves(700);
    let log = MemoryLog::new(all.clone());
    for size in [0, 1, 5, 255, 256, 257, 512, 699, 700] {
        let kept = &all[..usize::try_from(size).expect("size")];
        assert_eq!(frontier_at(&log, size).expect("frontier"), filled(kept), "at {size}");
    }
}

#[test]
fn a_published_consistency_proof_is_made_and_accepted() {
    let log = MemoryLog::new(published_leaves());
    let proof = consistency_proof(&log, 6, 8).expect("proof");
    let published = [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(proof, published.map(hash));
    let old = TreeHead { size: 6, root: hash(PUBLISHED_ROOTS[6]) };
    let new = TreeHead { size: 8, root: hash(PUBLISHED_ROOTS[8]) };
    assert_eq!(verify_consistency(&old, &new, &proof), Ok(()));
}

#[test]
fn every_size_has_the_root_of_the_recursive_definition() {
    let log = MemoryLog::new(leaves(600));
    let mut frontier = Frontier::default();
    for (size, leaf) in log.leaves.iter().enumerate() {
        let expected = reference_root(&log.leaves[..size]);
        assert_eq!(frontier.root(), expected, "frontier of {size}");
        assert_eq!(root_at(&log, frontier.size()).expect("root"), expected, "stored tree of {size}");
        frontier.append(*leaf, |_| {});
    }
}

#[test]
fn every_record_of_every_small_log_is_proven_to_be_in_it() {
    let log = MemoryLog::new(leaves(70));
    for size in 1..=70 {
        let head = head_at(&log, size);
        for (index, leaf) in (0..size).zip(&log.leaves) {
            let proof = inclusion_proof(&log, index, size).expect("proof");
            assert_eq!(verify_inclusion(leaf, index, &head, &proof), Ok(()), "{index} of {size}");
        }
    }
}

#[test]
fn every_small_log_is_proven_to_begin_every_later_one() {
    let log = MemoryLog::new(leaves(70));
    for new in 0..=70 {
        for old in 0..=new {
            let proof = consistency_proof(&log, old, new).expect("proof");
            let outcome = verify_consistency(&head_at(&log, old), &head_at(&log, new), &proof);
            assert_eq!(outcome, Ok(()), "{old} to {new}");
        }
    }
}

#[test]
fn proofs_across_stored_levels_hold() {
    let log = MemoryLog::new(leaves(66_000));
    for size in [255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 65_793, 66_000] {
        let head = head_at(&log, size);
        for index in [0, 254, 255, 256, 511, 512, 65_535, 65_536, 65_792, size - 1] {
            let Some(leaf) = log.leaves[..usize::try_from(size).expect("size")].get(index_of(index)) else {
                continue;
            };
            let proof = inclusion_proof(&log, index, size).expect("proof");
            assert_eq!(verify_inclusion(leaf, index, &head, &proof), Ok(()), "{index} of {size}");
        }
        for old in [0, 1, 255, 256, 257, 65_535, 65_536, 65_537].into_iter().filter(|old| *old <= size) {
            let proof = consistency_proof(&log, old, size).expect("proof");
            assert_eq!(verify_consistency(&head_at(&log, old), &head, &proof), Ok(()), "{old} to {size}");
        }
    }
}

#[test]
fn a_proof_in_an_enormous_log_reads_little() {
    for size in [1_000_000_007, u64::from(u32::MAX), (1 << 40) - 1, (1 << 62) + 12_345, u64::MAX >> 1] {
        let stored_levels = u64::from(size.ilog2()) / 8 + 1;
        let log = EndlessLog::default();
        let head = TreeHead { size, root: root_at(&log, size).expect("root") };
        assert!(log.reads.take() <= 255 * stored_levels, "root of {size}");

        let proof = inclusion_proof(&log, size / 3, size).expect("proof");
        assert!(log.reads.take() <= 510 * stored_levels, "inclusion in {size}");
        assert_eq!(verify_inclusion(&EndlessLog::node(0), size / 3, &head, &proof), Ok(()), "{size}");

        let old = TreeHead { size: size / 3, root: root_at(&log, size / 3).expect("root") };
        log.reads.take();
        let proof = consistency_proof(&log, old.size, size).expect("proof");
        assert!(log.reads.take() <= 510 * stored_levels, "consistency with {size}");
        assert_eq!(verify_consistency(&old, &head, &proof), Ok(()), "{size}");
    }
}

#[test]
fn proofs_beyond_the_log_are_refused() {
    let log = MemoryLog::new(leaves(5));
    assert!(matches!(inclusion_proof(&log, 5, 5), Err(TreeError::IndexOutOfRange { index: 5, size: 5 })));
    assert!(matches!(inclusion_proof(&log, 0, 0), Err(TreeError::IndexOutOfRange { index: 0, size: 0 })));
    assert!(matches!(consistency_proof(&log, 5, 4), Err(TreeError::SizesReversed { old: 5, new: 4 })));
    assert!(matches!(inclusion_proof(&log, 0, 6), Err(TreeError::LeavesMissing { start: 4, end: 6 })));
    assert!(matches!(consistency_proof(&log, 2, 6), Err(TreeError::LeavesMissing { start: 4, end: 6 })));
}

#[test]
fn a_lost_node_is_named() {
    let mut log = MemoryLog::new(leaves(600));
    log.tile_roots.retain(|node| node.index != 1);
    assert!(matches!(root_at(&log, 600), Err(TreeError::NodeMissing { level: 8, index: 1 })));
}

#[test]
fn the_empty_log_begins_every_log() {
    let log = MemoryLog::new(leaves(3));
    assert_eq!(verify_consistency(&TreeHead::empty(), &head_at(&log, 3), &[]), Ok(()));
    assert_eq!(verify_consistency(&TreeHead::empty(), &TreeHead::empty(), &[]), Ok(()));
}

#[test]
fn a_head_of_size_0_with_another_root_is_refused() {
    let log = MemoryLog::new(leaves(3));
    let wrong = TreeHead { size: 0, root: log.leaves[0] };
    for (old, new) in [(wrong, head_at(&log, 3)), (wrong, wrong), (TreeHead::empty(), wrong)] {
        let outcome = verify_consistency(&old, &new, &[]);
        assert_eq!(outcome, Err(ProofError::RootMismatch { size: 0 }), "{old:?} to {new:?}");
    }
}

#[test]
fn two_roots_of_one_size_are_a_fork() {
    let one = head_at(&MemoryLog::new(leaves(3)), 3);
    let other = TreeHead { size: 3, root: empty_root() };
    assert_eq!(verify_consistency(&one, &one, &[]), Ok(()));
    assert_eq!(verify_consistency(&one, &other, &[]), Err(ProofError::RootMismatch { size: 3 }));
}

#[test]
fn a_shrunken_log_is_refused() {
    let log = MemoryLog::new(leaves(3));
    let outcome = verify_consistency(&head_at(&log, 3), &head_at(&log, 2), &[]);
    assert_eq!(outcome, Err(ProofError::SizesReversed { old: 3, new: 2 }));
}

#[test]
fn hashes_where_none_are_needed_are_refused() {
    let log = MemoryLog::new(leaves(3));
    let (head, extra) = (head_at(&log, 3), [log.leaves[0]]);
    assert_eq!(verify_consistency(&TreeHead::empty(), &head, &extra), Err(ProofError::WrongLength));
    assert_eq!(verify_consistency(&head, &head, &extra), Err(ProofError::WrongLength));
    let one = head_at(&log, 1);
    assert_eq!(verify_inclusion(&log.leaves[0], 0, &one, &extra), Err(ProofError::WrongLength));
}

#[test]
fn an_index_outside_the_log_is_refused() {
    let log = MemoryLog::new(leaves(3));
    let outcome = verify_inclusion(&log.leaves[0], 3, &head_at(&log, 3), &[]);
    assert_eq!(outcome, Err(ProofError::IndexOutOfRange { index: 3, size: 3 }));
    let outcome = verify_inclusion(&log.leaves[0], 0, &TreeHead::empty(), &[]);
    assert_eq!(outcome, Err(ProofError::IndexOutOfRange { index: 0, size: 0 }));
}

#[test]
fn the_text_of_a_hash_reads_back() {
    let hash = leaf_hash(b"record");
    assert_eq!(Hash::parse(&hash.to_string()), Ok(hash));
    assert_eq!(Hash::try_from(hash.as_bytes().as_slice()), Ok(hash));
}

#[test]
fn what_is_no_hash_is_refused() {
    let good = leaf_hash(b"record").to_string();
    let unpadded = good.trim_end_matches('=');
    let mut stray_bits = unpadded.to_owned();
    stray_bits.replace_range(42.., "B=");
    let short = "A".repeat(40) + "AA==";
    let long = "A".repeat(44);
    for text in ["", "AAAA", unpadded, &format!("{good}="), &stray_bits, &short, &long] {
        assert_eq!(Hash::parse(text), Err(HashError), "accepted {text}");
    }
    assert_eq!(Hash::try_from([0; 31].as_slice()), Err(HashError));
}

proptest! {
    #[test]
    fn a_random_log_has_the_root_of_the_recursive_definition(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 0..600),
    ) {
        let leaves: Vec<_> = records.iter().map(|record| leaf_hash(record)).collect();
        let expected = reference_root(&leaves);
        prop_assert_eq!(filled(&leaves).root(), expected);
        prop_assert_eq!(root_at(&MemoryLog::new(leaves), records.len() as u64).expect("root"), expected);
    }

    #[test]
    fn a_forged_inclusion_proof_is_refused((index, size) in within(300), forgery in forgery()) {
        let log = MemoryLog::new(leaves(300));
        let (leaf, head) = (log.leaves[index_of(index)], head_at(&log, size));
        let mut proof = inclusion_proof(&log, index, size).expect("proof");
        prop_assert_eq!(verify_inclusion(&leaf, index, &head, &proof), Ok(()));
        prop_assert!(verify_inclusion(&empty_root(), index, &head, &proof).is_err(), "another leaf");
        prop_assert!(verify_inclusion(&leaf, index ^ 1, &head, &proof).is_err() || size == 1, "another index");
        if forge(&mut proof, &forgery) {
            prop_assert!(verify_inclusion(&leaf, index, &head, &proof).is_err(), "{:?}", forgery);
        }
    }

    #[test]
    fn a_forged_consistency_proof_is_refused((old, new) in within(300), forgery in forgery()) {
        let log = MemoryLog::new(leaves(300));
        let (old_head, new_head) = (head_at(&log, old), head_at(&log, new));
        let mut proof = consistency_proof(&log, old, new).expect("proof");
        prop_assert_eq!(verify_consistency(&old_head, &new_head, &proof), Ok(()));
        let rewritten = TreeHead { root: log.leaves[0], ..new_head };
        prop_assert!(verify_consistency(&old_head, &rewritten, &proof).is_err() || old == 0, "another new root");
        let forgotten = TreeHead { root: log.leaves[299], ..old_head };
        prop_assert!(verify_consistency(&forgotten, &new_head, &proof).is_err(), "another old root");
        if forge(&mut proof, &forgery) {
            prop_assert!(verify_consistency(&old_head, &new_head, &proof).is_err(), "{:?}", forgery);
        }
    }

    #[test]
    fn no_sizes_and_hashes_make_a_verifier_panic(
        (first, second) in (any::<u64>(), any::<u64>()),
        proof in prop::collection::vec(any::<[u8; 32]>().prop_map(Hash::from), 0..70),
    ) {
        let head = |size| TreeHead { size, root: empty_root() };
        prop_assert!(verify_inclusion(&empty_root(), first, &head(second), &proof).is_err());
        let consistent = verify_consistency(&head(first), &head(second), &proof).is_ok();
        prop_assert_eq!(consistent, proof.is_empty() && (first == 0 || first == second));
    }

    #[test]
    fn no_bytes_make_a_frontier_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(frontier) = Frontier::from_bytes(&bytes) {
            prop_assert_eq!(frontier.to_bytes(), bytes);
        }
    }
}

#[derive(Debug, Clone)]
enum Forgery {
    Flip { position: prop::sample::Index, bit: u8 },
    Remove(prop::sample::Index),
    Repeat(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
}

fn forgery() -> impl Strategy<Value = Forgery> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(position, bit)| Forgery::Flip { position, bit }),
        index().prop_map(Forgery::Remove),
        index().prop_map(Forgery::Repeat),
        (index(), index()).prop_map(|(one, other)| Forgery::Swap(one, other)),
    ]
}

/// Whether the proof is another now.
fn forge(proof: &mut Vec<Hash>, forgery: &Forgery) -> bool {
    if proof.is_empty() {
        return false;
    }
    let before = proof.clone();
    let at = |position: &prop::sample::Index| position.index(before.len());
    match forgery {
        Forgery::Flip { position, bit } => {
            let mut bytes = *proof[at(position)].as_bytes();
            bytes[usize::from(bit / 8)] ^= 1 << (bit % 8);
            proof[at(position)] = Hash::from(bytes);
        }
        Forgery::Remove(position) => drop(proof.remove(at(position))),
        Forgery::Repeat(position) => proof.insert(at(position), proof[at(position)]),
        Forgery::Swap(one, other) => proof.swap(at(one), at(other)),
    }
    *proof != before
}

/// A size from 1 to `limit`, and a number below it.
fn within(limit: u64) -> impl Strategy<Value = (u64, u64)> {
    (1..=limit).prop_flat_map(|size| (0..size, Just(size)))
}

fn head_at(log: &MemoryLog, size: u64) -> TreeHead {
    TreeHead { size, root: root_at(log, size).expect("root") }
}

fn index_of(index: u64) -> usize {
    usize::try_from(index).expect("index")
}

fn published_leaves() -> Vec<Hash> {
    let decode = |text: &str| HEXLOWER.decode(text.as_bytes()).expect("hex");
    PUBLISHED_LEAVES.iter().map(|leaf| leaf_hash(&decode(leaf))).collect()
}

fn hash(hex: &str) -> Hash {
    Hash::try_from(HEXLOWER.decode(hex.as_bytes()).expect("hex").as_slice()).expect("hash")
}
