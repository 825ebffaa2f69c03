//! Where a ledger is, and what can be done there while no broker has it open.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::engine::sqlite::Sqlite;
use super::engine::{Engine, Snapshot};
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

    /// Whether there is a ledger.
    ///
    /// # Errors
    /// [`OpenError`] when that cannot be told.
    pub fn is_there(&self) -> Result<bool, OpenError> {
        self.0.is_there()
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
        self.0.bring_up()
    }

    /// Lets go of every credential that is kept in a ledger that nobody has open: of one that was restored they may be
    /// long gone at their stores.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn drop_credentials(&self) -> Result<(), OpenError> {
        self.0.drop_credentials()
    }

    pub(super) fn engine(&self) -> &dyn Engine {
        &*self.0
    }

    /// Asks one state of the ledger by a connection for that alone.
    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&dyn Snapshot) -> Result<T, LedgerError>,
    ) -> Result<Result<T, LedgerError>, OpenError> {
        Ok(self.0.visit()?.ask(question))
    }
}

impl fmt::Display for LedgerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
