//! The connections that read, lent to one question at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::engine::{Snapshot, Snapshots};
use super::error::LedgerError;

pub(super) struct Readers {
    idle: Mutex<Vec<Box<dyn Snapshots>>>,
    /// One for each connection; closed with the ledger.
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(connections: Vec<Box<dyn Snapshots>>) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(connections.len()));
        Arc::new(Self { idle: Mutex::new(connections), permits })
    }

    /// Asks `question` of one state of the ledger, on a thread where it may block.
    pub(super) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&dyn Snapshot) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| LedgerError::Closed)?;
        let readers = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || {
            let mut reader = readers.idle().pop().ok_or(LedgerError::Closed)?;
            let answer = reader.ask(question);
            readers.give_back(reader);
            drop(permit);
            answer
        });
        asked.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Answers no more questions, and closes the connections as they come back.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    fn give_back(&self, reader: Box<dyn Snapshots>) {
        let mut idle = self.idle();
        if !self.permits.is_closed() {
            idle.push(reader);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Box<dyn Snapshots>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
