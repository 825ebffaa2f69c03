//! SQLite: one connection that writes, one that checkpoints, a few that read, over one file in WAL mode.
//!
//! `synchronous=FULL` makes each commit sync the write-ahead log before it returns, which is what "durable" means to
//! every promise above. `wal_autocheckpoint=0` keeps the copying of that log into the database out of commits: see
//! `wal.rs`. No memory map: a truncated file or a failing disk under one is a signal that ends the process, where a
//! read is an error that can be answered.

mod admission;
pub(in crate::ledger) mod audit;
pub(in crate::ledger) mod batch;
mod codes;
mod condition;
pub(in crate::ledger) mod credentials;
mod failure;
pub(in crate::ledger) mod files;
mod forget;
mod grant;
pub(in crate::ledger) mod holders;
pub(in crate::ledger) mod inspect;
pub(in crate::ledger) mod lease_list;
pub(in crate::ledger) mod leases;
pub(in crate::ledger) mod objects;
pub(in crate::ledger) mod pruning;
pub(in crate::ledger) mod revocations;
mod revoke;
mod rows;
mod schema;
pub(in crate::ledger) mod sinks;
pub(in crate::ledger) mod slot;
mod tally;
mod transition;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

pub(in crate::ledger) use files::Files;

use crate::ledger::error::OpenError;

/// Opens the connection that writes. Creates the tables in an empty file, and brings those of an older broker up to date.
pub(in crate::ledger) fn writer(path: &Path) -> Result<Connection, OpenError> {
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
pub(in crate::ledger) fn checkpointer(path: &Path) -> Result<Connection, OpenError> {
    let open = || {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, READER_CACHE_KIB)?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        Ok(connection)
    };
    open().map_err(|error| failure::on_open(path, error))
}

/// Opens a connection that looks at a ledger which may be another broker's, open at this moment or long closed.
pub(in crate::ledger) fn visitor(path: &Path) -> Result<Connection, OpenError> {
    if !path.is_file() {
        return Err(OpenError::NotALedger { path: path.to_owned() });
    }
    let connection = reader(path)?;
    match schema::version(&connection, path)? {
        schema::VERSION => Ok(connection),
        0 => Err(OpenError::NotALedger { path: path.to_owned() }),
        found => Err(OpenError::OlderSchema { path: path.to_owned(), found, wanted: schema::VERSION }),
    }
}

/// Opens a connection that reads.
pub(in crate::ledger) fn reader(path: &Path) -> Result<Connection, OpenError> {
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

/// Only another program with the file open can make a connection wait.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// More than there are statements, so that none is compiled twice.
const STATEMENTS: usize = 64;

const WRITER_CACHE_KIB: i64 = 32 * 1024;
const READER_CACHE_KIB: i64 = 2 * 1024;

/// What the write-ahead log keeps of its file once it starts again from the front.
const WAL_KEPT_BYTES: i64 = 192 * 1024 * 1024;
