//! Backups of a data directory, taken while the broker serves, and the way back.
//!
//! A backup is a directory: the ledger and each local store as one SQLite file, and `manifest.json`, which says how long
//! each is, what it hashes to, and where the log ended. Whatever was sealed stays sealed: the seal key is not in it.
//!
//! **One moment.** Each file is the state of its database at one transaction. The stores are held still first and the
//! ledger last, a few milliseconds apart, so that the ledger knows of every write that the stores have. The other way
//! round there could be a value of which no record speaks.
//!
//! **All or nothing.** Both ways go through a directory beside the target, which gets the target's name when all of it is
//! synced. A restored directory gets it only after everything in it was checked with the keys that will open it.

mod error;
mod manifest;
mod restore;
mod take;

#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub use error::BackupError;
pub use manifest::Manifest;
pub use restore::restore;
pub use take::take;

/// A directory that appears under its name once it is whole. Dropped before that, it is removed.
struct Staging {
    partial: PathBuf,
    target: PathBuf,
}

impl Staging {
    fn new(target: &Path) -> Result<Self, BackupError> {
        let empty = fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
        if !empty && fs::symlink_metadata(target).is_ok() {
            return Err(BackupError::Exists { path: target.to_owned() });
        }
        let mut name = target.as_os_str().to_owned();
        name.push(".partial");
        let partial = PathBuf::from(name);
        match DirBuilder::new().mode(0o700).create(&partial) {
            Ok(()) => Ok(Self { partial, target: target.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BackupError::Exists { path: partial })
            }
            Err(source) => Err(BackupError::File { path: partial, source }),
        }
    }

    fn finish(self) -> Result<(), BackupError> {
        let fault = |source| BackupError::File { path: self.target.clone(), source };
        let folder = self.target.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(&self.partial)
            .and_then(|partial| partial.sync_all())
            .and_then(|()| fs::rename(&self.partial, &self.target))
            .and_then(|()| fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all())
            .map_err(fault)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Gone already where it was finished.
        drop(fs::remove_dir_all(&self.partial));
    }
}
