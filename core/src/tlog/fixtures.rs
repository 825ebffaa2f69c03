//! What the tests of the log share: a log in memory, the tree as the RFC defines it, and a key.

use std::cell::Cell;
use std::convert::Infallible;
use std::ops::Range;

use data_encoding::BASE64;

use super::{Frontier, Hash, Node, NodeSource, Signer, empty_root, leaf_hash, node_hash};

/// The verifier key of the example in the Go implementation of signed notes.
pub(super) const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

/// A signer with the key of that example, under any name.
pub(super) fn signer(name: &str) -> Signer {
    let decode = |text: &str| BASE64.decode(text.as_bytes()).expect("base64");
    // Both begin with a byte that names the algorithm.
    let seed = decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz");
    let public_key = decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
    let document =
        [b"0Q\x02\x01\x010\x05\x06\x03+ep\x04\x22\x04\x20", &seed[1..], b"\x81\x21\x00", &public_key[1..]]
            .concat();
    Signer::from_pkcs8(name, &document).expect("key")
}

/// `count` leaves, each another.
pub(super) fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|index| leaf_hash(&index.to_be_bytes())).collect()
}

/// A frontier that was given `leaves`.
pub(super) fn filled(leaves: &[Hash]) -> Frontier {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.append(*leaf, |_| {}));
    frontier
}

/// `MTH` as RFC 6962, section 2.1, defines it.
pub(super) fn reference_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&reference_root(left), &reference_root(right))
        }
    }
}

/// A log as a ledger stores it: leaf hashes, and of the inner nodes the tile roots.
pub(super) struct MemoryLog {
    pub(super) leaves: Vec<Hash>,
    pub(super) tile_roots: Vec<Node>,
}

impl MemoryLog {
    pub(super) fn new(leaves: Vec<Hash>) -> Self {
        let mut tile_roots = Vec::new();
        let mut frontier = Frontier::default();
        for leaf in &leaves {
            frontier.append(*leaf, |node| tile_roots.extend(node.is_tile_root().then_some(node)));
        }
        Self { leaves, tile_roots }
    }
}

impl NodeSource for MemoryLog {
    type Error = Infallible;

    fn leaf_hashes(&self, range: Range<u64>) -> Result<Vec<Hash>, Infallible> {
        let wanted = usize::try_from(range.start).expect("start")..usize::try_from(range.end).expect("end");
        Ok(self.leaves.iter().take(wanted.end).skip(wanted.start).copied().collect())
    }

    fn tile_root(&self, level: u8, index: u64) -> Result<Option<Hash>, Infallible> {
        let wanted = |node: &&Node| node.level == level && node.index == index;
        Ok(self.tile_roots.iter().find(wanted).map(|node| node.hash))
    }
}

/// A log of any length whose records are all the same, so that every node of a level has one hash. Counts what is read.
#[derive(Default)]
pub(super) struct EndlessLog {
    /// Hashes read since this was last taken.
    pub(super) reads: Cell<u64>,
}

impl EndlessLog {
    pub(super) fn node(level: u8) -> Hash {
        (0..level).fold(leaf_hash(b"same"), |below, _| node_hash(&below, &below))
    }
}

impl NodeSource for EndlessLog {
    type Error = Infallible;

    fn leaf_hashes(&self, range: Range<u64>) -> Result<Vec<Hash>, Infallible> {
        assert!(range.end - range.start <= 128, "{range:?} is more than a reader is told to expect");
        self.reads.set(self.reads.get() + range.end - range.start);
        Ok(range.map(|_| Self::node(0)).collect())
    }

    fn tile_root(&self, level: u8, _index: u64) -> Result<Option<Hash>, Infallible> {
        self.reads.set(self.reads.get() + 1);
        Ok(Some(Self::node(level)))
    }
}
