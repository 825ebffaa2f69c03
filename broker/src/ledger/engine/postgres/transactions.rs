//! The one session that writes.
//!
//! A transaction is three round trips: look up, write, commit. What fails before the COMMIT has not happened, and is done
//! again by the one retry policy where that makes sense. A COMMIT whose answer is lost may have happened: the row of the
//! log, which counts transactions, tells. It is locked by whatever the server is still doing, so the question waits for
//! the answer. Until it is known nobody is told anything but that it is not.
//!
//! Where a standby has to confirm, the server's answer to a COMMIT is worth what it waited for, so no limit of the
//! server's ends that wait: this side stops waiting, and is in doubt.

use bursar_core::Explained;
use bursar_core::retry::Retry;
use bursar_core::tlog::Frontier;
use tokio::time::Instant;

use super::super::{Circumstances, Done, LogTail, Transactions, Work};
use super::batch::Batch;
use super::connection::Connection;
use super::failure::Fault;
use super::fence::{self, Home};
use super::flush::Own;
use super::needs::{Known, Needs};
use crate::kill::{self, Point};
use crate::ledger::entry::{Committed, Entry};
use crate::ledger::error::LedgerError;

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) own: Own,
    pub(super) tail: LogTail,
    /// Where the log ends if a transaction whose answer was lost has happened.
    pub(super) doubt: Option<LogTail>,
    pub(super) _home: Home,
}

impl Transactions for Writer {
    fn run(&mut self, mut work: Vec<Work>, with: &mut Circumstances<'_>) -> Result<Done, LedgerError> {
        let mut careful = false;
        let mut failed = 0;
        loop {
            let fault = match self.attempt(&mut work, with, careful) {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            with.meter.undo(0);
            failed += 1;
            let Some(wait) = Retry::INTERACTIVE.again(failed, &fault) else { return Err(fault.into()) };
            careful |= fault.is(bursar_postgres::sqlstate::UNIQUE);
            self.connection.pause(wait);
        }
    }

    fn edge(&self) -> &Frontier {
        &self.tail.frontier
    }

    fn rest(&mut self) {}

    fn close(mut self: Box<Self>) {
        if let Err(error) = fence::release(&mut self.connection, self.own) {
            tracing::warn!(error = %Explained(&error), "the hold on the log was not let go of; it ends by itself");
        }
    }
}

impl Writer {
    fn attempt(
        &mut self,
        work: &mut [Work],
        with: &mut Circumstances<'_>,
        careful: bool,
    ) -> Result<Done, Fault> {
        self.connection.connect()?;
        with.meter.begin();
        let known = Needs::of(work, with.meter, careful).load(&mut self.connection, self.own.log);
        let known = self.or_undone(known)?;
        let happened = self.has_happened(&known);
        let happened = self.or_undone(happened)?;
        self.settle(happened);
        kill::at(Point::BatchBegun);
        let sign = work.iter().any(|work| matches!(work, Work::Sign));
        let mut batch = Batch::new(known, self.tail.clone(), with.meter);
        let applied = apply(&mut batch, work);
        let answers = self.or_undone(applied)?;
        kill::at(Point::BatchApplied);
        let begun = Instant::now();
        let before = self.tail.frontier.size();
        let flushed = batch.flush(&mut self.connection, self.own, with.signer, sign, before);
        let signed = self.or_undone(flushed)?;
        let tail = batch.tail;
        if let Err(fault) = self.connection.script(COMMIT) {
            self.connection.disconnect();
            if !fault.leaves_doubt() {
                return Err(fault);
            }
            self.doubt = Some(tail);
            if !self.find_out().map_err(|_| Fault::Ledger(LedgerError::Uncertain))? {
                return Err(fault);
            }
        } else {
            self.own.batch += 1;
            self.tail = tail;
        }
        kill::at(Point::BatchDurable);
        Ok(Done { answers, signed, syncing: begun.elapsed() })
    }

    /// Whether the transaction in doubt has happened; asked until there is an answer, or the attempts are used up.
    fn find_out(&mut self) -> Result<bool, Fault> {
        let mut failed = 0;
        loop {
            let fault = match self.ask() {
                Ok(happened) => return Ok(happened),
                Err(fault) => fault,
            };
            self.connection.disconnect();
            failed += 1;
            let Some(wait) = Retry::INTERACTIVE.again(failed, &fault) else { return Err(fault) };
            self.connection.pause(wait);
        }
    }

    /// One that has happened counts once another after it is durable: a server whose session ends while it waits for a
    /// standby leaves the transaction behind as if the standby had it.
    fn ask(&mut self) -> Result<bool, Fault> {
        self.connection.connect()?;
        let known = Needs::default().load(&mut self.connection, self.own.log)?;
        let happened = self.has_happened(&known)?;
        if happened {
            fence::prolong(&mut self.connection, self.own.log)?;
            self.connection.script(COMMIT)?;
        } else {
            self.connection.script("ROLLBACK")?;
        }
        self.settle(happened);
        Ok(happened)
    }

    /// Compares the row of the log with what this process knows; answers whether a transaction in doubt has happened.
    fn has_happened(&self, known: &Known) -> Result<bool, Fault> {
        match &self.doubt {
            _ if known.epoch != self.own.epoch => Err(Fault::Fenced),
            Some(_) if known.batch == self.own.batch + 1 => Ok(true),
            _ if known.batch == self.own.batch => Ok(false),
            _ => Err(Fault::Fenced),
        }
    }

    /// Ends the doubt, if there is one.
    fn settle(&mut self, happened: bool) {
        if let Some(tail) = self.doubt.take()
            && happened
        {
            self.own.batch += 1;
            self.tail = tail;
        }
    }

    /// A transaction that fails is undone before anything else is asked.
    fn or_undone<T>(&mut self, result: Result<T, Fault>) -> Result<T, Fault> {
        if result.is_err() && self.connection.script("ROLLBACK").is_err() {
            self.connection.disconnect();
        }
        result
    }
}

fn apply(batch: &mut Batch<'_>, work: &mut [Work]) -> Result<Vec<Result<Committed, LedgerError>>, Fault> {
    let each = work.iter_mut().map(|work| match work {
        Work::Commit(entry) => batch.apply(entry),
        // The row of the log is written in any case.
        Work::Beat | Work::Sign => batch.apply(&mut Entry::default()),
    });
    each.collect()
}

/// With its limit on statements, a server would stop waiting for a standby and answer as if that had confirmed.
const COMMIT: &str = "SET LOCAL statement_timeout = 0; COMMIT";
