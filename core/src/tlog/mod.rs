//! The transparency log: the mathematics that lets anybody check the audit ledger without trusting who keeps it.
//!
//! Audit records are the leaves of a Merkle tree (RFC 6962 and RFC 9162, sections 2.1), in order, each the exact bytes
//! of its record. A [`TreeHead`] commits to every record up to its size; a [`Checkpoint`] is a head that the broker
//! signed (C2SP tlog-checkpoint and signed-note). From there:
//!
//! - whoever holds all records replays them through a [`LogVerifier`] and meets the signed root, or one was edited,
//!   inserted, moved or cut off; with the [`Frontier`] at the first of them, the newest records alone are enough;
//! - whoever holds an older head asks for a [`consistency_proof`], and [`verify_consistency`] shows that the newer log
//!   only added to it;
//! - whoever holds one record asks for an [`inclusion_proof`], and [`verify_inclusion`] shows that it is in the log.
//!
//! A writer needs only the [`Frontier`]: constant memory, and about one node hash an append. Proofs need old hashes. Of
//! the inner nodes only every eighth level is stored ([`TILE_HEIGHT`]), one row for 256 rows of the stored level below;
//! the levels between are computed again when a proof asks. Storing every node would double the rows of each commit to
//! save little on a question that is asked seldom; storing none would make each proof read the whole log.
//!
//! Nothing here does I/O or reads a clock: hashes come through a [`NodeSource`], keys and notes as bytes and text.

mod checkpoint;
mod frontier;
mod hash;
mod key;
mod note;
mod prove;
mod replay;
mod tree;
mod verify;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use frontier::{Frontier, FrontierError};
pub use hash::{Hash, HashError, empty_root, leaf_hash, node_hash};
pub use key::{KeyError, KeyId, Signer, Verifier};
pub use note::{NoteError, SignedNote};
pub use prove::{consistency_proof, inclusion_proof};
pub use replay::{LogVerifier, ReplayError};
pub use tree::{Node, NodeSource, TILE_HEIGHT, TreeError, TreeHead, frontier_at, root_at};
pub use verify::{ProofError, verify_consistency, verify_inclusion};
