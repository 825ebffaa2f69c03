//! Making proofs, from the stored hashes. Each reads at most 510 hashes for each stored level of the log: the siblings
//! that it names are perfect subtrees of different heights, but for one on the ragged right edge.

use super::hash::Hash;
use super::tree::{NodeSource, TreeError, subtree_hash};

/// Proves that the record at `index` is among the first `size` (RFC 9162, section 2.1.3.1): the siblings on its way to
/// the root, the lowest first, at most 64.
///
/// # Errors
/// [`TreeError::IndexOutOfRange`] when there is no such record, otherwise as for [`super::root_at`].
pub fn inclusion_proof<S: NodeSource>(
    source: &S,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, TreeError<S::Error>> {
    if index >= size {
        return Err(TreeError::IndexOutOfRange { index, size });
    }
    let mut proof = Vec::new();
    let mut subtree = 0..size;
    while subtree.end - subtree.start > 1 {
        let middle = split(&subtree);
        if index < middle {
            proof.push(subtree_hash(source, middle..subtree.end)?);
            subtree.end = middle;
        } else {
            proof.push(subtree_hash(source, subtree.start..middle)?);
            subtree.start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Proves that the log of `old` records is the beginning of the log of `new` records (RFC 9162, section 2.1.4.1): at
/// most 65 hashes, none when the sizes are equal or `old` is 0, which everything begins with.
///
/// # Errors
/// [`TreeError::SizesReversed`] when `old` is larger than `new`, otherwise as for [`super::root_at`].
pub fn consistency_proof<S: NodeSource>(
    source: &S,
    old: u64,
    new: u64,
) -> Result<Vec<Hash>, TreeError<S::Error>> {
    if old > new {
        return Err(TreeError::SizesReversed { old, new });
    }
    if old == 0 {
        return Ok(Vec::new());
    }
    let mut proof = Vec::new();
    let mut subtree = 0..new;
    while subtree.end > old {
        let middle = split(&subtree);
        if old <= middle {
            proof.push(subtree_hash(source, middle..subtree.end)?);
            subtree.end = middle;
        } else {
            proof.push(subtree_hash(source, subtree.start..middle)?);
            subtree.start = middle;
        }
    }
    // What is left ends where the old log ended. When it starts where that started too, it is the whole old log, whose
    // root the verifier has.
    if subtree.start > 0 {
        proof.push(subtree_hash(source, subtree)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Where RFC 6962 splits a subtree of two leaves or more: after the largest power of two that leaves something over.
fn split(subtree: &std::ops::Range<u64>) -> u64 {
    subtree.start + (1 << (subtree.end - subtree.start - 1).ilog2())
}
