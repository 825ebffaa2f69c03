//! The hashes of the tree: SHA-256, with leaves and inner nodes kept apart (RFC 6962, section 2.1).
//!
//! `sha2` and not `ring::digest`: measured on a processor with SHA instructions it takes 590 against 620 ns for a leaf
//! of 400 bytes and 210 against 275 ns for a node.

use std::fmt;

use data_encoding::BASE64;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The hash of a leaf, of an inner node or of a whole tree. Its text is base64, as in a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; Hash::LENGTH]);

impl Hash {
    /// Length in bytes.
    pub const LENGTH: usize = 32;

    /// Parses standard base64 with padding.
    ///
    /// # Errors
    /// [`HashError`] when the text is not the one base64 of 32 bytes.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        // The length first, so that a hostile text is not decoded at length only to be refused.
        if text.len() != BASE64.encode_len(Self::LENGTH) {
            return Err(HashError);
        }
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| HashError)?;
        Self::try_from(bytes.as_slice())
    }

    /// The bytes, as stored and as sent.
    pub fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl From<[u8; Hash::LENGTH]> for Hash {
    fn from(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for Hash {
    type Error = HashError;

    fn try_from(bytes: &[u8]) -> Result<Self, HashError> {
        bytes.try_into().map(Self).map_err(|_| HashError)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// What was given is not a hash of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a tree hash is 32 bytes, or their 44 characters of base64")]
pub struct HashError;

/// The hash of a leaf whose content is `record`.
pub fn leaf_hash(record: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([LEAF_PREFIX]).chain_update(record).finalize().into())
}

/// The hash of the inner node over `left` and `right`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(
        Sha256::new()
            .chain_update([NODE_PREFIX])
            .chain_update(left.0)
            .chain_update(right.0)
            .finalize()
            .into(),
    )
}

/// The root of a tree without leaves: the hash of nothing.
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

/// The root over perfect subtrees that stand side by side, the largest first: each is the left sibling of all after it.
pub(super) fn join(subtrees: &[Hash]) -> Hash {
    subtrees.iter().rev().copied().reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
}

const LEAF_PREFIX: u8 = 0x00;
const NODE_PREFIX: u8 = 0x01;
