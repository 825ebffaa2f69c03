//! What the ledger's threads publish, and everybody may look at without asking them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use bursar_core::tlog::{Checkpoint, Frontier, Hash, Signer};
use tokio::sync::watch;

use super::engine::Sizes;
use super::error::Health;

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// The number of audit records.
    pub size: u64,
    /// The root of the Merkle tree over them.
    pub root: Hash,
    /// The signed note (C2SP tlog-checkpoint) that says so.
    pub note: String,
}

impl SignedHead {
    /// The head of the log whose right edge this is.
    pub(super) fn sign(edge: &Frontier, signer: &Signer) -> Self {
        let head = edge.head();
        Self { size: head.size, root: head.root, note: Checkpoint::sign(head, signer).to_string() }
    }
}

/// How the ledger is doing, for metrics and `bursar status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerStats {
    /// Transactions since the start.
    pub batches: u64,
    /// Entries in them, refused ones included.
    pub entries: u64,
    /// Entries in the last one.
    pub last_batch: u64,
    /// How long the last one took to become durable, in microseconds.
    pub last_sync_micros: u64,
    /// Entries that wait for the next one.
    pub queued: u64,
    /// The size of the write-ahead log's file; 0 where it is not on a disk of the broker's.
    pub wal_bytes: u64,
    /// The size of the database's file; 0 where it is not on a disk of the broker's.
    pub db_bytes: u64,
    /// Holders whose rate of new leases is remembered.
    pub rated: u64,
    pub health: Health,
}

#[derive(Debug)]
pub(super) struct Board {
    pub(super) signer: OnceLock<Signer>,
    /// The right edge of the log that is durable.
    pub(super) edge: watch::Sender<Frontier>,
    pub(super) appended: watch::Sender<u64>,
    pub(super) health: watch::Sender<Health>,
    /// The newest head that was signed.
    signed: Mutex<Option<SignedHead>>,
    /// How many records the stored checkpoint is over.
    stored: AtomicU64,
    pub(super) rated: AtomicU64,
    batches: AtomicU64,
    entries: AtomicU64,
    last_batch: AtomicU64,
    last_sync_micros: AtomicU64,
}

impl Board {
    pub(super) fn new(edge: Frontier) -> Self {
        Self {
            signer: OnceLock::new(),
            appended: watch::Sender::new(edge.size()),
            edge: watch::Sender::new(edge),
            signed: Mutex::new(None),
            stored: AtomicU64::new(0),
            health: watch::Sender::new(Health::Ready),
            rated: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            last_batch: AtomicU64::new(0),
            last_sync_micros: AtomicU64::new(0),
        }
    }

    /// The head of everything that is durable, signed now where nobody asked for it before.
    pub(super) fn newest(&self, signer: &Signer) -> SignedHead {
        let edge = self.edge.borrow().clone();
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        match &*signed {
            Some(head) if head.size == edge.size() => head.clone(),
            _ => signed.insert(SignedHead::sign(&edge, signer)).clone(),
        }
    }

    /// A checkpoint over `size` records is stored.
    pub(super) fn stored(&self, size: u64) {
        self.stored.store(size, Ordering::Relaxed);
    }

    /// Whether all that is durable is below the stored checkpoint.
    pub(super) fn is_stored(&self) -> bool {
        *self.appended.borrow() == self.stored.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, entries: u64, sync_micros: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.last_batch.store(entries, Ordering::Relaxed);
        self.last_sync_micros.store(sync_micros, Ordering::Relaxed);
    }

    pub(super) fn stats(&self, queued: u64, sizes: Sizes) -> LedgerStats {
        LedgerStats {
            batches: self.batches.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
            last_batch: self.last_batch.load(Ordering::Relaxed),
            last_sync_micros: self.last_sync_micros.load(Ordering::Relaxed),
            queued,
            wal_bytes: sizes.write_ahead_log,
            db_bytes: sizes.database,
            rated: self.rated.load(Ordering::Relaxed),
            health: *self.health.borrow(),
        }
    }
}
