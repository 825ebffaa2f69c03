//! What tells one content of a secret from another.

use std::hash::{BuildHasher, Hasher, RandomState};

use bursar_core::Version;
use bursar_core::backend::Fetched;

/// The version of a content, or where the store has none a hash of it, under a key that this process has made up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Version(Version),
    Hash(u64),
}

impl Content {
    pub(super) fn of(fetched: &Fetched, keys: &RandomState) -> Self {
        match &fetched.version {
            Some(version) => Self::Version(version.clone()),
            None => {
                let mut hasher = keys.build_hasher();
                fetched.data.feed(&mut hasher);
                Self::Hash(hasher.finish())
            }
        }
    }

    /// The version, of a store that has versions.
    pub fn version(&self) -> Option<&Version> {
        match self {
            Self::Version(version) => Some(version),
            Self::Hash(_) => None,
        }
    }
}
