//! The end of the log, checked when it is opened, and proofs between its heads.

use std::ops::Range;

use bursar_core::tlog::{
    Frontier, Hash, NodeSource, TreeError, consistency_proof, frontier_at, inclusion_proof, leaf_hash,
    verify_inclusion,
};

use super::engine::{LogTail, Snapshot, StoredHead, TILE};
use super::error::LedgerError;

/// Reads where the log ends, and checks that the last record and the tree below it are those of the head.
pub(super) fn head(snapshot: &dyn Snapshot) -> Result<StoredHead, LedgerError> {
    let size = snapshot.log_size()?;
    let Some((frontier, vouched)) = snapshot.head()? else {
        let tail = LogTail { frontier: Frontier::default(), latest: i64::MIN };
        return match size {
            0 => Ok(StoredHead { tail, vouched: None }),
            _ => Err(corrupt(format!("it has {size} audit records and no head"))),
        };
    };
    let frontier = Frontier::from_bytes(&frontier).map_err(|error| corrupt(error.to_string()))?;
    let sealed = frontier.size();
    if sealed != size {
        return Err(corrupt(format!("its head is over {sealed} audit records, and {size} are there")));
    }
    let latest = match size.checked_sub(1) {
        Some(last) => check_last(snapshot, &frontier, last)?,
        None => i64::MIN,
    };
    Ok(StoredHead { tail: LogTail { frontier, latest }, vouched: Some(vouched) })
}

/// Proves the last record to the head, by the way on which a proof to anybody else would go. Answers its time.
fn check_last(snapshot: &dyn Snapshot, frontier: &Frontier, last: u64) -> Result<i64, LedgerError> {
    let not_written =
        || corrupt(format!("audit record {last} or one beside it is not the one that was written"));
    let (at, line) = snapshot.record(last)?.ok_or_else(not_written)?;
    let head = frontier.head();
    let proof = inclusion_proof(&Hashes { snapshot }, last, head.size);
    let proof = proof.map_err(|error| corrupt(error.to_string()))?;
    verify_inclusion(&leaf_hash(&line), last, &head, &proof).map_err(|_| not_written())?;
    Ok(at)
}

/// Proves that the log of `old` records is the beginning of that of `new`.
pub(super) fn consistency(snapshot: &dyn Snapshot, old: u64, new: u64) -> Result<Vec<Hash>, LedgerError> {
    let size = snapshot.log_size()?;
    if old > new || new > size {
        return Err(LedgerError::ProofRange { old, new, size });
    }
    consistency_proof(&Hashes { snapshot }, old, new).map_err(unproven)
}

/// The record of this number, where it was not pruned, and the proof that it is among the first `size`.
pub(super) fn inclusion(
    snapshot: &dyn Snapshot,
    seq: u64,
    size: u64,
) -> Result<(Option<Vec<u8>>, Vec<Hash>), LedgerError> {
    let there = snapshot.log_size()?;
    if seq >= size || size > there {
        return Err(LedgerError::ProofRange { old: seq, new: size, size: there });
    }
    let line = snapshot.record(seq)?.map(|(_, line)| line);
    let proof = inclusion_proof(&Hashes { snapshot }, seq, size).map_err(unproven)?;
    Ok((line, proof))
}

/// The right edge of the log as it was at `size` records.
pub(super) fn edge(snapshot: &dyn Snapshot, size: u64) -> Result<Frontier, LedgerError> {
    let there = snapshot.log_size()?;
    if size > there {
        return Err(LedgerError::ProofRange { old: size, new: size, size: there });
    }
    frontier_at(&Hashes { snapshot }, size).map_err(unproven)
}

fn unproven(error: TreeError<LedgerError>) -> LedgerError {
    match error {
        TreeError::Source(source) => source,
        damage => corrupt(damage.to_string()),
    }
}

fn corrupt(what: String) -> LedgerError {
    LedgerError::Corrupt { what }
}

/// The hashes of the log: leaves from the records themselves, nodes from the tiles.
struct Hashes<'s> {
    snapshot: &'s dyn Snapshot,
}

impl NodeSource for Hashes<'_> {
    type Error = LedgerError;

    /// No tile is pruned in part, and nobody asks for leaves of two at once.
    fn leaf_hashes(&self, range: Range<u64>) -> Result<Vec<Hash>, LedgerError> {
        if range.start < self.snapshot.first_kept()? {
            let pruned = self.snapshot.pruned_hashes(range.start / TILE)?.unwrap_or_default();
            let skipped = usize::try_from(range.start % TILE).unwrap_or(usize::MAX);
            let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            return Ok(pruned.into_iter().skip(skipped).take(wanted).collect());
        }
        self.snapshot.leaf_hashes(range)
    }

    fn tile_root(&self, level: u8, index: u64) -> Result<Option<Hash>, LedgerError> {
        self.snapshot.tile_root(level, index)
    }
}
