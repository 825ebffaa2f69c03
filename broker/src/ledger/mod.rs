//! The ledger: the durable record of every disclosure and every lease, and the state of the leases itself.
//!
//! **Durable before disclosed.** [`Ledger::commit`] takes changes of leases and the audit records about them as one
//! entry, and returns when all of it is synced to disk, or nothing of it happened. A secret goes out only after that.
//!
//! **State lives on disk.** No lease is held in memory: what is due, whom a lease belongs to and who holds the most are
//! questions to an index, so a broker with a million leases starts as fast as one with none.
//!
//! **History cannot be rewritten unseen.** Audit records are the leaves of a Merkle tree ([`bursar_core::tlog`]). The
//! tree's right edge, sealed by the broker's key, changes in the same transaction, so a log that lost or gained a record
//! contradicts its own head. Each second or so, and whenever somebody asks, the head is signed too: a log that was
//! rewritten contradicts the checkpoints that others remember.
//!
//! One thread writes (`writer.rs`), and a few connections answer questions (`readers.rs`, and `finder.rs` for the most
//! frequent one). Where all of it is kept is an engine's business (`engine/`). Rejected: a lock around one connection,
//! where every question would wait for a sync; and a store of our own, which would have to be trusted as SQLite is.

mod board;
mod engine;
mod entry;
mod error;
mod finder;
mod inspect;
mod log;
mod lookup;
mod place;
mod proofs;
mod query;
mod quota;
mod readers;
mod records;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bursar_core::Clock;
use bursar_core::tlog::{Checkpoint, Signer, TreeHead};
use tokio::sync::{mpsc, oneshot, watch};

pub use board::{LedgerStats, SignedHead};
#[cfg(feature = "postgres")]
pub use engine::postgres::{PostgresAccess, UrlFault};
pub use engine::slot::CredentialSlot;
pub use entry::{Change, Committed, Entry, Object, ObjectKind, Outcome, RevocationId, RevokeSelector};
pub use error::{FailureKind, Health, LedgerError, OpenError};
pub use inspect::{Inspection, LogKey};
pub use place::LedgerPlace;
pub use query::{
    AuditQuery, HolderKind, Kept, LeaseFilter, MAX_PAGE, Page, Paged, RecordOrder, Revocable, Revocation,
    Walked,
};
pub use quota::{Limit, Quota, QuotaExceeded, Quotas};
pub use records::Prunable;

use board::Board;
use engine::{Opened, StoredHead, Vouched, Work};
use finder::{Finder, Question};
use quota::Meter;
use readers::Readers;
use writer::{Order, Writer};

/// Where the ledger is and how it is named.
#[derive(Debug, Clone)]
pub struct LedgerConfig {
    pub place: LedgerPlace,
    /// The log's origin, under which its checkpoints are signed: no two brokers have the same.
    pub origin: String,
    /// How many entries may wait for the next transaction before [`LedgerError::Busy`].
    pub queue: usize,
    /// How many leases may be granted, and how fast.
    pub quotas: Quotas,
}

/// A handle to the ledger. Cheap to clone. When the last one is dropped, what is queued is still written.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

impl Ledger {
    /// Opens the ledger, or creates it where there is none. Checks that the end of the log is the one that its head
    /// describes, and starts the ledger's threads.
    ///
    /// # Errors
    /// [`OpenError`], which says what an operator has to do.
    #[tracing::instrument(skip_all, fields(place = %config.place))]
    pub fn open(config: LedgerConfig, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let Opened { transactions, finder: looking, readers, stored, helper } = config.place.open()?;
        let board = Arc::new(Board::new(stored.tail.frontier.clone()));
        let (finder, questions) = mpsc::channel(finder::QUEUE);
        let (queue, queued) = mpsc::channel(config.queue.max(1));
        let looking = Finder { queue: questions, connection: looking };
        let writer: Writer = Writer {
            queue: queued,
            transactions,
            meter: Meter::new(config.quotas.clone()),
            board: Arc::clone(&board),
            clock,
        };
        let mut threads = vec![
            spawn("ledger-finder", move || looking.run())?,
            spawn("ledger-writer", move || writer.run())?,
        ];
        if let Some(helper) = helper {
            threads.push(spawn("ledger-helper", helper)?);
        }
        let readers = Readers::new(readers);
        let inner = Inner { config, stored, board, queue, finder, readers, threads: Mutex::new(threads) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Sets the key that signs the log's heads. The ledger takes no entry before: keys are kept in the ledger, sealed,
    /// so it has to be open for its own key to be found.
    ///
    /// # Errors
    /// [`OpenError`] when the log was signed by another key or under another name, when its head is not the one that
    /// was signed, or when it has a key already.
    pub fn start_signing(&self, signer: Signer) -> Result<(), OpenError> {
        let Inner { config, stored, board, .. } = &*self.inner;
        if board.signer.get().is_some() {
            return Err(OpenError::SigningAlready);
        }
        let verifier = signer.verifier();
        if verifier.name() != config.origin {
            let found = verifier.name().to_owned();
            return Err(OpenError::OtherOrigin { found, configured: config.origin.clone() });
        }
        if let Some(vouched) = &stored.vouched {
            let Vouched { seal, note } = vouched;
            let signed = Checkpoint::open(note, verifier)
                .map_err(|error| OpenError::of_note(&config.place, note, verifier, error))?;
            let edge = &stored.tail.frontier;
            let is_own = match signed.head() {
                head if head.size == edge.size() => head == edge.head(),
                head => signer.has_sealed(edge, seal) && self.was(head)?,
            };
            if !is_own {
                let what = "its head is not the one that this broker sealed".to_owned();
                return Err(OpenError::Corrupt { place: config.place.to_string(), what });
            }
            board.stored(signed.head().size);
        }
        board.signer.set(signer).map_err(|_| OpenError::SigningAlready)
    }

    /// Whether this was the head of the log that is stored now.
    fn was(&self, head: TreeHead) -> Result<bool, OpenError> {
        let place = &self.inner.config.place;
        match place.ask(|snapshot| proofs::edge(snapshot, head.size))? {
            Ok(edge) => Ok(edge.head() == head),
            Err(LedgerError::ProofRange { .. }) => Ok(false),
            Err(error) => Err(OpenError::of_head(place, error)),
        }
    }

    /// Commits an entry. Returns only when it is durable, or nothing of it happened.
    ///
    /// Once begun, dropping the future takes nothing back: the entry is written all the same.
    ///
    /// # Errors
    /// [`LedgerError`]. With [`LedgerError::Closed`] and [`LedgerError::Uncertain`] alone, the entry may be durable.
    pub async fn commit(&self, entry: Entry) -> Result<Committed, LedgerError> {
        self.ready()?;
        let (reply, answer) = oneshot::channel();
        self.inner.queue.try_send(Order::Do(Work::Commit(entry), reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LedgerError::Busy,
            mpsc::error::TrySendError::Closed(_) => LedgerError::Closed,
        })?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Writes something without meaning, so that [`Ledger::health`] learns whether a disk that was full has space again.
    /// Waits for its place in the queue: a ledger with much to do is not unhealthy.
    ///
    /// # Errors
    /// [`LedgerError`], as a commit would meet it now.
    pub async fn probe(&self) -> Result<(), LedgerError> {
        self.ready()?;
        self.order(Work::Beat).await
    }

    /// The first record that a sink has not confirmed.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn shipped(&self, sink: &str) -> Result<u64, LedgerError> {
        let sink = sink.to_owned();
        self.inner.readers.ask(move |snapshot| snapshot.shipped(&sink)).await
    }

    /// The number of durable records, as it grows.
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.inner.board.appended.subscribe()
    }

    /// Figures for metrics.
    pub fn stats(&self) -> LedgerStats {
        let Inner { config, board, queue, .. } = &*self.inner;
        let queued = queue.max_capacity() - queue.capacity();
        board.stats(queued as u64, config.place.sizes())
    }

    /// What the last commit met.
    pub fn health(&self) -> Health {
        *self.inner.board.health.borrow()
    }

    /// Returns when the ledger takes nothing more: it was closed, or its writer failed.
    pub async fn closed(&self) {
        self.inner.queue.closed().await;
    }

    /// Writes what is queued, leaves an empty write-ahead log behind, ends the threads and lets go of the files. Every
    /// other handle meets [`LedgerError::Closed`] from then on, for questions too.
    #[tracing::instrument(skip_all)]
    pub async fn close(self) {
        // The connections first: one that reads an old state would keep the log from being emptied.
        self.inner.readers.close();
        // An error means that the thread has ended before.
        let _ended = self.inner.finder.send(Question::Stop).await;
        let _ended = self.inner.queue.send(Order::Stop).await;
        let threads = std::mem::take(&mut *self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(|| {
            threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count()
        });
        if joined.await.unwrap_or_default() > 0 {
            tracing::error!("a thread of the ledger had panicked");
        }
    }

    /// Has work done that waits for its place in the queue.
    async fn order(&self, work: Work) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.inner.queue.send(Order::Do(work, reply)).await;
        sent.map_err(|_| LedgerError::Closed)?;
        answer.await.unwrap_or(Err(LedgerError::Closed)).map(drop)
    }

    fn ready(&self) -> Result<(), LedgerError> {
        self.inner.board.signer.get().map(|_| ()).ok_or(LedgerError::NotSigning)
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("place", &self.inner.config.place).finish_non_exhaustive()
    }
}

struct Inner {
    config: LedgerConfig,
    /// As it was when the ledger was opened.
    stored: StoredHead,
    board: Arc<Board>,
    queue: mpsc::Sender<Order>,
    finder: mpsc::Sender<Question>,
    readers: Arc<Readers>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(OpenError::Thread)
}
