//! The right edge of the tree: all that a writer must hold in memory.

use thiserror::Error;

use super::hash::{Hash, join, node_hash};
use super::tree::{Node, TreeHead};

/// A tree that only grows, kept as the roots of the perfect subtrees it is made of, the largest first.
///
/// Invariant: there is one root for each set bit of `size`, so at most 64. Cloning it before a batch and putting the
/// clone back undoes the batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// Reads what [`Frontier::to_bytes`] wrote. That it is the frontier of the log at hand, and not of another of the
    /// same size, shows when [`Frontier::head`] is compared with a checkpoint: do so.
    ///
    /// # Errors
    /// [`FrontierError`] when the size is out of range or the number of hashes does not fit it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrontierError> {
        let (size, hashes) = bytes.split_first_chunk().ok_or(FrontierError::NoSize)?;
        let size = u64::from_be_bytes(*size);
        if size > MAX_SIZE {
            return Err(FrontierError::TooLarge { size });
        }
        let (hashes, rest) = hashes.as_chunks();
        let want = size.count_ones();
        if !rest.is_empty() || u32::try_from(hashes.len()) != Ok(want) {
            return Err(FrontierError::HashCount { size, want });
        }
        Ok(Self { size, subtrees: hashes.iter().copied().map(Hash::from).collect() })
    }

    /// The caller has one root for each set bit of `size`, the largest subtree first.
    pub(super) fn of_subtrees(size: u64, subtrees: Vec<Hash>) -> Self {
        Self { size, subtrees }
    }

    /// The size as 8 bytes, big-endian, then 32 bytes for each subtree: at most 2,024 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_be_bytes().to_vec();
        for subtree in &self.subtrees {
            bytes.extend_from_slice(subtree.as_bytes());
        }
        bytes
    }

    /// Adds the next leaf. `completed` is told of each inner node that this makes final, from the lowest upwards: a log
    /// stores those of which [`Node::is_tile_root`] holds. On average an append completes one node.
    pub fn append(&mut self, leaf: Hash, mut completed: impl FnMut(Node)) {
        let mut node = Node { level: 0, index: self.size, hash: leaf };
        // A node with an odd index is a right child, and its left sibling is the smallest subtree kept.
        while node.index % 2 == 1
            && let Some(left) = self.subtrees.pop()
        {
            let hash = node_hash(&left, &node.hash);
            node = Node { level: node.level + 1, index: node.index / 2, hash };
            completed(node);
        }
        self.subtrees.push(node.hash);
        self.size += 1;
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over all leaves, for at most 62 node hashes.
    pub fn root(&self) -> Hash {
        join(&self.subtrees)
    }

    /// Size and root together, ready to be signed or compared.
    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root() }
    }
}

/// Why bytes are not a frontier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrontierError {
    #[error("the stored frontier is too short to hold a size")]
    NoSize,
    #[error("the stored frontier claims {size} records, more than a log can have")]
    TooLarge { size: u64 },
    #[error(
        "the stored frontier claims {size} records, which takes exactly {want} hashes, and it has another number"
    )]
    HashCount { size: u64, want: u32 },
}

/// What a signed 64-bit column can number. Below it, `append` cannot overflow in the life of a machine.
const MAX_SIZE: u64 = i64::MAX.unsigned_abs();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::fixtures::{filled, leaves};

    #[test]
    fn an_append_tells_which_nodes_it_completed() {
        let mut frontier = filled(&leaves(7));
        let mut completed = Vec::new();
        let leaf = leaves(8).pop().expect("leaf");
        frontier.append(leaf, |node| completed.push((node.level, node.index, node.hash)));
        let positions: Vec<_> = completed.iter().map(|(level, index, _)| (*level, *index)).collect();
        assert_eq!(positions, [(1, 3), (2, 1), (3, 0)]);
        assert_eq!(completed.last().map(|(_, _, hash)| *hash), Some(frontier.root()));
    }

    #[test]
    fn an_append_to_an_even_size_completes_nothing() {
        let mut frontier = filled(&leaves(6));
        frontier.append(empty(), |node| panic!("completed {node:?}"));
    }

    #[test]
    fn bytes_carry_a_frontier_over_a_restart() {
        for count in [0, 1, 2, 3, 255, 256, 257] {
            let before = filled(&leaves(count));
            let mut after = Frontier::from_bytes(&before.to_bytes()).expect("frontier");
            assert_eq!(after, before);
            after.append(empty(), |_| {});
            assert_eq!(after.size(), before.size() + 1);
        }
    }

    #[test]
    fn bytes_of_the_wrong_length_are_refused() {
        let good = filled(&leaves(5)).to_bytes();
        assert_eq!(Frontier::from_bytes(&[]), Err(FrontierError::NoSize));
        assert_eq!(Frontier::from_bytes(&good[..7]), Err(FrontierError::NoSize));
        for length in (8..good.len()).chain([good.len() + 1, good.len() + 32]) {
            let mut bytes = good.clone();
            bytes.resize(length, 0);
            assert_eq!(
                Frontier::from_bytes(&bytes),
                Err(FrontierError::HashCount { size: 5, want: 2 }),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn a_size_beyond_any_log_is_refused() {
        let bytes = u64::MAX.to_be_bytes();
        assert_eq!(Frontier::from_bytes(&bytes), Err(FrontierError::TooLarge { size: u64::MAX }));
    }

    fn empty() -> Hash {
        crate::tlog::leaf_hash(b"")
    }
}
