//! Group commit: one thread writes, and whatever arrived while it synced is its next transaction.
//!
//! No timer decides how long to gather: an idle ledger commits at once, and a busy one makes batches as large as its
//! disk is slow. Nobody is told of success before the transaction with the entry is synced, and nobody sees a head that
//! is not.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bursar_core::{Clock, Explained};
use tokio::sync::{mpsc, oneshot};

use super::board::Board;
use super::engine::{Circumstances, Transactions, Work};
use super::entry::Committed;
use super::error::{FailureKind, Health, LedgerError};
use super::quota::Meter;

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Order {
    Do(Work, Reply),
    /// Finish what is queued, and end.
    Stop,
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

/// The one that writes.
pub(super) struct Writer<T: ?Sized = dyn Transactions> {
    pub(super) queue: mpsc::Receiver<Order>,
    pub(super) transactions: Box<T>,
    pub(super) meter: Meter,
    pub(super) board: Arc<Board>,
    pub(super) clock: Arc<dyn Clock>,
}

impl<T: Transactions + ?Sized> Writer<T> {
    /// Commits until it is stopped or nobody is left who could ask.
    pub(super) fn run(mut self) {
        let mut orders = Vec::with_capacity(BATCH);
        while self.queue.blocking_recv_many(&mut orders, BATCH) > 0 {
            if orders.iter().any(|order| matches!(order, Order::Stop)) {
                // What was queued before still comes out; nothing more goes in.
                self.queue.close();
            }
            self.commit(orders.drain(..).filter_map(Order::work).unzip());
            self.transactions.rest();
        }
        self.sign_last();
        self.transactions.close();
    }

    /// A log that is closed ends with a checkpoint.
    fn sign_last(&mut self) {
        if self.board.signer.get().is_some()
            && !self.board.is_stored()
            && let Err(error) = self.write(vec![Work::Sign])
        {
            tracing::warn!(error = %Explained(&error), "the end of the log was not signed, only sealed");
        }
    }

    pub(super) fn commit(&mut self, (work, replies): (Vec<Work>, Vec<Reply>)) {
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

    /// One answer for each piece of work; an error is the answer to all.
    fn write(&mut self, work: Vec<Work>) -> Result<Vec<Result<Committed, LedgerError>>, LedgerError> {
        let signer = self.board.signer.get().ok_or(LedgerError::NotSigning)?;
        let entries = work.len();
        let mut with = Circumstances { meter: &mut self.meter, signer, clock: self.clock.as_ref() };
        let done = self.transactions.run(work, &mut with)?;

        let syncing = u64::try_from(done.syncing.as_micros()).unwrap_or(u64::MAX);
        self.board.count(u64::try_from(entries).unwrap_or(u64::MAX), syncing);
        self.board.rated.store(self.meter.remembered(), Ordering::Relaxed);
        let edge = self.transactions.edge();
        if edge.size() > *self.board.appended.borrow() {
            self.board.edge.send_replace(edge.clone());
            self.board.appended.send_replace(edge.size());
        }
        if let Some(size) = done.signed {
            self.board.stored(size);
        }
        Ok(done.answers)
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

fn health_after(error: &LedgerError) -> Health {
    match error {
        LedgerError::Full => Health::Full,
        LedgerError::Unavailable { kind, .. } => Health::Failed(*kind),
        LedgerError::Uncertain => Health::Failed(FailureKind::Unreachable),
        LedgerError::Corrupt { .. } => Health::Failed(FailureKind::Damaged),
        _ => Health::Failed(FailureKind::Engine),
    }
}

/// The most entries in one transaction.
const BATCH: usize = 1024;
