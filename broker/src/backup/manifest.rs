//! What a backup says of itself.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::BackupError;

/// The content of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORM`] of the broker that made it.
    pub form: u32,
    pub made_at: Timestamp,
    /// The name of the log, which says which broker's it is.
    pub origin: String,
    /// How many records the log had.
    pub log_size: u64,
    /// The newest checkpoint in it, over all of them or the beginning; absent when there are none.
    pub checkpoint: Option<String>,
    pub files: Vec<Copied>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Its name in the data directory.
    pub name: String,
    pub bytes: u64,
    /// In hexadecimal digits.
    pub sha256: String,
}

impl Manifest {
    pub(super) fn write(&self, folder: &Path) -> Result<(), BackupError> {
        let path = folder.join(NAME);
        let fault = |source| BackupError::File { path: path.clone(), source };
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| fault(error.into()))?;
        text.push(b'\n');
        let mut file = new_file(&path).map_err(fault)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(fault)
    }

    /// Reads that of the backup in `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self, BackupError> {
        let not = |what: String| BackupError::NotABackup { path: folder.to_owned(), what };
        let text = std::fs::read(folder.join(NAME)).map_err(|error| not(format!("`{NAME}`: {error}")))?;
        // The form first: of a newer one nothing else need be readable.
        #[derive(Deserialize)]
        struct Formed {
            form: u32,
        }
        let unreadable = |error: serde_json::Error| not(format!("`{NAME}` cannot be read: {error}"));
        let Formed { form } = serde_json::from_slice(&text).map_err(unreadable)?;
        if form > FORM {
            return Err(BackupError::Newer { found: form, known: FORM });
        }
        let manifest: Self = serde_json::from_slice(&text).map_err(unreadable)?;
        // A name is one in the data directory, and no way out of it.
        let plain = |name: &str| name == LEDGER || (name.ends_with(STORE) && !name.contains('/'));
        match manifest.files.iter().find(|file| !plain(&file.name)) {
            Some(odd) => Err(not(format!("it has a file `{}`", odd.name))),
            None if manifest.files.iter().any(|file| file.name == LEDGER) => Ok(manifest),
            None => Err(not("it has no ledger".to_owned())),
        }
    }
}

impl Copied {
    /// Reads a file for its length and hash.
    pub(super) fn of(folder: &Path, name: &str) -> io::Result<Self> {
        let mut file = File::open(folder.join(name))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => {
                    bytes += read as u64;
                    hash.update(buffer.get(..read).unwrap_or_default());
                }
            }
        }
        Ok(Self { name: name.to_owned(), bytes, sha256: HEXLOWER.encode(&hash.finalize()) })
    }
}

/// A file that was not there before, for this user alone.
pub(super) fn new_file(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
}

pub(super) const LEDGER: &str = "ledger.db";
pub(super) const STORE: &str = ".store.db";
const NAME: &str = "manifest.json";

/// Counted up when an older broker could no longer restore what is written.
pub(super) const FORM: u32 = 1;
