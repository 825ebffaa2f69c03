//! Leases looked up by their ids: one thread answers together all who ask at the same time.
//!
//! Every renewal and every revocation of one lease begins with this question. By `readers.rs` each would be handed to a
//! thread of its own and have a transaction of its own, which costs several times what the lookup does. Like the
//! writer, this thread takes whatever gathered while it was at work, without a timer. All of it is asked of one state
//! of the ledger, which is begun after the last of the questions came: who was told of a commit, and then asks, sees it.

use std::sync::Arc;

use bursar_core::{Lease, LeaseId};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::engine::sqlite::Files;
use super::engine::sqlite::leases::Lookup;
use super::error::LedgerError;

/// What the finder is told.
#[derive(Debug)]
pub(super) enum Question {
    Lease(LeaseId, Reply),
    /// Answer what is queued, and end.
    Stop,
}

/// Whom to tell what was found.
pub(super) type Reply = oneshot::Sender<Result<Option<Lease>, LedgerError>>;

/// The one that looks. The fields are dropped in their order: the files outlive the connection.
#[derive(Debug)]
pub(super) struct Finder {
    pub(super) queue: mpsc::Receiver<Question>,
    pub(super) connection: Connection,
    pub(super) _files: Arc<Files>,
}

impl Finder {
    /// Answers until it is stopped or nobody is left who could ask.
    pub(super) fn run(mut self) {
        let mut questions = Vec::with_capacity(BATCH);
        while self.queue.blocking_recv_many(&mut questions, BATCH) > 0 {
            if questions.iter().any(|question| matches!(question, Question::Stop)) {
                self.queue.close();
            }
            self.answer(questions.drain(..));
        }
    }

    fn answer(&self, questions: impl Iterator<Item = Question>) {
        let begun = Transaction::new_unchecked(&self.connection, TransactionBehavior::Deferred);
        let begun = begun.map_err(LedgerError::from);
        let mut lookup = match &begun {
            Ok(snapshot) => Lookup::on(snapshot),
            Err(error) => Err(error.clone()),
        };
        for question in questions {
            let Question::Lease(id, reply) = question else { continue };
            let found = match &mut lookup {
                Ok(lookup) => lookup.lease(id),
                Err(error) => Err(error.clone()),
            };
            // Whoever asked may have stopped waiting.
            let _gone = reply.send(found);
        }
    }
}

/// Questions that may wait; whoever comes later waits for a place.
pub(super) const QUEUE: usize = 1024;
/// The most leases that are looked up in one transaction.
const BATCH: usize = 256;
