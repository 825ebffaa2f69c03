//! What Google's error codes and HTTP statuses mean.
//!
//! Codes: <https://cloud.google.com/apis/design/errors#handling_errors>. Reasons:
//! <https://github.com/googleapis/googleapis/blob/master/google/api/error_reason.proto>.

use bursar_core::backend::ErrorKind;

/// What a code means, of those that are known; and the code as it may be logged: out of this table, not out of the
/// answer.
pub(crate) fn of_code(code: &str) -> Option<(&'static str, ErrorKind)> {
    CODES.iter().find_map(|(kind, codes)| Some((known(code, codes)?, *kind)))
}

/// The reason behind a code, of those that are known, and what it means where it says more than the code.
pub(crate) fn of_reason(reason: &str) -> Option<(&'static str, Option<ErrorKind>)> {
    let of_project = known(reason, OF_PROJECT).map(|reason| (reason, Some(ErrorKind::Misconfigured)));
    of_project.or_else(|| known(reason, REASONS).map(|reason| (reason, None)))
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

/// What the error of a token endpoint means (RFC 6749, section 5.2; RFC 8693, section 2.2.2), and the error as it may be
/// logged.
pub(crate) fn of_token_endpoint(error: &str) -> Option<(&'static str, ErrorKind)> {
    TOKEN_ERRORS.iter().find_map(|(kind, errors)| Some((known(error, errors)?, *kind)))
}

fn known(text: &str, table: &[&'static str]) -> Option<&'static str> {
    table.iter().copied().find(|known| *known == text)
}

/// The code of a call without a token, or with one that is no good.
pub(crate) const UNAUTHENTICATED: &str = "UNAUTHENTICATED";
/// The code of a call that the token's owner may not make.
pub(crate) const PERMISSION_DENIED: &str = "PERMISSION_DENIED";
/// The code of an access to a version that is disabled or destroyed, or whose key is.
pub(crate) const FAILED_PRECONDITION: &str = "FAILED_PRECONDITION";

const CODES: &[(ErrorKind, &[&str])] = &[
    (ErrorKind::NotFound, &["NOT_FOUND", FAILED_PRECONDITION]),
    (ErrorKind::Denied, &[PERMISSION_DENIED, UNAUTHENTICATED]),
    (ErrorKind::Throttled, &["RESOURCE_EXHAUSTED"]),
    (ErrorKind::Unavailable, &["ABORTED", "DATA_LOSS", "INTERNAL", "UNAVAILABLE", "UNKNOWN"]),
    (ErrorKind::Timeout, &["CANCELLED", "DEADLINE_EXCEEDED"]),
    (ErrorKind::Misconfigured, &["ALREADY_EXISTS", "INVALID_ARGUMENT", "OUT_OF_RANGE", "UNIMPLEMENTED"]),
];

/// Reasons for which nothing of the project can be read, whoever asks.
const OF_PROJECT: &[&str] = &[
    "BILLING_DISABLED",
    "CONSUMER_INVALID",
    "CONSUMER_SUSPENDED",
    "RESOURCE_PROJECT_INVALID",
    "SERVICE_DISABLED",
];

const REASONS: &[&str] = &[
    "ACCESS_TOKEN_EXPIRED",
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
    "ACCESS_TOKEN_TYPE_UNSUPPORTED",
    "ACCOUNT_STATE_INVALID",
    "CREDENTIALS_MISSING",
    "IAM_PERMISSION_DENIED",
    "LOCATION_ORG_POLICY_VIOLATED",
    "LOCATION_POLICY_VIOLATED",
    "ORG_RESTRICTION_VIOLATION",
    "RATE_LIMIT_EXCEEDED",
    "RESOURCE_QUOTA_EXCEEDED",
    "SECURITY_POLICY_VIOLATED",
    "USER_PROJECT_DENIED",
];

const TOKEN_ERRORS: &[(ErrorKind, &[&str])] = &[
    (
        ErrorKind::Denied,
        &["access_denied", "invalid_client", "invalid_grant", "invalid_target", "unauthorized_client"],
    ),
    (ErrorKind::Misconfigured, &["invalid_request", "invalid_scope", "unsupported_grant_type"]),
    (ErrorKind::Unavailable, &["internal_failure", "server_error", "temporarily_unavailable"]),
];
