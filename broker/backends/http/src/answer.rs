//! What comes back, or why nothing does.

use std::error::Error;

use bursar_core::backend::{ErrorKind, causes};
use bursar_core::secret::Gathered;

/// Reads a body to its end, at most `longest` bytes, into a buffer that is wiped.
///
/// # Errors
/// It is longer, or does not arrive.
pub async fn whole(response: &mut reqwest::Response, longest: usize) -> Result<Gathered, Unread> {
    let mut body = Gathered::up_to(longest);
    while let Some(piece) = response.chunk().await? {
        if !body.push(&piece) {
            return Err(Unread::TooLong);
        }
    }
    Ok(body)
}

/// A body that was not read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("the answer is too long")]
    TooLong,
    #[error("the answer does not arrive")]
    Broken(#[from] reqwest::Error),
}

/// Why a store was not reached, or did not get its answer out.
#[derive(Debug)]
pub struct NotReached {
    pub kind: ErrorKind,
    /// Whether it failed before there was a connection, so that nothing was sent.
    pub unsent: bool,
    /// The last cause, for the log: it speaks of sockets and certificates.
    pub cause: String,
}

impl From<reqwest::Error> for NotReached {
    fn from(error: reqwest::Error) -> Self {
        // The address stands in the configuration, and can hold the name of a secret.
        let error = error.without_url();
        let kind = match () {
            () if error.is_timeout() => ErrorKind::Timeout,
            () if is_certificate_refused(&error) => ErrorKind::Misconfigured,
            () => ErrorKind::Unavailable,
        };
        let cause = causes(&error).last().map_or_else(|| error.to_string(), ToString::to_string);
        Self { kind, unsent: error.is_connect(), cause }
    }
}

impl From<Unread> for NotReached {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::TooLong => Self { kind: ErrorKind::Malformed, unsent: false, cause: unread.to_string() },
            Unread::Broken(error) => error.into(),
        }
    }
}

/// Whether a certificate is behind a failure that is not trusted, or not for this host: it stays so until somebody
/// changes something.
pub fn is_certificate_refused(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))))
}
