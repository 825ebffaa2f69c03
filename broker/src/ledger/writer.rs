//! Group commit: one thread writes, and whatever arrived while it synced is its next transaction.
//!
//! No timer decides how long to gather: an idle ledger commits at once, and a busy one makes batches as large as its
//! disk is slow. Nobody is told of success before the transaction with the entry is synced, and nobody sees a head that
//! is not.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bursar_core::Clock;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::board::Board;
use super::engine::sqlite::Files;
use super::engine::sqlite::batch::{Batch, Fault, LogTail};
use super::entry::{Committed, Entry};
use super::error::{FailureKind, Health, LedgerError};
use super::quota::Meter;
use super::wal::Wal;
use crate::kill::{self, Point};

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Order {
    Do(Work, Reply),
    /// Finish what is queued, and end.
    Stop,
}

#[derive(Debug)]
pub(super) enum Work {
    Commit(Entry),
    /// Write something, to find out whether writing works.
    Beat,
    /// Store a checkpoint.
    Sign,
}

/// Whom to tell what became of it.
pub(super) type Reply = oneshot::Sender<Result<Committed, LedgerError>>;

impl Order {
    fn work(self) -> Option<(Work, Reply)> {
        match self {
            Self::Do(work, reply) => Some((work, reply)),
            Self::Stop => None,
        }
    }
}

/// The one that writes. The fields are dropped in their order: the files outlive the connection.
pub(super) struct Writer {
    pub(super) queue: mpsc::Receiver<Order>,
    pub(super) connection: Connection,
    pub(super) tail: LogTail,
    pub(super) wal: Wal,
    pub(super) meter: Meter,
    pub(super) board: Arc<Board>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) _files: Arc<Files>,
}

impl Writer {
    /// Commits until it is stopped or nobody is left who could ask.
    pub(super) fn run(mut self) {
        let mut orders = Vec::with_capacity(BATCH);
        while self.queue.blocking_recv_many(&mut orders, BATCH) > 0 {
            if orders.iter().any(|order| matches!(order, Order::Stop)) {
                // What was queued before still comes out; nothing more goes in.
                self.queue.close();
            }
            self.commit(orders.drain(..).filter_map(Order::work).unzip());
            self.wal.after_batch(&self.connection);
        }
        self.sign_last();
        if let Err(error) = self.wal.finish(&self.connection) {
            tracing::warn!(%error, "the write-ahead log could not be emptied");
        }
    }

    /// A log that is closed ends with a checkpoint.
    fn sign_last(&mut self) {
        if self.board.signer.get().is_some()
            && !self.board.is_stored()
            && let Err(error) = self.write(vec![Work::Sign])
        {
            tracing::warn!(%error, "the end of the log was not signed, only sealed");
        }
    }

    fn commit(&mut self, (work, replies): (Vec<Work>, Vec<Reply>)) {
        let answers = match self.write(work) {
            Ok(answers) => {
                self.feel(Health::Ready);
                answers
            }
            Err(error) => {
                self.feel(health_after(&error));
                vec![Err(error); replies.len()]
            }
        };
        for (reply, answer) in replies.into_iter().zip(answers) {
            // Whoever asked may have stopped waiting; what is durable stays so.
            let _gone = reply.send(answer);
        }
    }

    /// One answer for each piece of work; an error is the answer to all, and nothing of them happened.
    fn write(&mut self, work: Vec<Work>) -> Result<Vec<Result<Committed, LedgerError>>, LedgerError> {
        let signer = self.board.signer.get().ok_or(LedgerError::NotSigning)?;
        let entries = work.len();
        let sign = work.iter().any(|work| matches!(work, Work::Sign));
        let mut batch = Batch::begin(&self.connection, &self.tail, &mut self.meter)?;
        kill::at(Point::BatchBegun);
        let mut answers = Vec::with_capacity(entries);
        for work in work {
            answers.push(match perform(&mut batch, work, self.clock.as_ref()) {
                Ok(committed) => Ok(committed),
                Err(Fault::Refused(refusal)) => Err(refusal),
                Err(Fault::Engine(error)) => return Err(error.into()),
            });
        }
        kill::at(Point::BatchApplied);
        let syncing = Instant::now();
        let (tail, signed) = batch.commit(signer, sign)?;
        kill::at(Point::BatchDurable);
        let took = u64::try_from(syncing.elapsed().as_micros()).unwrap_or(u64::MAX);

        self.board.count(u64::try_from(entries).unwrap_or(u64::MAX), took);
        self.board.rated.store(self.meter.remembered(), Ordering::Relaxed);
        if tail.frontier.size() > self.tail.frontier.size() {
            self.board.edge.send_replace(tail.frontier.clone());
            self.board.appended.send_replace(tail.frontier.size());
        }
        self.tail = tail;
        if let Some(size) = signed {
            self.board.stored(size);
        }
        Ok(answers)
    }

    fn feel(&self, health: Health) {
        let changed = self.board.health.send_if_modified(|before| {
            let changed = *before != health;
            *before = health;
            changed
        });
        match health {
            _ if !changed => {}
            Health::Ready => tracing::info!("the ledger takes entries again"),
            Health::Full => tracing::error!("the ledger's disk is full, nothing is issued"),
            Health::Failed(kind) => {
                tracing::error!(kind = kind.as_str(), "the ledger failed, nothing is issued");
            }
        }
    }
}

fn perform(batch: &mut Batch<'_>, work: Work, clock: &dyn Clock) -> Result<Committed, Fault> {
    match work {
        Work::Commit(entry) => batch.apply(entry),
        Work::Beat => {
            batch.beat(clock.now())?;
            batch.apply(Entry::default())
        }
        Work::Sign => batch.apply(Entry::default()),
    }
}

fn health_after(error: &LedgerError) -> Health {
    match error {
        LedgerError::Full => Health::Full,
        LedgerError::Unavailable { kind, .. } => Health::Failed(*kind),
        LedgerError::Corrupt { .. } => Health::Failed(FailureKind::Damaged),
        _ => Health::Failed(FailureKind::Engine),
    }
}

/// The most entries in one transaction.
const BATCH: usize = 1024;

#[cfg(test)]
mod tests;
