//! Where a ledger is, and what can be done there while no broker has it open.

use std::fmt;
use std::panic;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

#[cfg(feature = "postgres")]
use super::engine::postgres::{Postgres, PostgresAccess, UrlFault};
use super::engine::sqlite::Sqlite;
use super::engine::{Engine, Opened, Sizes, Snapshot};
use super::entry::ObjectKind;
use super::error::{LedgerError, OpenError};
use super::inspect::{self, Inspection, LogKey};

/// Where a ledger is. Cheap to clone; shown as messages name it, without what it takes to get in.
#[derive(Debug, Clone)]
pub struct LedgerPlace(Arc<dyn Engine>);

impl LedgerPlace {
    /// An SQLite database. Its write-ahead log and its lock lie beside it; the files are made 0600, their folder 0700.
    pub fn sqlite(path: PathBuf) -> Self {
        Self(Arc::new(Sqlite::new(path)))
    }

    /// A database of a PostgreSQL, and the log `origin` in it. `folder` is the broker's data directory, which tells a
    /// process that starts again from another one.
    ///
    /// # Errors
    /// [`UrlFault`], before a server is asked.
    #[cfg(feature = "postgres")]
    pub fn postgres(
        access: PostgresAccess,
        origin: String,
        trust_domain: String,
        folder: PathBuf,
    ) -> Result<Self, UrlFault> {
        Ok(Self(Arc::new(Postgres::new(access, origin, trust_domain, folder)?)))
    }

    /// Whether there is a ledger.
    ///
    /// # Errors
    /// [`OpenError`] when that cannot be told.
    pub fn is_there(&self) -> Result<bool, OpenError> {
        apart(|| self.0.is_there())
    }

    /// Reads all of a ledger against itself, with the key of its log. Changes nothing, and may be done while a broker
    /// has the ledger open.
    ///
    /// # Errors
    /// [`OpenError`] when it cannot be read as far as that.
    pub fn inspect(&self, key: LogKey<'_>) -> Result<Inspection, OpenError> {
        self.ask(|snapshot| inspect::inspect(snapshot, key))?.map_err(|error| OpenError::of_head(self, error))
    }

    /// A sealed key out of a ledger, read as [`LedgerPlace::inspect`] reads it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn key(&self, name: &str) -> Result<Option<Vec<u8>>, OpenError> {
        let found = self.ask(|snapshot| snapshot.object(ObjectKind::Key, name))?;
        let found = found.map_err(|error| OpenError::of_head(self, error))?;
        Ok(found.map(|object| object.body))
    }

    /// Brings the schema of a ledger that nobody has open up to date, as opening it would.
    ///
    /// # Errors
    /// [`OpenError`], with the newer schema among them.
    pub fn bring_up(&self) -> Result<(), OpenError> {
        apart(|| self.0.bring_up())
    }

    /// Lets go of every credential that is kept in a ledger that nobody has open: of one that was restored they may be
    /// long gone at their stores.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn drop_credentials(&self) -> Result<(), OpenError> {
        apart(|| self.0.drop_credentials())
    }

    pub(super) fn open(&self) -> Result<Opened, OpenError> {
        apart(|| self.0.open())
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.0.sizes()
    }

    /// Asks one state of the ledger by a connection for that alone.
    pub(super) fn ask<T: Send>(
        &self,
        question: impl FnOnce(&dyn Snapshot) -> Result<T, LedgerError> + Send,
    ) -> Result<Result<T, LedgerError>, OpenError> {
        apart(|| Ok(self.0.visit()?.ask(question)))
    }
}

/// Does what blocks on a thread of its own: whoever opens a ledger may be a task, where an engine must not wait.
fn apart<T: Send>(work: impl FnOnce() -> Result<T, OpenError> + Send) -> Result<T, OpenError> {
    thread::scope(|scope| {
        let working = thread::Builder::new().name("ledger-opener".to_owned()).spawn_scoped(scope, work);
        let worked = working.map_err(OpenError::Thread)?.join();
        worked.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}

impl fmt::Display for LedgerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
