//! The proof of one record: the file that `bursar audit proof` writes and `bursar audit verify --proof` reads.
//!
//! One JSON object: the record's line as text, its place, the hashes from it up to the root (RFC 9162, section 2.1.3),
//! the checkpoint that signs the root, and the verifier key that the broker claims. A record that was pruned is not in
//! it; whoever kept its line proves it with that.

use bursar_core::tlog::{Checkpoint, Hash, Verifier, leaf_hash, verify_inclusion};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proof {
    pub(crate) sequence: u64,
    /// The exact line; absent when the broker no longer has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) record: Option<String>,
    /// In base64.
    pub(crate) hashes: Vec<String>,
    /// The signed note.
    pub(crate) checkpoint: String,
    /// The verifier key that the broker claims.
    pub(crate) key: String,
}

/// What was proven.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Proven {
    pub(crate) sequence: u64,
    /// How many records the log had that it is proven to be in.
    pub(crate) size: u64,
    /// The root of their Merkle tree, in base64.
    pub(crate) root: String,
    /// The log's name.
    pub(crate) origin: String,
    /// The id of the key that signed.
    pub(crate) key_id: String,
    /// Whether the key came another way than with the record.
    pub(crate) key_trusted: bool,
}

impl Proof {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Proof`].
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(|error| Error::Proof(format!("it cannot be read: {error}")))
    }

    /// Checks that the record, or `line` in its place, stands where the proof says in the log that was signed.
    ///
    /// # Errors
    /// [`Error::Unproven`]; [`Error::Proof`] when there is no line to prove, or no checkpoint to believe.
    pub(crate) fn verify(
        &self,
        key: &Verifier,
        key_trusted: bool,
        line: Option<&str>,
    ) -> Result<Proven, Error> {
        let line = line.map(|line| line.strip_suffix('\n').unwrap_or(line)).or(self.record.as_deref());
        let line = line.ok_or_else(|| {
            let what = "the record was pruned and is not in it; give its line by --record";
            Error::Proof(what.to_owned())
        })?;
        let checkpoint = Checkpoint::open(&self.checkpoint, key)
            .map_err(|error| Error::Proof(format!("its checkpoint cannot be believed: {error}")))?;
        let hash = |text: &String| Hash::parse(text).map_err(|error| Error::Proof(error.to_string()));
        let hashes = self.hashes.iter().map(hash).collect::<Result<Vec<_>, _>>()?;
        let head = checkpoint.head();
        verify_inclusion(&leaf_hash(line.as_bytes()), self.sequence, &head, &hashes)
            .map_err(Error::Unproven)?;
        Ok(Proven {
            sequence: self.sequence,
            size: head.size,
            root: head.root.to_string(),
            origin: checkpoint.origin().to_owned(),
            key_id: key.id().to_string(),
            key_trusted,
        })
    }
}

#[cfg(test)]
mod tests;
