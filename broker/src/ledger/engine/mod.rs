//! Where the ledger's state is kept, and what the ledger asks of whatever keeps it.
//!
//! An engine gives three things: something that runs transactions, one at a time ([`Transactions`]), connections that
//! read ([`Snapshots`]), and on those, one state of the ledger for each question ([`Snapshot`]). They block: each is
//! used by one thread at a time, which has nothing else to do. What does not depend on how rows are stored stands beside
//! the engines and not in them: the codes of columns, the slots of leases, the sums over them, what a repeated read is
//! given, what a transition leads to.

mod codes;
mod held;
mod live;
#[cfg(feature = "postgres")]
pub(super) mod postgres;
mod prune;
mod revisions;
pub(super) mod slot;
pub(super) mod sqlite;
mod tally;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bursar_core::backend::StoreHandle;
use bursar_core::tlog::{Frontier, Hash, Signer, TILE_HEIGHT};
use bursar_core::{BackendName, Clock, Lease, LeaseId, LeaseState};
use jiff::Timestamp;

use super::entry::{Change, Committed, Entry, Object, ObjectKind, Outcome, RevocationId};
use super::error::{LedgerError, OpenError};
use super::query::{HolderKind, Kept, LeaseFilter, Page, Paged, RecordOrder, Revocable, Revocation, Walked};
use super::quota::Meter;

use slot::CredentialSlot;

/// One place where a ledger is or will be. Its `Display` is what messages call the ledger by.
pub(super) trait Engine: fmt::Debug + fmt::Display + Send + Sync {
    /// Opens the ledger to write its log, or makes it where there is none. Checks that the end of the log is the one that
    /// its head describes.
    ///
    /// # Errors
    /// [`OpenError`], which says what an operator has to do.
    fn open(&self) -> Result<Opened, OpenError>;

    /// A connection that looks at a ledger which may be open at this moment, or long closed. Changes nothing.
    ///
    /// # Errors
    /// [`OpenError`].
    fn visit(&self) -> Result<Box<dyn Snapshots>, OpenError>;

    /// Brings the schema of a ledger that nobody has open up to date, as opening it would.
    ///
    /// # Errors
    /// [`OpenError`].
    fn bring_up(&self) -> Result<(), OpenError>;

    /// Lets go of every credential that is kept in a ledger that nobody has open.
    ///
    /// # Errors
    /// [`OpenError`].
    fn drop_credentials(&self) -> Result<(), OpenError>;

    /// Whether there is a ledger, whatever state it is in.
    ///
    /// # Errors
    /// [`OpenError`] when that cannot be told.
    fn is_there(&self) -> Result<bool, OpenError>;

    /// How much of the disk it has, where it is on one of the broker's.
    fn sizes(&self) -> Sizes;
}

/// An open ledger.
pub(super) struct Opened {
    pub(super) transactions: Box<dyn Transactions>,
    /// Looks leases up by their ids.
    pub(super) finder: Box<dyn Snapshots>,
    pub(super) readers: Vec<Box<dyn Snapshots>>,
    pub(super) stored: StoredHead,
    /// Work beside the commits, on a thread of its own until the transactions are closed.
    pub(super) helper: Option<Box<dyn FnOnce() + Send>>,
}

/// In bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sizes {
    pub(super) write_ahead_log: u64,
    pub(super) database: u64,
}

/// Runs transactions, each of them durable or undone when it returns, and remembers where the log ends.
pub(super) trait Transactions: Send {
    /// Does all of `work` in one transaction: by the quotas of `meter`, the log's edge sealed by `signer`. One answer for
    /// each piece.
    ///
    /// # Errors
    /// [`LedgerError`] is the answer to all, and nothing of them happened; but for [`LedgerError::Uncertain`], which may.
    fn run(&mut self, work: Vec<Work>, with: &mut Circumstances<'_>) -> Result<Done, LedgerError>;

    /// The right edge of the log that is durable.
    fn edge(&self) -> &Frontier;

    /// To be called between two transactions.
    fn rest(&mut self);

    /// Leaves everything as the next opening would like to find it.
    fn close(self: Box<Self>);
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Work {
    Commit(Entry),
    /// Write something, to find out whether writing works.
    Beat,
    /// Store a checkpoint.
    Sign,
}

/// What a transaction goes by.
pub(super) struct Circumstances<'a> {
    pub(super) meter: &'a mut Meter,
    pub(super) signer: &'a Signer,
    pub(super) clock: &'a dyn Clock,
}

/// A durable transaction.
pub(super) struct Done {
    pub(super) answers: Vec<Result<Committed, LedgerError>>,
    /// How many records are below the stored checkpoint, where that is a new one.
    pub(super) signed: Option<u64>,
    /// How long it took from the last change until it was durable.
    pub(super) syncing: Duration,
}

/// Where the log ends: what a writer must remember to go on. That of a transaction counts once it is durable.
#[derive(Debug, Clone)]
pub(super) struct LogTail {
    pub(super) frontier: Frontier,
    /// The latest time that a record has, in microseconds.
    pub(super) latest: i64,
}

/// What the ledger stored about the end of its log.
#[derive(Debug)]
pub(super) struct StoredHead {
    pub(super) tail: LogTail,
    /// Absent while nothing was ever recorded.
    pub(super) vouched: Option<Vouched>,
}

/// What says that the log is the one that this broker kept.
#[derive(Debug)]
pub(super) struct Vouched {
    /// Over the edge; empty in a log that an older broker wrote.
    pub(super) seal: Vec<u8>,
    /// The newest checkpoint that was stored.
    pub(super) note: String,
}

/// A connection that reads.
pub(super) trait Snapshots: Send {
    /// Asks `question` of one state of the ledger.
    ///
    /// # Errors
    /// The ledger cannot be read; `question` was not asked.
    fn on_one(&mut self, question: &mut dyn FnMut(&dyn Snapshot)) -> Result<(), LedgerError>;

    /// Tells `found` of each of `ids` in order, all from one state of the ledger.
    fn leases(&mut self, ids: &[LeaseId], found: &mut dyn FnMut(Result<Option<Lease>, LedgerError>));
}

impl dyn Snapshots {
    /// The answer to `question`, asked of one state of the ledger.
    pub(super) fn ask<T>(
        &mut self,
        question: impl FnOnce(&dyn Snapshot) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let (mut question, mut answer) = (Some(question), None);
        self.on_one(&mut |snapshot| answer = question.take().map(|question| question(snapshot)))?;
        answer.unwrap_or(Err(LedgerError::Closed))
    }
}

/// Told the number of a record and, where it has what was looked for, its line; answers whether to go on.
pub(super) type VisitLine<'v> = dyn FnMut(u64, Option<&[u8]>) -> Result<bool, LedgerError> + 'v;

/// Told the number, the time and the line of a record.
pub(super) type VisitRecord<'v> = dyn FnMut(u64, i64, &[u8]) -> Result<(), LedgerError> + 'v;

/// One state of the ledger. What each question means is said where the broker asks it: the methods of `Ledger`.
pub(super) trait Snapshot {
    fn leases(&self, filter: &LeaseFilter, page: &Page) -> Result<Paged<Lease>, LedgerError>;
    fn lease_counts(&self) -> Result<Vec<(LeaseState, u64)>, LedgerError>;
    fn top_holders(&self, kind: HolderKind, limit: usize) -> Result<Vec<(String, u64)>, LedgerError>;
    fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Lease>, LedgerError>;
    fn ending(&self, times: &[Timestamp]) -> Result<Vec<u64>, LedgerError>;
    fn to_revoke(
        &self,
        backend: &BackendName,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Revocable>, LedgerError>;
    fn waiting_backends(&self) -> Result<Vec<BackendName>, LedgerError>;
    fn open_revocations(&self) -> Result<Vec<RevocationId>, LedgerError>;
    fn walk(
        &self,
        revocation: RevocationId,
        from: Option<&[u8]>,
        limit: usize,
    ) -> Result<Walked, LedgerError>;
    fn revocations(&self, id: Option<RevocationId>, limit: usize) -> Result<Vec<Revocation>, LedgerError>;
    fn intents(&self, before: Timestamp, limit: usize) -> Result<Vec<Lease>, LedgerError>;
    fn handle(&self, id: LeaseId) -> Result<Option<StoreHandle>, LedgerError>;
    fn kept(&self, slot: &CredentialSlot) -> Result<Option<Kept>, LedgerError>;
    fn lease_of_handle(
        &self,
        backend: &BackendName,
        handle: &StoreHandle,
    ) -> Result<Option<LeaseId>, LedgerError>;
    fn object(&self, kind: ObjectKind, name: &str) -> Result<Option<Object>, LedgerError>;
    fn objects(&self, kind: ObjectKind, page: &Page) -> Result<Paged<Object>, LedgerError>;
    fn object_history(&self, kind: ObjectKind, name: &str, page: &Page)
    -> Result<Paged<Object>, LedgerError>;
    fn shipped(&self, sink: &str) -> Result<u64, LedgerError>;

    /// The number of records, pruned ones included.
    fn log_size(&self) -> Result<u64, LedgerError>;
    /// The oldest record that is there; the size of the log when there is none.
    fn first_kept(&self) -> Result<u64, LedgerError>;
    /// The stored edge of the log, and what vouches for it.
    fn head(&self) -> Result<Option<(Vec<u8>, Vouched)>, LedgerError>;
    /// The time and the line of a record that is there.
    fn record(&self, seq: u64) -> Result<Option<(i64, Vec<u8>)>, LedgerError>;
    /// The lines of the records from `from` on, in order.
    fn lines(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LedgerError>;
    /// The leaf hashes of the records in `range` that are there, in order.
    fn leaf_hashes(&self, range: Range<u64>) -> Result<Vec<Hash>, LedgerError>;
    /// The leaf hashes of the pruned records of one tile, by its place.
    fn pruned_hashes(&self, place: u64) -> Result<Option<Vec<Hash>>, LedgerError>;
    /// A stored node of the tree.
    fn tile_root(&self, level: u8, index: u64) -> Result<Option<Hash>, LedgerError>;
    /// Visits the records in `range`, each with its line where that holds all of `needles`, until `visit` says no.
    fn scan(
        &self,
        range: Range<u64>,
        order: RecordOrder,
        needles: &[Vec<u8>],
        visit: &mut VisitLine<'_>,
    ) -> Result<(), LedgerError>;

    /// What the engine can tell of damage to its own files; empty when all is well.
    fn damage(&self) -> Result<Vec<String>, LedgerError>;
    /// How many rows of pruned hashes stand at this place or beyond it.
    fn pruned_beyond(&self, place: u64) -> Result<u64, LedgerError>;
    /// How many nodes of the tree are stored.
    fn tiles(&self) -> Result<u64, LedgerError>;
    /// Visits every record in order: number, time, line.
    fn each_record(&self, visit: &mut VisitRecord<'_>) -> Result<(), LedgerError>;
    /// Visits every lease.
    fn each_lease(&self, visit: &mut dyn FnMut(Result<Lease, LedgerError>)) -> Result<(), LedgerError>;
    /// The leases of which a credential is kept, and which are not active.
    fn stray_credentials(&self) -> Result<Vec<LeaseId>, LedgerError>;
    /// The sums over states that are not those of the rows: what is counted, under which state.
    fn wrong_counts(&self) -> Result<Vec<(Option<LeaseState>, u64)>, LedgerError>;
    /// The holders whose sum is not that of the rows.
    fn wrong_holders(&self, kind: HolderKind) -> Result<Vec<String>, LedgerError>;
}

/// The lease ids that grants proposed, with those that they led to.
fn moved(changes: &[Change], outcomes: &[Outcome]) -> Vec<(String, String)> {
    let pairs = changes.iter().zip(outcomes);
    let moved = pairs.filter_map(|pair| match pair {
        (Change::Grant(lease), Outcome::Granted { id, renewed: true, .. }) => {
            Some((lease.id.to_string(), id.to_string()))
        }
        _ => None,
    });
    moved.collect()
}

/// Makes a page of one row more than it holds: that row says that there is a next one.
fn page_of<T>(mut items: Vec<T>, page: &Page, token: impl FnOnce(&T) -> String) -> Paged<T> {
    let more = items.len() > page.limit();
    items.truncate(page.limit());
    let next = items.last().filter(|_| more).map(token);
    Paged { items, next }
}

/// Records in a tile: the leaves below one stored node of the tree.
pub(super) const TILE: u64 = 1 << TILE_HEIGHT;
const TILE_SIZE: usize = 1 << TILE_HEIGHT;
