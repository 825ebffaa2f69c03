//! Failed reads, shared by all who waited for them.
//!
//! The cache lets one caller read and the others wait; when that read fails, it lets the next of them try. For a store
//! that does not answer that would be one timeout after the other, each with a call of its own, until the last of them
//! has waited for all. So whoever waited while a read of the same secret failed has that failure for an answer. Whoever
//! comes later has not, and asks the store.

use std::sync::atomic::{AtomicU64, Ordering};

use bursar_core::backend::BackendError;
use quick_cache::sync::Cache;

use super::Key;

/// The last failure of each secret, of a bounded number of secrets.
pub(super) struct Failures {
    /// Counts failures. Not a time: two events at one instant have an order too.
    count: AtomicU64,
    last: Cache<Key, (u64, BackendError)>,
}

impl Failures {
    pub(super) fn new() -> Self {
        Self { count: AtomicU64::new(0), last: Cache::new(SECRETS) }
    }

    /// Where the count stands when a caller begins to wait.
    pub(super) fn mark(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// The failure of `key` since `mark`.
    pub(super) fn since(&self, mark: u64, key: &Key) -> Option<BackendError> {
        self.last.get(key).filter(|(number, _)| *number > mark).map(|(_, error)| error)
    }

    pub(super) fn insert(&self, key: Key, error: BackendError) {
        let number = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        self.last.insert(key, (number, error));
    }
}

/// One that is pushed out costs another call to its store.
const SECRETS: usize = 1024;
