//! The one connection that writes.

use std::sync::Arc;

use bursar_core::tlog::Frontier;
use bursar_core::{Clock, Explained};
use rusqlite::Connection;
use tokio::time::Instant;

use super::super::{Circumstances, Done, LogTail, Transactions, Work};
use super::Files;
use super::batch::{Batch, Fault};
use super::wal::Wal;
use crate::kill::{self, Point};
use crate::ledger::entry::{Committed, Entry};
use crate::ledger::error::LedgerError;

/// The fields are dropped in their order: the files outlive the connection.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) tail: LogTail,
    pub(super) wal: Wal,
    pub(super) _files: Arc<Files>,
}

impl Transactions for Writer {
    fn run(&mut self, work: Vec<Work>, with: &mut Circumstances<'_>) -> Result<Done, LedgerError> {
        let sign = work.iter().any(|work| matches!(work, Work::Sign));
        let mut batch = Batch::begin(&self.connection, &self.tail, with.meter)?;
        kill::at(Point::BatchBegun);
        let mut answers = Vec::with_capacity(work.len());
        for work in work {
            answers.push(match perform(&mut batch, work, with.clock) {
                Ok(committed) => Ok(committed),
                Err(Fault::Refused(refusal)) => Err(refusal),
                Err(Fault::Engine(error)) => return Err(error.into()),
            });
        }
        kill::at(Point::BatchApplied);
        let begun = Instant::now();
        let (tail, signed) = batch.commit(with.signer, sign)?;
        kill::at(Point::BatchDurable);
        self.tail = tail;
        Ok(Done { answers, signed, syncing: begun.elapsed() })
    }

    fn edge(&self) -> &Frontier {
        &self.tail.frontier
    }

    fn rest(&mut self) {
        self.wal.after_batch(&self.connection);
    }

    fn close(self: Box<Self>) {
        if let Err(error) = self.wal.finish(&self.connection) {
            tracing::warn!(error = %Explained(&error), "the write-ahead log could not be emptied");
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

#[cfg(test)]
mod tests;
