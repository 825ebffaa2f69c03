//! What the error codes and HTTP statuses of Key Vault mean.
//!
//! <https://learn.microsoft.com/en-us/azure/key-vault/general/rest-error-codes>

use bursar_core::backend::ErrorKind;

/// What an error code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// The code, as it may be logged: out of this table, not out of the answer.
    pub(crate) code: &'static str,
    pub(crate) kind: ErrorKind,
}

impl Meaning {
    /// Whether the vault knows the broker, and does not allow it what it asked for.
    pub(crate) fn is_of_rights(self) -> bool {
        RIGHTS.contains(&self.code)
    }
}

/// What `code` means, of the codes that are known.
pub(crate) fn of_code(code: &str) -> Option<Meaning> {
    let known = |(kind, codes): &(ErrorKind, &'static [&'static str])| {
        let code = codes.iter().find(|known| **known == code)?;
        Some(Meaning { code, kind: *kind })
    };
    CODES.iter().find_map(known)
}

/// What a refusal with this status and no code that is known means.
pub(crate) fn of_status(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Denied,
        408 => ErrorKind::Timeout,
        429 => ErrorKind::Throttled,
        500..=599 => ErrorKind::Unavailable,
        // Redirects are not followed: they would take the token elsewhere.
        300..=499 => ErrorKind::Misconfigured,
        _ => ErrorKind::Malformed,
    }
}

const CODES: &[(ErrorKind, &[&str])] = &[
    // One that is disabled, or deleted and can be recovered, cannot be read, whoever asks.
    (ErrorKind::NotFound, &["SecretDisabled", "SecretNotFound"]),
    (
        ErrorKind::Denied,
        &[
            "AccessDenied",
            "Forbidden",
            "ForbiddenByConnection",
            "ForbiddenByFirewall",
            "ForbiddenByPolicy",
            "ForbiddenByRbac",
            "Unauthorized",
        ],
    ),
    (ErrorKind::Throttled, &["Throttled", "TooManyRequests", "VaultRequestTypeLimitReached"]),
    (ErrorKind::Timeout, &["RequestTimeout"]),
    (ErrorKind::Unavailable, &["InternalError", "InternalServerError", "ServiceUnavailable"]),
    (ErrorKind::Misconfigured, &["BadParameter", "NotSupported", "VaultNotFound"]),
];
/// The others that deny keep the broker out altogether: a firewall, a token.
const RIGHTS: &[&str] = &["AccessDenied", "Forbidden", "ForbiddenByPolicy", "ForbiddenByRbac"];
