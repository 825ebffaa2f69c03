//! SQLite: one connection that writes, one that checkpoints, a few that read, over one file in WAL mode.
//!
//! `synchronous=FULL` makes each commit sync the write-ahead log before it returns, which is what "durable" means to
//! every promise above. `wal_autocheckpoint=0` keeps the copying of that log into the database out of commits: see
//! `wal.rs`. No memory map: a truncated file or a failing disk under one is a signal that ends the process, where a
//! read is an error that can be answered.

mod admission;
mod batch;
mod condition;
mod credentials;
mod failure;
mod files;
mod forget;
mod grant;
mod holders;
mod inspect;
mod lease_list;
mod leases;
mod log;
mod objects;
mod pruning;
mod revocations;
mod revoke;
mod rows;
mod schema;
mod sinks;
mod snapshot;
mod tally;
mod transactions;
mod transition;
mod wal;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{Engine, Opened, Sizes, Snapshots, StoredHead};
use crate::ledger::error::OpenError;
use crate::ledger::proofs;
use files::Files;
use snapshot::Reader;
use transactions::Writer;
use wal::Checkpointer;

#[cfg(test)]
pub(in crate::ledger) use leases::STANDING_QUERIES;

/// A ledger in a file. Its write-ahead log and its lock lie beside it.
#[derive(Debug)]
pub(in crate::ledger) struct Sqlite {
    path: PathBuf,
}

impl Sqlite {
    pub(in crate::ledger) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What writes, where the log ended, and what copies its write-ahead log.
    fn writer(&self, files: &Arc<Files>) -> Result<(Writer, StoredHead, Checkpointer), OpenError> {
        let connection = writer(&self.path)?;
        let stored = proofs::head(&connection).map_err(|error| OpenError::of_head(self, error))?;
        let (wal, checkpointer) = wal::pair(checkpointer(&self.path)?, Arc::clone(files));
        let tail = stored.tail.clone();
        Ok((Writer { connection, tail, wal, _files: Arc::clone(files) }, stored, checkpointer))
    }

    fn reader(&self, files: Option<&Arc<Files>>) -> Result<Reader, OpenError> {
        Ok(Reader { connection: reader(&self.path)?, _files: files.cloned() })
    }

    fn write_ahead_log(&self) -> PathBuf {
        let mut path = self.path.as_os_str().to_owned();
        path.push("-wal");
        path.into()
    }
}

impl Engine for Sqlite {
    fn open(&self) -> Result<Opened, OpenError> {
        let files = Arc::new(Files::open(&self.path)?);
        let (writer, stored, checkpointer) = self.writer(&files)?;
        let readers = (0..READERS).map(|_| Ok(Box::new(self.reader(Some(&files))?) as _));
        let readers = readers.collect::<Result<_, OpenError>>()?;
        let finder = Box::new(self.reader(Some(&files))?);
        let helper = Some(Box::new(move || checkpointer.run()) as _);
        Ok(Opened { transactions: Box::new(writer), finder, readers, stored, helper })
    }

    fn visit(&self) -> Result<Box<dyn Snapshots>, OpenError> {
        Ok(Box::new(Reader { connection: visitor(&self.path)?, _files: None }))
    }

    fn bring_up(&self) -> Result<(), OpenError> {
        let _files = Files::open(&self.path)?;
        writer(&self.path).map(drop)
    }

    fn drop_credentials(&self) -> Result<(), OpenError> {
        let _files = Files::open(&self.path)?;
        let dropped = credentials::drop_all(&writer(&self.path)?);
        dropped.map_err(|error| OpenError::of_head(self, error.into()))
    }

    fn is_there(&self) -> Result<bool, OpenError> {
        Ok(self.path.exists())
    }

    fn sizes(&self) -> Sizes {
        Sizes { write_ahead_log: files::size(&self.write_ahead_log()), database: files::size(&self.path) }
    }
}

impl fmt::Display for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// Opens the connection that writes. Creates the tables in an empty file, and brings those of an older broker up to date.
fn writer(path: &Path) -> Result<Connection, OpenError> {
    let failed = |error| failure::on_open(path, error);
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, WRITER_CACHE_KIB).map_err(failed)?;
    let version = schema::version(&connection, path)?;
    let settle = || {
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
        schema::bring_up(&connection, version)
    };
    settle().map_err(failed)?;
    Ok(connection)
}

/// Opens a connection that copies the write-ahead log into the database.
fn checkpointer(path: &Path) -> Result<Connection, OpenError> {
    let open = || {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, READER_CACHE_KIB)?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        Ok(connection)
    };
    open().map_err(|error| failure::on_open(path, error))
}

/// Opens a connection that looks at a ledger which may be another broker's, open at this moment or long closed.
fn visitor(path: &Path) -> Result<Connection, OpenError> {
    if !path.is_file() {
        return Err(OpenError::NotALedger { place: path.display().to_string() });
    }
    let connection = reader(path)?;
    match schema::version(&connection, path)? {
        schema::VERSION => Ok(connection),
        0 => Err(OpenError::NotALedger { place: path.display().to_string() }),
        found => {
            Err(OpenError::OlderSchema { place: path.display().to_string(), found, wanted: schema::VERSION })
        }
    }
}

/// Opens a connection that reads.
fn reader(path: &Path) -> Result<Connection, OpenError> {
    let open = || connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, READER_CACHE_KIB);
    open().map_err(|error| failure::on_open(path, error))
}

fn connect(path: &Path, access: OpenFlags, cache_kib: i64) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// Connections that answer questions: a few, so that questions cannot take the processor or the memory from the commits.
const READERS: usize = 4;

/// Only another program with the file open can make a connection wait.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// More than there are statements, so that none is compiled twice.
const STATEMENTS: usize = 64;

const WRITER_CACHE_KIB: i64 = 32 * 1024;
const READER_CACHE_KIB: i64 = 2 * 1024;

/// What the write-ahead log keeps of its file once it starts again from the front.
const WAL_KEPT_BYTES: i64 = 192 * 1024 * 1024;
