//! What went wrong with a call, in names and numbers.
//!
//! What Google wrote about it ends here. The log gets codes and reasons that are known beforehand, and of what is below
//! HTTP the last cause, which speaks of sockets and certificates.

use std::time::Duration;

use bursar_backend_http::NotReached;
use bursar_core::BackendName;
use bursar_core::backend::{self, BackendError, ErrorKind, Operation};
use serde::Deserialize;

use crate::client::Reply;
use crate::status;

/// A call that was not answered.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: BackendError,
    /// Google's code, where it gave one that is known.
    code: Option<&'static str>,
}

impl Refusal {
    /// What Google answered instead.
    pub(crate) fn of(backend: &BackendName, operation: Operation, reply: &Reply) -> Self {
        let Reply { status, retry_after, body } = reply;
        let Said { code, reason, retry_delay } = Said::read(body.bytes());
        let status = status.as_u16();
        let of_code = code.as_deref().and_then(status::of_code);
        let reason = reason.as_deref().and_then(status::of_reason);
        let kind = of_code.map_or_else(|| status::of_status(status), |(_, kind)| kind);
        let kind = reason.and_then(|(_, kind)| kind).unwrap_or(kind);
        let (code, reason) = (of_code.map(|(code, _)| code), reason.map(|(reason, _)| reason));
        // Who asks for what is not there is told so, and nobody else has to know.
        if kind == ErrorKind::NotFound && code != Some(status::FAILED_PRECONDITION) {
            tracing::debug!(%backend, %operation, code, "store has none");
        } else {
            tracing::warn!(%backend, %operation, %kind, status, code, reason, "store refused");
        }
        let error = BackendError::new(kind, backend, operation).with_code(status);
        Self { error: BackendError { retry_after: (*retry_after).max(retry_delay), ..error }, code }
    }

    /// No answer at all.
    pub(crate) fn not_reached(backend: &BackendName, operation: Operation, failure: &NotReached) -> Self {
        let NotReached { kind, cause, .. } = failure;
        tracing::warn!(%backend, %operation, %kind, cause, "store not reached");
        BackendError::new(*kind, backend, operation).into()
    }

    /// Whether the token is no good any more, or may not be: a 401 without a code that is known does not say.
    pub(crate) fn is_of_token(&self) -> bool {
        let unsaid = || self.error.code == Some(401);
        self.code.map_or_else(unsaid, |code| code == status::UNAUTHENTICATED)
    }

    /// Whether the token is good, and does not allow what was asked.
    pub(crate) fn is_of_rights(&self) -> bool {
        self.code == Some(status::PERMISSION_DENIED) && self.error.kind == ErrorKind::Denied
    }

    /// Whether it shows that the store is reached, knows the broker and answers.
    pub(crate) fn is_of_a_healthy_store(&self) -> bool {
        self.is_of_rights() || (self.code.is_some() && self.error.kind == ErrorKind::NotFound)
    }
}

/// Something that was known without asking, or the failure of the login that a call needed.
impl From<BackendError> for Refusal {
    fn from(error: BackendError) -> Self {
        Self { error, code: None }
    }
}

/// What a refusal says, as far as it is understood.
#[derive(Default)]
struct Said {
    code: Option<String>,
    reason: Option<String>,
    retry_delay: Option<Duration>,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Body {
            error: Status,
        }
        #[derive(Deserialize)]
        struct Status {
            status: Option<String>,
            #[serde(default)]
            details: Vec<Detail>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Detail {
            reason: Option<String>,
            retry_delay: Option<String>,
        }
        let Ok(Body { error }) = serde_json::from_slice(body) else { return Self::default() };
        let retry_delay = error.details.iter().find_map(|detail| seconds(detail.retry_delay.as_deref()?));
        let reason = error.details.into_iter().find_map(|detail| detail.reason);
        Self { code: error.status, reason, retry_delay }
    }
}

/// A duration as JSON has it, `3.5s`, in whole seconds, the next above.
fn seconds(text: &str) -> Option<Duration> {
    let text = text.strip_suffix('s')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let more = u64::from(fraction.bytes().any(|digit| digit != b'0'));
    Some(backend::retry_after(whole)? + Duration::from_secs(more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_rounded_up_and_bounded() {
        let read = |text| seconds(text).map(|duration| duration.as_secs());
        assert_eq!(read("3s"), Some(3));
        assert_eq!(read("3.000s"), Some(3));
        assert_eq!(read("0.25s"), Some(1));
        assert_eq!(read("999999999s"), Some(3600));
        for bad in ["", "3", "s", "-1s", "1m", ".5s"] {
            assert_eq!(read(bad), None, "`{bad}`");
        }
    }
}
