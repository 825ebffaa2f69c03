//! Taking old records away, and keeping what proofs need of them.
//!
//! Records go in whole tiles of 256, whose root is stored already. Their leaf hashes are computed once more, compared
//! with that root, and kept in the records' place: 32 bytes for what took several hundred. So every checkpoint that was
//! ever signed stays provable, of any size, and whoever has a pruned record from a sink can still prove that it was
//! in the log. A tile that does not fit its root is damage that somebody should see, and is not removed.

use bursar_core::tlog::{Frontier, Hash, TILE_HEIGHT, leaf_hash};
use rusqlite::{Connection, OptionalExtension};

use super::batch::{Batch, Fault};
use super::codes::{micros, read, stored};
use crate::ledger::error::LedgerError;

impl Batch<'_> {
    /// Prunes whole tiles from the oldest record on, at most [`TILES`] of them, and none that reaches `below`.
    pub(super) fn prune(&self, below: u64) -> Result<(), Fault> {
        let first = first_kept(&self.connection)?;
        // The last record stays: an empty table would say that nothing was ever recorded.
        let last = self.size().saturating_sub(1);
        let end = below.min(last).min(first.saturating_add(TILES * TILE)) / TILE * TILE;
        for start in (first..end).step_by(TILE_SIZE) {
            self.prune_tile(start)?;
        }
        Ok(())
    }

    fn prune_tile(&self, start: u64) -> Result<(), Fault> {
        let (place, range) = (stored(start / TILE), (stored(start), stored(start + TILE)));
        let mut select = self.connection.prepare_cached(RANGE)?;
        let hashes = select.query_map(range, |row| Ok(leaf_hash(row.get_ref(0)?.as_blob()?)))?;
        let hashes = hashes.collect::<rusqlite::Result<Vec<Hash>>>()?;
        let mut frontier = Frontier::default();
        hashes.iter().for_each(|hash| frontier.append(*hash, |_| {}));
        let mut select = self.connection.prepare_cached(TILE_ROOT)?;
        let root: Option<[u8; Hash::LENGTH]> =
            select.query_row((TILE_HEIGHT, place), |row| row.get(0)).optional()?;
        if frontier.size() != TILE || root.map(Hash::from) != Some(frontier.root()) {
            let what =
                format!("the audit records {start} to {} are not those that were signed", start + TILE - 1);
            return Err(Fault::Refused(LedgerError::Corrupt { what }));
        }
        let kept: Vec<u8> = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
        self.connection.prepare_cached(KEEP)?.execute((place, kept))?;
        self.connection.prepare_cached(REMOVE)?.execute(range)?;
        Ok(())
    }
}

/// The oldest record that is there; the size of the log when there is none.
pub(in crate::ledger) fn first_kept(connection: &Connection) -> rusqlite::Result<u64> {
    let mut select = connection.prepare_cached("SELECT min(seq) FROM audit")?;
    let first: Option<i64> = select.query_row([], |row| row.get(0))?;
    Ok(read(first.unwrap_or_default()))
}

/// Where pruning may begin to leave records alone: the first one of `time` or later, at the end of a tile, and never
/// the last records of the log.
pub(in crate::ledger) fn prunable(
    connection: &Connection,
    time: jiff::Timestamp,
) -> Result<Prunable, LedgerError> {
    let first = first_kept(connection)?;
    let size = super::audit::size(connection)?;
    let mut select = connection.prepare_cached("SELECT at FROM audit WHERE seq = ?1")?;
    let mut below = first;
    // Steps as long as the tiles are, from the oldest on, would read each of them: halve instead.
    let mut tiles = size.saturating_sub(first + 1) / TILE;
    while tiles > 0 {
        let half = tiles.div_ceil(2);
        let last = below + half * TILE - 1;
        let at: Option<i64> = select.query_row([stored(last)], |row| row.get(0)).optional()?;
        if at.is_some_and(|at| at < micros(time)) {
            below = last + 1;
            tiles -= half;
        } else {
            tiles = half - 1;
        }
    }
    Ok(Prunable { first, below })
}

/// What may go: the records from `first` to before `below`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prunable {
    pub first: u64,
    pub below: u64,
}

/// The leaf hashes of pruned records, as far as `range` asks for them and this place of 256 has them.
pub(super) fn leaves(connection: &Connection, place: u64) -> rusqlite::Result<Option<Vec<Hash>>> {
    let mut select = connection.prepare_cached("SELECT hashes FROM leaves WHERE place = ?1")?;
    let hashes = select.query_row([stored(place)], |row| {
        let (hashes, _) = row.get_ref(0)?.as_blob()?.as_chunks::<{ Hash::LENGTH }>();
        Ok(hashes.iter().copied().map(Hash::from).collect())
    });
    hashes.optional()
}

/// Records in a tile.
pub(super) const TILE: u64 = 1 << TILE_HEIGHT;
const TILE_SIZE: usize = 1 << TILE_HEIGHT;

/// Tiles in one change: about two milliseconds of the writer's time.
const TILES: u64 = 4;

const RANGE: &str = "SELECT line FROM audit WHERE seq >= ?1 AND seq < ?2 ORDER BY seq";
const TILE_ROOT: &str = "SELECT hash FROM tiles WHERE level = ?1 AND place = ?2";
const KEEP: &str = "INSERT INTO leaves (place, hashes) VALUES (?1, ?2)";
const REMOVE: &str = "DELETE FROM audit WHERE seq >= ?1 AND seq < ?2";
