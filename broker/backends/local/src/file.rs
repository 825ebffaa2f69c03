//! The file of a store and connections to it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::OpenError;

/// Makes the file, and the directories above it, where there is none; checks who may read it where there is one.
///
/// SQLite gives the write-ahead log and its index the mode of the file, so they are as closed as this one.
pub(crate) fn prepare(path: &Path) -> Result<(), OpenError> {
    let fault = |source| OpenError::File { path: path.to_owned(), source };
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(OWNER_DIRECTORY).create(directory).map_err(fault)?;
    }
    // Exclusive, so an existing name or a planted link is looked at below and never written through.
    match OpenOptions::new().write(true).create_new(true).mode(OWNER_FILE).open(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(fault(error)),
    }
    let mode = path.metadata().map_err(fault)?.permissions().mode();
    if mode & OTHERS != 0 {
        return Err(OpenError::TooOpen { path: path.to_owned() });
    }
    Ok(())
}

/// Waits until nobody else opens a store in this directory; the turn ends with the answer. SQLite does not wait for those
/// who open the file in the moment in which one of them changes its journal.
pub(crate) fn turn(path: &Path) -> Result<File, OpenError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let opened = File::open(directory.unwrap_or(Path::new(".")));
    // Of the directory: closing the file itself would end SQLite's own locks on it.
    let locked = opened.and_then(|directory| directory.lock().map(|()| directory));
    locked.map_err(|source| OpenError::File { path: path.to_owned(), source })
}

/// A connection to an existing file that reads and writes.
pub(crate) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // Neither CREATE, which would use the umask, nor URI, which would read options out of the name.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOCK_WAIT)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// A connection that refuses to write. It is not opened read-only: the last to close empties the write-ahead log, and
/// a read-only one would leave it behind.
pub(crate) fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

const OWNER_DIRECTORY: u32 = 0o700;
const OWNER_FILE: u32 = 0o600;
const OTHERS: u32 = 0o077;
/// How long a call waits for another process that writes.
const LOCK_WAIT: Duration = Duration::from_secs(2);
