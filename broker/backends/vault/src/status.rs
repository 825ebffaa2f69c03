//! What a status code of the store means.
//!
//! Codes: <https://developer.hashicorp.com/vault/api-docs#http-status-codes>, and for 429, 472, 473 and 501
//! <https://developer.hashicorp.com/vault/api-docs/system/health>.

use std::time::Duration;

use bursar_core::backend::{self, ErrorKind};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::nodes::Blame;

/// Why a call was refused. 503 also means sealed, which only `sys/health` tells.
pub(crate) fn kind(status: StatusCode, body: &[u8]) -> ErrorKind {
    match status.as_u16() {
        403 => ErrorKind::Denied,
        404 if says_why(body) => ErrorKind::Misconfigured,
        404 => ErrorKind::NotFound,
        408 => ErrorKind::Timeout,
        429 => ErrorKind::Throttled,
        // 307: a standby that does not forward; 412: a replica that lags; 472, 473: standbys of a replicated cluster.
        307 | 412 | 472 | 473 => ErrorKind::Unavailable,
        500..=599 => ErrorKind::Unavailable,
        // Other redirects are not followed: they would take the token elsewhere.
        300..=499 => ErrorKind::Misconfigured,
        _ => ErrorKind::Malformed,
    }
}

/// Whose fault a refusal is. What stands between broker and store answers 502 to 504 also when the store has done what it
/// was asked.
pub(crate) fn blame(status: StatusCode) -> Blame {
    match status.as_u16() {
        // A standby that does not forward, one of a replicated cluster, a node that was never initialised.
        307 | 472 | 473 | 501 => Blame::Node,
        500..=599 => Blame::NodeAfterAll,
        _ => Blame::Call,
    }
}

/// How long the store asked to be left alone.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    backend::retry_after(headers.get(header::RETRY_AFTER)?.to_str().ok()?)
}

/// A 404 without words is an absent entry; one with words is an engine or namespace that is not there.
fn says_why(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(default)]
        errors: Vec<IgnoredAny>,
    }
    serde_json::from_slice::<Refusal>(body).is_ok_and(|refusal| !refusal.errors.is_empty())
}
