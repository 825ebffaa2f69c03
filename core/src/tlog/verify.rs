//! Checking proofs, which come from somebody who is not trusted.

use thiserror::Error;

use super::hash::{Hash, empty_root, node_hash};
use super::tree::TreeHead;

/// Checks that the record with hash `leaf` stands at `index` in the log that `head` commits to (RFC 9162, section
/// 2.1.3.2).
///
/// # Errors
/// [`ProofError`], which says what the proof lacks. Whatever it is, the record is not proven to be in the log.
pub fn verify_inclusion(leaf: &Hash, index: u64, head: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    if index >= head.size {
        return Err(ProofError::IndexOutOfRange { index, size: head.size });
    }
    let mut path = Path { node: index, last: head.size - 1 };
    let mut root = *leaf;
    for sibling in proof {
        root = match path.climb()? {
            Side::Left => node_hash(sibling, &root),
            Side::Right => node_hash(&root, sibling),
        };
    }
    path.finish()?;
    expect_root(head, &root)
}

/// Checks that the log of `old` is the beginning of the log of `new`, so that nothing of it was changed or removed
/// (RFC 9162, section 2.1.4.2). The empty log begins every log; a log of the same size must have the same root.
///
/// # Errors
/// [`ProofError`], which says what the proof lacks. Whatever it is, the history may have been rewritten.
pub fn verify_consistency(old: &TreeHead, new: &TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    if old.size > new.size {
        return Err(ProofError::SizesReversed { old: old.size, new: new.size });
    }
    if old.size == 0 {
        expect_root(old, &empty_root())?;
    }
    if old.size == new.size {
        expect_root(new, &old.root)?;
    }
    if old.size == 0 || old.size == new.size {
        return if proof.is_empty() { Ok(()) } else { Err(ProofError::WrongLength) };
    }
    // An old log of a power of two is one subtree of the new one. Its hash is known, and proofs leave it out.
    let (first, siblings) = if old.size.is_power_of_two() {
        (&old.root, proof)
    } else {
        proof.split_first().ok_or(ProofError::WrongLength)?
    };
    // Starts at the largest perfect subtree that ends where the old log ended.
    let level = (old.size - 1).trailing_ones();
    let mut path = Path { node: (old.size - 1) >> level, last: (new.size - 1) >> level };
    let (mut old_root, mut new_root) = (*first, *first);
    for sibling in siblings {
        match path.climb()? {
            Side::Left => {
                old_root = node_hash(sibling, &old_root);
                new_root = node_hash(sibling, &new_root);
            }
            // A sibling on the right came after the old log.
            Side::Right => new_root = node_hash(&new_root, sibling),
        }
    }
    path.finish()?;
    expect_root(old, &old_root)?;
    expect_root(new, &new_root)
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProofError {
    #[error("record {index} is not among the {size} records of the log")]
    IndexOutOfRange { index: u64, size: u64 },
    #[error("the log shrank from {old} to {new} records, which a log that is only added to cannot do")]
    SizesReversed { old: u64, new: u64 },
    #[error("the proof does not have as many hashes as the sizes ask for")]
    WrongLength,
    #[error("the proof leads to another root than that of the log at {size} records")]
    RootMismatch { size: u64 },
}

/// The way from a node to the root, in the numbers of the nodes of the current level: the one it is at, and the last.
struct Path {
    node: u64,
    last: u64,
}

impl Path {
    /// Goes up to the next level where the node has a sibling, and says on which side that sibling stood.
    fn climb(&mut self) -> Result<Side, ProofError> {
        if self.last == 0 {
            return Err(ProofError::WrongLength);
        }
        let side = if self.node % 2 == 1 || self.node == self.last { Side::Left } else { Side::Right };
        if self.node == self.last {
            // The last node of a level with an odd number of them has no sibling: it stands in for its parent.
            let alone = self.node.trailing_zeros();
            self.node >>= alone;
            self.last >>= alone;
        }
        self.node >>= 1;
        self.last >>= 1;
        Ok(side)
    }

    fn finish(&self) -> Result<(), ProofError> {
        if self.last == 0 { Ok(()) } else { Err(ProofError::WrongLength) }
    }
}

/// Where a sibling stands.
enum Side {
    Left,
    Right,
}

fn expect_root(head: &TreeHead, root: &Hash) -> Result<(), ProofError> {
    if *root == head.root { Ok(()) } else { Err(ProofError::RootMismatch { size: head.size }) }
}
