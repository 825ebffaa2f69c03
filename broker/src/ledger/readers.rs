//! The connections that read: a few, so that questions cannot take the processor or the memory from the commits.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::Semaphore;

use super::engine::sqlite::{self, Files};
use super::error::{LedgerError, OpenError};

#[derive(Debug)]
pub(super) struct Readers {
    idle: Mutex<Vec<Reader>>,
    /// One for each connection; closed with the ledger.
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn open(path: &Path, files: &Arc<Files>) -> Result<Arc<Self>, OpenError> {
        let open = |_| Ok(Reader { connection: sqlite::reader(path)?, _files: Arc::clone(files) });
        let idle = (0..READERS).map(open).collect::<Result<_, _>>()?;
        Ok(Arc::new(Self { idle: Mutex::new(idle), permits: Arc::new(Semaphore::new(READERS)) }))
    }

    /// Asks `question` in one read transaction, on a thread where it may block.
    pub(super) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Connection) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| LedgerError::Closed)?;
        let readers = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || {
            let reader = readers.idle().pop().ok_or(LedgerError::Closed)?;
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

    fn give_back(&self, reader: Reader) {
        let mut idle = self.idle();
        if !self.permits.is_closed() {
            idle.push(reader);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Reader {
    connection: Connection,
    _files: Arc<Files>,
}

impl Reader {
    /// One state of the ledger for all that a question reads.
    fn ask<T>(&self, question: impl FnOnce(&Connection) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        let snapshot = Transaction::new_unchecked(&self.connection, TransactionBehavior::Deferred)?;
        question(&snapshot)
    }
}

const READERS: usize = 4;
