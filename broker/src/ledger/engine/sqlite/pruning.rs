//! Taking old records away, and keeping what proofs need of them.
//!
//! Records go in whole tiles of 256, whose root is stored already. Their leaf hashes are computed once more, compared
//! with that root, and kept in the records' place: 32 bytes for what took several hundred. So every checkpoint that was
//! ever signed stays provable, of any size, and whoever has a pruned record from a sink can still prove that it was
//! in the log. A tile that does not fit its root is damage that somebody should see, and is not removed.

use bursar_core::tlog::TILE_HEIGHT;

use super::super::codes::stored;
use super::super::prune::{Pruned, span};
use super::super::{TILE, TILE_SIZE};
use super::batch::{Batch, Fault};
use super::log;

impl Batch<'_> {
    /// Prunes whole tiles from the oldest record on, some at a time, and none that reaches `below`.
    pub(super) fn prune(&self, below: u64) -> Result<(), Fault> {
        let first = log::first_kept(&self.connection)?;
        for start in span(first, below, self.size()).step_by(TILE_SIZE) {
            self.prune_tile(start)?;
        }
        Ok(())
    }

    fn prune_tile(&self, start: u64) -> Result<(), Fault> {
        let hashes = log::leaf_hashes(&self.connection, start..start + TILE)?;
        let root = log::tile_root(&self.connection, TILE_HEIGHT, start / TILE)?;
        let pruned = Pruned::of(start, &hashes, root).map_err(Fault::Refused)?;
        self.connection.prepare_cached(KEEP)?.execute((stored(pruned.place), pruned.hashes))?;
        self.connection.prepare_cached(REMOVE)?.execute((stored(start), stored(start + TILE)))?;
        Ok(())
    }
}

const KEEP: &str = "INSERT INTO leaves (place, hashes) VALUES (?1, ?2)";
const REMOVE: &str = "DELETE FROM audit WHERE seq >= ?1 AND seq < ?2";
