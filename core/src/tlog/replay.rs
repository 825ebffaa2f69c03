//! Checking a whole log offline, from an export and a checkpoint.

use thiserror::Error;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::frontier::Frontier;
use super::hash::leaf_hash;
use super::key::{KeyId, Verifier};
use super::note::NoteError;
use super::tree::TreeHead;

/// Replays a log from its first record and compares what it comes to with what its broker signed. An edited, inserted,
/// removed or moved record makes another root; one cut off the end, another size. Memory does not grow with the log.
#[derive(Debug)]
pub struct LogVerifier {
    verifier: Verifier,
    frontier: Frontier,
}

impl LogVerifier {
    /// Starts before the first record of the log that `verifier` is the key of.
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier, frontier: Frontier::default() }
    }

    /// Starts before record `start.size()`, where the records before are not at hand: they were pruned, or lie in another
    /// export. `start` needs no trust. A root that is signed is reached from the true edge of the log alone.
    pub fn start_at(&mut self, start: Frontier) {
        self.frontier = start;
    }

    /// Takes the next record: its exact bytes, without the newline that ends its line in an export.
    pub fn push(&mut self, record: &[u8]) {
        self.frontier.append(leaf_hash(record), |_| {});
    }

    /// What the records so far come to. Nobody has vouched for it.
    pub fn head(&self) -> TreeHead {
        self.frontier.head()
    }

    /// Compares the records with the checkpoint in `note`. The checkpoint is believed only when the log signed it.
    ///
    /// # Errors
    /// [`ReplayError`], which says what does not fit. Whatever it is, the records are not the log that was signed.
    pub fn finish(self, note: &str) -> Result<Checkpoint, ReplayError> {
        let checkpoint = Checkpoint::open(note, &self.verifier).map_err(ReplayError::of_checkpoint)?;
        let (have, want) = (self.frontier.size(), checkpoint.head().size);
        if have < want {
            return Err(ReplayError::Truncated { have, want });
        }
        if have > want {
            return Err(ReplayError::Surplus { have, want });
        }
        if self.head() != checkpoint.head() {
            return Err(ReplayError::RootMismatch { size: have });
        }
        Ok(checkpoint)
    }
}

/// Why records are not the log that was signed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReplayError {
    #[error(
        "the checkpoint is not signed by `{name}` with the key `{id}`; check that it is the key of this log"
    )]
    UnknownSigner { name: String, id: KeyId },
    #[error("the checkpoint cannot be believed")]
    Checkpoint(#[source] CheckpointError),
    #[error(
        "there are {have} records and the checkpoint has {want}: records were removed, or the export was cut off"
    )]
    Truncated { have: u64, want: u64 },
    #[error(
        "there are {have} records and the checkpoint has {want}: records were inserted, or the checkpoint is older \
         than the export"
    )]
    Surplus { have: u64, want: u64 },
    #[error(
        "the {size} records are not those that the checkpoint signs: one or more were edited, replaced or moved"
    )]
    RootMismatch { size: u64 },
}

impl ReplayError {
    fn of_checkpoint(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Note(NoteError::UnknownSigner { name, id }) => Self::UnknownSigner { name, id },
            other => Self::Checkpoint(other),
        }
    }
}

#[cfg(test)]
mod tests;
