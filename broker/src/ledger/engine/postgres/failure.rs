//! What a PostgreSQL's failures mean to a ledger. Nothing that a server wrote is kept: it may quote what was written.

use std::sync::Arc;

use bursar_core::backend::ErrorKind;
use bursar_core::retry::Transient;
use bursar_postgres::{Refusal, sqlstate};

use super::access::UrlFault;
use crate::ledger::error::{FailureKind, LedgerError, OpenError};

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(in crate::ledger) enum Fault {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another broker changed a row meanwhile; the whole of it may be done again.
    #[error("another broker changed the same at the same time")]
    Conflict,
    #[error("another process writes the log of this broker; every broker needs a `name` of its own")]
    Fenced,
    #[error("the server has `{setting}` off, so what it commits is not durable; switch it on")]
    Volatile { setting: &'static str },
    #[error("the server is read only: a standby, or told to be; name the primary in `ledger.url`")]
    ReadOnly,
    #[error(transparent)]
    Url(UrlFault),
    /// A column is not what is written there.
    #[error("the table `{table}` holds what no broker writes there")]
    Damaged { table: &'static str },
    #[error(transparent)]
    Ledger(LedgerError),
}

impl Fault {
    /// There is no session.
    pub(super) fn lost() -> Self {
        Self::Refused(Refusal::before(ErrorKind::Unavailable, &"the connection is gone"))
    }

    /// There was no answer in time.
    pub(super) fn late() -> Self {
        Self::Refused(Refusal::before(ErrorKind::Timeout, &"no answer in time"))
    }

    pub(super) fn is(&self, sqlstate: &str) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is(sqlstate))
    }

    /// Whether the session that met it may be used again.
    pub(super) fn leaves_session(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.leaves_session(),
            _ => true,
        }
    }

    /// Whether a COMMIT that met it may have come into effect: nobody said that it did not.
    pub(super) fn leaves_doubt(&self) -> bool {
        match self {
            Self::Refused(Refusal { sqlstate: Some(code), .. }) => {
                code == STATEMENT_COMPLETION_UNKNOWN || DOUBTFUL.iter().any(|class| code.starts_with(class))
            }
            Self::Refused(_) => true,
            _ => false,
        }
    }

    /// What it means to somebody who starts a broker.
    pub(super) fn on_open(self, place: &str) -> OpenError {
        let place = place.to_owned();
        match self {
            Self::Ledger(error) => OpenError::of_head(&place, error),
            Self::Damaged { table } => {
                let what = format!("the table `{table}` holds what no broker writes there");
                OpenError::Corrupt { place, what }
            }
            Self::Refused(refusal) if refusal.is(sqlstate::DENIED) => OpenError::Denied { place },
            fault => OpenError::Unreachable { place, hint: fault.hint(), source: Arc::new(fault) },
        }
    }

    /// What an operator does about it.
    fn hint(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => match (refusal.sqlstate.as_deref(), refusal.kind) {
                (Some("28P01" | "28000"), _) => {
                    "it refuses the login: check user and password in `ledger.url`, and `pg_hba.conf` there"
                }
                (Some(sqlstate::INVALID_DATABASE), _) => {
                    "there is no such database: create it, or correct `ledger.url`"
                }
                (None, ErrorKind::Misconfigured) => {
                    "its certificate is not trusted or not for this host, or it has no TLS: check `ledger.ca_file` and the \
                     host in `ledger.url`"
                }
                (None, _) => {
                    "it does not answer: check host and port in `ledger.url`, and that the server runs"
                }
                _ => "look into the server's log",
            },
            _ => "mend that and start again",
        }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Refused(Refusal::of(&error))
    }
}

impl Transient for Fault {
    fn is_transient(&self) -> bool {
        match self {
            Self::Conflict => true,
            Self::Refused(refusal) => {
                matches!(refusal.kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Throttled)
                    || refusal.is(sqlstate::UNIQUE)
            }
            _ => false,
        }
    }
}

impl From<Fault> for LedgerError {
    fn from(fault: Fault) -> Self {
        let kind = match &fault {
            Fault::Ledger(_) => FailureKind::Engine,
            Fault::Damaged { .. } => FailureKind::Damaged,
            Fault::Fenced => FailureKind::Fenced,
            Fault::ReadOnly => FailureKind::ReadOnly,
            Fault::Conflict => FailureKind::Locked,
            Fault::Volatile { .. } | Fault::Url(_) => FailureKind::Engine,
            Fault::Refused(refusal) => match refusal.sqlstate.as_deref() {
                Some("53100") => return Self::Full,
                Some(sqlstate::READ_ONLY) => FailureKind::ReadOnly,
                Some("40001" | "40P01" | "55P03") => FailureKind::Locked,
                Some(sqlstate::UNDEFINED_TABLE | sqlstate::UNDEFINED_COLUMN) => FailureKind::Damaged,
                Some(code)
                    if refusal.leaves_session() && !code.starts_with("57") && !code.starts_with("08") =>
                {
                    FailureKind::Engine
                }
                _ => FailureKind::Unreachable,
            },
        };
        match fault {
            Fault::Ledger(error) => error,
            Fault::Damaged { table } => {
                Self::Corrupt { what: format!("the table `{table}` holds what no broker writes there") }
            }
            fault => Self::Unavailable { kind, source: Arc::new(fault) },
        }
    }
}

const STATEMENT_COMPLETION_UNKNOWN: &str = "40003";
/// Connection failures, the end of the server, and what it cannot explain.
const DOUBTFUL: [&str; 4] = ["08", "57", "58", "XX"];
