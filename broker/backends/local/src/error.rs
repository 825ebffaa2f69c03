//! What goes wrong: [`OpenError`] at the edge, [`Fault`] inside until it is said as a `BackendError`.

use std::path::{Path, PathBuf};

use bursar_core::backend::ErrorKind;
use bursar_core::secret::BytesError;
use ring::error::Unspecified;
use rusqlite::{ErrorCode, ffi};

/// Why a store cannot be opened or rewrapped.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the key for store `{}` has {length} bytes, and it must have 32", path.display())]
    KeyLength { path: PathBuf, length: usize },
    #[error(
        "the key does not open store `{}`: it is the key of another store, or the store was changed; give the key \
         that the store was made with or last rewrapped to",
        path.display()
    )]
    WrongKey { path: PathBuf },
    #[error(
        "store `{}` has schema {found}, and this program knows {known}; run the version of Bursar that wrote it, or \
         a newer one",
        path.display()
    )]
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    #[error("file `{}` is no Bursar store; name another file, or one that does not exist yet", path.display())]
    Foreign { path: PathBuf },
    #[error("others may read or write store `{}`; run `chmod 600` on it", path.display())]
    TooOpen { path: PathBuf },
    #[error("cannot create or look at `{}`; check that this user may write its directory", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the database of store `{}` does not answer; check its disk, its owner and its mode", path.display())]
    Database {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the operating system gives no randomness, so store `{}` cannot make keys", path.display())]
    NoRandomness { path: PathBuf },
}

impl OpenError {
    /// What SQLite said while `path` was opened.
    pub(crate) fn database(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::Foreign { path },
            _ => Self::Database { path, source },
        }
    }
}

/// Why a call on the open store failed. Holds no value: SQLite only ever saw ciphertext.
#[derive(Debug)]
pub(crate) enum Fault {
    /// No such path, no such version, or a deleted one.
    NotFound,
    /// Check-and-set expected another version.
    Conflict,
    /// More bytes than [`MAX_SIZE`](bursar_core::secret::MAX_SIZE), or more fields than
    /// [`MAX_FIELDS`](bursar_core::secret::MAX_FIELDS).
    TooLarge,
    /// A row does not open, or does not hold what this program writes.
    Unreadable,
    /// The store's file is no longer the one that the key opened.
    Sealed,
    /// The cipher or the random generator refused.
    Crypto,
    /// The runtime is shutting down, or the call panicked.
    Stopped,
    Database(rusqlite::Error),
}

impl Fault {
    /// The kind and, where SQLite has one for it, the extended result code.
    pub(crate) fn classify(&self) -> (ErrorKind, Option<u16>) {
        match self {
            Self::NotFound => (ErrorKind::NotFound, None),
            Self::Conflict => (ErrorKind::Conflict, None),
            Self::TooLarge => (ErrorKind::Misconfigured, u16::try_from(ffi::SQLITE_TOOBIG).ok()),
            Self::Unreadable => (ErrorKind::Malformed, None),
            Self::Sealed => (ErrorKind::Sealed, None),
            Self::Crypto | Self::Stopped => (ErrorKind::Unavailable, None),
            Self::Database(error) => {
                let code = error.sqlite_error().and_then(|error| u16::try_from(error.extended_code).ok());
                (database_kind(error.sqlite_error_code()), code)
            }
        }
    }
}

fn database_kind(code: Option<ErrorCode>) -> ErrorKind {
    match code {
        // Without a code of SQLite's, a column did not hold what the schema promises.
        None | Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch) => {
            ErrorKind::Malformed
        }
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => ErrorKind::Denied,
        Some(ErrorCode::TooBig) => ErrorKind::Misconfigured,
        Some(_) => ErrorKind::Unavailable,
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<BytesError> for Fault {
    fn from(error: BytesError) -> Self {
        match error {
            BytesError::TooLarge => Self::TooLarge,
            BytesError::Unreadable => Self::Unreadable,
        }
    }
}

impl From<Unspecified> for Fault {
    fn from(_: Unspecified) -> Self {
        Self::Crypto
    }
}
