//! The tree as it is stored, and the roots of its parts.

use std::error;
use std::ops::Range;

use thiserror::Error;

use super::frontier::Frontier;
use super::hash::{Hash, empty_root, join, node_hash};

/// Levels between two stored levels of inner nodes: 8, 16, 24 … are stored, each row over 256 of the level below.
pub const TILE_HEIGHT: u8 = 8;

/// What a whole tree comes to: how many leaves, and the one hash that commits to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    pub size: u64,
    pub root: Hash,
}

impl TreeHead {
    /// The head of a log without records: where somebody starts who has seen no checkpoint yet.
    pub fn empty() -> Self {
        Self { size: 0, root: empty_root() }
    }
}

/// A node over a full set of leaves, which no later append changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Height over the leaves, which are level 0.
    pub level: u8,
    /// Position in its level: it spans the leaves from `index << level`, `1 << level` of them.
    pub index: u64,
    pub hash: Hash,
}

impl Node {
    /// Whether a log must store this node, so that [`NodeSource::tile_root`] can answer.
    pub fn is_tile_root(&self) -> bool {
        self.level > 0 && self.level.is_multiple_of(TILE_HEIGHT)
    }
}

/// Where a log keeps its hashes.
pub trait NodeSource {
    /// How reading them fails.
    type Error: error::Error + Send + Sync + 'static;

    /// The leaf hashes of the records in `range`, in order: at most 128 are asked for at a time.
    ///
    /// # Errors
    /// When the store cannot be read. A record that is not there is left out, and the caller finds the count short.
    fn leaf_hashes(&self, range: Range<u64>) -> Result<Vec<Hash>, Self::Error>;

    /// The hash of the node `index` of `level`, which is a multiple of [`TILE_HEIGHT`] and not 0; `None` when it was
    /// never stored.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn tile_root(&self, level: u8, index: u64) -> Result<Option<Hash>, Self::Error>;
}

/// Why a root or a proof could not be computed.
#[derive(Debug, Error)]
pub enum TreeError<E: error::Error + 'static> {
    #[error("record {index} is not among the first {size} records of the log")]
    IndexOutOfRange { index: u64, size: u64 },
    #[error("no proof leads from {old} records to the smaller {new}")]
    SizesReversed { old: u64, new: u64 },
    #[error(
        "the log lacks leaf hashes of the records from {start} to before {end}; restore it from a backup"
    )]
    LeavesMissing { start: u64, end: u64 },
    #[error("the log lacks the node {index} of level {level}; restore it from a backup")]
    NodeMissing { level: u8, index: u64 },
    #[error("the hashes of the log could not be read")]
    Source(#[source] E),
}

/// The root that the log had when it was `size` records long. Reads at most 255 hashes for each stored level.
///
/// # Errors
/// [`TreeError::LeavesMissing`] or [`TreeError::NodeMissing`] when the log is shorter or damaged,
/// [`TreeError::Source`] when it cannot be read.
pub fn root_at<S: NodeSource>(source: &S, size: u64) -> Result<Hash, TreeError<S::Error>> {
    subtree_hash(source, 0..size)
}

/// The right edge that the log had when it was `size` records long: where somebody starts who replays it from there.
///
/// # Errors
/// As for [`root_at`].
pub fn frontier_at<S: NodeSource>(source: &S, size: u64) -> Result<Frontier, TreeError<S::Error>> {
    Ok(Frontier::of_subtrees(size, perfect_subtrees(source, 0..size)?))
}

/// `MTH(D[range])` of RFC 6962. The range is one that its recursion meets: it starts at a multiple of the smallest
/// power of two that is not below its length.
pub(super) fn subtree_hash<S: NodeSource>(
    source: &S,
    range: Range<u64>,
) -> Result<Hash, TreeError<S::Error>> {
    Ok(join(&perfect_subtrees(source, range)?))
}

/// The perfect subtrees that a range of the same kind is made of, the largest first.
fn perfect_subtrees<S: NodeSource>(source: &S, range: Range<u64>) -> Result<Vec<Hash>, TreeError<S::Error>> {
    let mut subtrees = Vec::new();
    let mut start = range.start;
    while let Some(level) = (range.end - start).checked_ilog2() {
        // At most 63, the logarithm of a u64.
        subtrees.push(perfect_hash(source, level as u8, start >> level)?);
        start += 1 << level;
    }
    Ok(subtrees)
}

/// The hash of the perfect subtree `index` of `level`, computed up from the nearest stored level at or below it.
fn perfect_hash<S: NodeSource>(source: &S, level: u8, index: u64) -> Result<Hash, TreeError<S::Error>> {
    let above = level % TILE_HEIGHT;
    let mut hashes = stored_hashes(source, level - above, index << above..(index + 1) << above)?;
    for _ in 0..above {
        let (pairs, _) = hashes.as_chunks();
        hashes = pairs.iter().map(|[left, right]| node_hash(left, right)).collect();
    }
    Ok(join(&hashes))
}

/// The hashes of the nodes in `range` of a stored level, all of them.
fn stored_hashes<S: NodeSource>(
    source: &S,
    level: u8,
    range: Range<u64>,
) -> Result<Vec<Hash>, TreeError<S::Error>> {
    if level > 0 {
        let stored = |index| {
            let hash = source.tile_root(level, index).map_err(TreeError::Source)?;
            hash.ok_or(TreeError::NodeMissing { level, index })
        };
        return range.map(stored).collect();
    }
    let Range { start, end } = range;
    let hashes = source.leaf_hashes(range).map_err(TreeError::Source)?;
    if u64::try_from(hashes.len()) != Ok(end - start) {
        return Err(TreeError::LeavesMissing { start, end });
    }
    Ok(hashes)
}
