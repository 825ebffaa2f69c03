//! Which records one change prunes, and what is kept of a tile of them.

use std::ops::Range;

use bursar_core::tlog::{Frontier, Hash};

use super::TILE;
use crate::ledger::error::LedgerError;

/// Whole tiles from the oldest record on, at most [`TILES`] of them, and none that reaches `below`. `size` is that of the
/// log.
pub(super) fn span(first: u64, below: u64, size: u64) -> Range<u64> {
    // The last record stays: an empty table would say that nothing was ever recorded.
    let last = size.saturating_sub(1);
    first..below.min(last).min(first.saturating_add(TILES * TILE)) / TILE * TILE
}

/// What takes the place of a tile's records.
pub(super) struct Pruned {
    pub(super) place: u64,
    pub(super) hashes: Vec<u8>,
}

impl Pruned {
    /// Of the records from `start` on, whose leaf hashes must make the root that is stored.
    pub(super) fn of(start: u64, hashes: &[Hash], root: Option<Hash>) -> Result<Self, LedgerError> {
        let mut frontier = Frontier::default();
        hashes.iter().for_each(|hash| frontier.append(*hash, |_| {}));
        if frontier.size() != TILE || root != Some(frontier.root()) {
            let what =
                format!("the audit records {start} to {} are not those that were signed", start + TILE - 1);
            return Err(LedgerError::Corrupt { what });
        }
        let hashes = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
        Ok(Self { place: start / TILE, hashes })
    }
}

/// Tiles in one change: about two milliseconds of the writer's time.
const TILES: u64 = 4;
