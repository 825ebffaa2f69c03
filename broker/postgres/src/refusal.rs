//! What a failure means. What the server wrote about it ends here: a message of PostgreSQL may quote the statement.
//!
//! Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>. They have five characters, letters among
//! them, so they are in the log and not in a [`BackendError`](bursar_core::backend::BackendError)'s number.

use std::error::Error;
use std::fmt;
use std::io;

use bursar_core::backend::ErrorKind;

/// Why a statement or a login was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: ErrorKind,
    /// The server's code, where the server spoke.
    pub sqlstate: Option<String>,
    /// Where in what was sent the fault is, in characters from 1, where the server says so.
    pub position: Option<usize>,
    /// What happened below PostgreSQL's protocol: it speaks of sockets and certificates.
    pub cause: Option<String>,
}

impl Refusal {
    /// Reads a failure of the client.
    pub fn of(error: &tokio_postgres::Error) -> Self {
        if let Some(told) = error.as_db_error() {
            let code = told.code().code();
            let position = match told.position() {
                Some(tokio_postgres::error::ErrorPosition::Original(position)) => {
                    usize::try_from(*position).ok()
                }
                _ => None,
            };
            return Self { kind: kind(code), sqlstate: Some(code.to_owned()), position, cause: None };
        }
        let kind = match () {
            () if error.is_closed() => ErrorKind::Unavailable,
            () => below(error),
        };
        // The text of the outermost alone says what was being done; that of the innermost says what happened. Neither
        // comes from the server.
        let cause = causes(error).last().map_or_else(|| error.to_string(), ToString::to_string);
        Self { kind, sqlstate: None, position: None, cause: Some(cause) }
    }

    /// A failure before anything was said to the server.
    pub fn before(kind: ErrorKind, cause: &dyn fmt::Display) -> Self {
        Self { kind, sqlstate: None, position: None, cause: Some(cause.to_string()) }
    }

    /// Whether something that was named is not there.
    pub fn is_undefined(&self) -> bool {
        self.is(sqlstate::UNDEFINED_OBJECT)
    }

    /// Whether the server answered by this code.
    pub fn is(&self, sqlstate: &str) -> bool {
        self.sqlstate.as_deref() == Some(sqlstate)
    }

    /// Whether the session may be used again: the server spoke, and did not end it.
    pub fn leaves_session(&self) -> bool {
        self.sqlstate.as_deref().is_some_and(|code| !ENDED.iter().any(|ended| code.starts_with(ended)))
    }
}

/// What the server means by a code.
fn kind(sqlstate: &str) -> ErrorKind {
    match sqlstate {
        // Too many connections; the others of the class are a full disk or memory.
        "53300" => ErrorKind::Throttled,
        // Insufficient privilege.
        "42501" => ErrorKind::Denied,
        // A statement took longer than the limit that is set at login, or waited longer for a lock.
        "57014" | "55P03" => ErrorKind::Timeout,
        // A standby, or a server that was told to be read only; or a transaction took too long between two statements, or
        // in all, and the server has undone it.
        "25006" | "25P03" | "25P04" => ErrorKind::Unavailable,
        _ => match sqlstate.get(..2) {
            Some("28") => ErrorKind::Denied,
            // Connection, transaction rollback (serialisation, deadlock), resources, object in use, operator
            // intervention, system error, internal error (such as a row that another transaction just changed).
            Some("08" | "40" | "53" | "55" | "57" | "58" | "XX") => ErrorKind::Unavailable,
            _ => ErrorKind::Misconfigured,
        },
    }
}

/// What a failure below the protocol means.
fn below(error: &tokio_postgres::Error) -> ErrorKind {
    let mut met = None;
    for cause in causes(error) {
        match cause.downcast_ref() {
            // A certificate that is not trusted, or not for this host, stays so until somebody changes something.
            Some(rustls::Error::InvalidCertificate(_)) => return ErrorKind::Misconfigured,
            Some(_) => return ErrorKind::Unavailable,
            None => {}
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            met = Some(match error.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => ErrorKind::Malformed,
                _ => ErrorKind::Unavailable,
            });
        }
    }
    // Nothing failed: the client stopped, since the server has no TLS or wants a login of a kind that there is not.
    met.unwrap_or(ErrorKind::Misconfigured)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.sqlstate, &self.cause) {
            (Some(sqlstate), _) => write!(f, "PostgreSQL answered {sqlstate}"),
            (None, Some(cause)) => f.write_str(cause),
            (None, None) => write!(f, "{}", self.kind),
        }
    }
}

impl Error for Refusal {}

fn causes(error: &tokio_postgres::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| match cause.downcast_ref::<io::Error>() {
        // `source` of an I/O error skips the error that it wraps.
        Some(error) => error.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => (**cause).source(),
    })
}

/// What a server says when it ends a session: its administrator did, or a transaction took too long.
const ENDED: [&str; 3] = ["57P", "25P03", "25P04"];

/// Codes that somebody has to tell apart.
pub mod sqlstate {
    pub const UNDEFINED_OBJECT: &str = "42704";
    pub const UNDEFINED_TABLE: &str = "42P01";
    pub const UNDEFINED_COLUMN: &str = "42703";
    pub const INVALID_SCHEMA: &str = "3F000";
    pub const INVALID_DATABASE: &str = "3D000";
    pub const DENIED: &str = "42501";
    pub const READ_ONLY: &str = "25006";
    pub const UNIQUE: &str = "23505";
    pub const SERIALIZATION: &str = "40001";
    pub const DEADLOCK: &str = "40P01";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_the_server_means_by_them() {
        for (code, meant) in [
            ("08006", ErrorKind::Unavailable),
            ("28P01", ErrorKind::Denied),
            ("28000", ErrorKind::Denied),
            ("42501", ErrorKind::Denied),
            ("53300", ErrorKind::Throttled),
            ("53100", ErrorKind::Unavailable),
            ("57P03", ErrorKind::Unavailable),
            ("57P01", ErrorKind::Unavailable),
            ("57014", ErrorKind::Timeout),
            ("40001", ErrorKind::Unavailable),
            ("40P01", ErrorKind::Unavailable),
            ("55006", ErrorKind::Unavailable),
            ("25006", ErrorKind::Unavailable),
            ("25P03", ErrorKind::Unavailable),
            ("XX000", ErrorKind::Unavailable),
            ("42601", ErrorKind::Misconfigured),
            ("2BP01", ErrorKind::Misconfigured),
            ("3D000", ErrorKind::Misconfigured),
            ("", ErrorKind::Misconfigured),
            ("ü", ErrorKind::Misconfigured),
        ] {
            assert_eq!(kind(code), meant, "{code}");
        }
    }

    #[test]
    fn a_session_that_the_server_ends_is_not_used_again() {
        let refusal = |code: Option<&str>| Refusal {
            kind: ErrorKind::Unavailable,
            sqlstate: code.map(str::to_owned),
            position: None,
            cause: None,
        };
        assert!(refusal(Some("42501")).leaves_session());
        assert!(!refusal(Some("57P01")).leaves_session());
        assert!(!refusal(Some("25P03")).leaves_session());
        assert!(!refusal(None).leaves_session());
    }
}
