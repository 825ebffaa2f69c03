//! The ledger's files: who may read them, and that one process has them.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::ledger::error::OpenError;

/// Open files that every connection of a ledger outlives, so all parts of it share them.
///
/// Two brokers on one ledger would both continue the log from their own memory of it. SQLite's locks allow that; the
/// lock on a file of its own does not.
///
/// The database's own file is held open to sync it. It must not be closed while a connection lives: POSIX drops a
/// process's locks on a file when the process closes any descriptor of it.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) database: File,
    /// Locked for as long as it is open.
    _lock: File,
}

impl Files {
    /// Creates what is missing, folder 0700 and files 0600, and takes the lock.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::File { path: path.to_owned(), source };
        create_folder(path).map_err(failed)?;
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = open_private(Path::new(&lock)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { place: path.display().to_string() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let database = open_private(path).map_err(failed)?;
        if !may_be_database(&database).map_err(failed)? {
            return Err(OpenError::NotALedger { place: path.display().to_string() });
        }
        Ok(Self { database, _lock: lock })
    }
}

/// Whether the file is empty, so that a ledger may be made of it, or begins as SQLite's files do. SQLite itself would
/// take a file of a few bytes for an empty one, and write over it.
fn may_be_database(file: &File) -> io::Result<bool> {
    let mut beginning = Vec::with_capacity(MAGIC.len());
    file.take(MAGIC.len() as u64).read_to_end(&mut beginning)?;
    Ok(beginning.is_empty() || beginning == MAGIC)
}

fn create_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    if !folder.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    Ok(())
}

fn open_private(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    // A volume may have given the group rights to what was created before.
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        // The name must be as durable as what is written under it.
        File::open(folder)?.sync_all()?;
    }
    Ok(file)
}

/// The size of the file in bytes; 0 when there is none.
pub(super) fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

const MAGIC: &[u8] = b"SQLite format 3\0";
