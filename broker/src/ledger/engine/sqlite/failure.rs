//! What SQLite's errors mean.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Error, ErrorCode, ffi};

use crate::ledger::error::{FailureKind, LedgerError, OpenError};

impl From<Error> for LedgerError {
    fn from(error: Error) -> Self {
        if is_full(&error) {
            return Self::Full;
        }
        match kind(&error) {
            FailureKind::Damaged => Self::Corrupt { what: error.to_string() },
            kind => Self::Unavailable { kind, source: Arc::new(error) },
        }
    }
}

/// What an error means to somebody who starts a broker.
pub(super) fn on_open(path: &Path, error: Error) -> OpenError {
    let place = path.display().to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotALedger { place },
        _ if kind(&error) == FailureKind::Damaged => OpenError::Corrupt { place, what: error.to_string() },
        _ => OpenError::Unreadable { place, source: error.into() },
    }
}

/// Whether the disk is full: a write that found no space, or the shared index of the log that could not grow.
fn is_full(error: &Error) -> bool {
    let extended = error.sqlite_error().map(|failure| failure.extended_code);
    error.sqlite_error_code() == Some(ErrorCode::DiskFull) || extended == Some(ffi::SQLITE_IOERR_SHMSIZE)
}

fn kind(error: &Error) -> FailureKind {
    match error {
        Error::FromSqlConversionFailure(..)
        | Error::InvalidColumnType(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..) => FailureKind::Damaged,
        other => match other.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => FailureKind::Damaged,
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => FailureKind::Io,
            Some(
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed,
            ) => FailureKind::Locked,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => FailureKind::ReadOnly,
            _ => FailureKind::Engine,
        },
    }
}
