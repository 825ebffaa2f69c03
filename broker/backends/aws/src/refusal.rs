//! What went wrong with a call, in names and numbers.
//!
//! An error of the SDK holds the whole response, and its message is what the service wrote: it ends here. The log gets
//! codes that are known beforehand, and of what is below HTTP the last cause, which speaks of sockets and certificates.

use std::error::Error;

use aws_sdk_secretsmanager::error::SdkError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use bursar_backend_http::{Unread, is_certificate_refused};
use bursar_core::BackendName;
use bursar_core::backend::{self, BackendError, ErrorKind, Operation, causes};

use crate::status::{self, Meaning};

/// A call that was not answered.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: BackendError,
    /// What AWS's code means, where it gave one that is known.
    pub(crate) meaning: Option<Meaning>,
}

impl Refusal {
    /// Whether the broker's credentials are no good any more, or may not be: a refusal without a code that is known does
    /// not say. Whoever is wrong about it has read the credentials once more.
    pub(crate) fn is_of_login(&self) -> bool {
        let unsaid = || matches!(self.error.code, Some(401 | 403));
        self.meaning.map_or_else(unsaid, |meaning| meaning.of_login)
    }

    /// Whether the credentials are good, and do not allow what was asked.
    pub(crate) fn is_of_rights(&self) -> bool {
        self.meaning.is_some_and(|meaning| meaning.kind == ErrorKind::Denied && !meaning.of_login)
    }

    /// Whether it shows that the store is reached, knows the broker and answers.
    pub(crate) fn is_of_a_healthy_store(&self) -> bool {
        self.is_of_rights() || self.meaning.is_some_and(|meaning| meaning.kind == ErrorKind::NotFound)
    }

    /// No answer in time.
    pub(crate) fn timeout(backend: &BackendName, operation: Operation) -> Self {
        Self { error: BackendError::new(ErrorKind::Timeout, backend, operation), meaning: None }
    }

    /// What the SDK says.
    pub(crate) fn of<E>(backend: &BackendName, operation: Operation, error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let answered = |response: &HttpResponse, meaning: Option<Meaning>, kind| {
            let retry_after = response.headers().get("retry-after").and_then(backend::retry_after);
            let code = response.status().as_u16();
            let known = meaning.map(|meaning| meaning.code);
            // Who asks for what is not there is told so, and nobody else has to know.
            match kind {
                ErrorKind::NotFound => tracing::debug!(%backend, %operation, code = known, "store has none"),
                _ => {
                    tracing::warn!(%backend, %operation, %kind, status = code, code = known, "store refused");
                }
            }
            let error = BackendError::new(kind, backend, operation).with_code(code);
            Self { error: BackendError { retry_after, ..error }, meaning }
        };
        let unanswered = |kind, cause: &dyn Error| {
            tracing::warn!(%backend, %operation, %kind, %cause, "store not reached");
            Self { error: BackendError::new(kind, backend, operation), meaning: None }
        };
        match error {
            SdkError::ServiceError(refused) => {
                let meaning = refused.err().code().and_then(status::of_code);
                let status = refused.raw().status().as_u16();
                let kind = meaning.map_or_else(|| status::of_status(status), |meaning| meaning.kind);
                answered(refused.raw(), meaning, kind)
            }
            SdkError::ResponseError(unread) => {
                let kind = status::of_status(unread.raw().status().as_u16());
                answered(unread.raw(), None, kind)
            }
            SdkError::TimeoutError(_) => Self::timeout(backend, operation),
            SdkError::DispatchFailure(failure) => {
                let Some(error) = failure.as_connector_error() else {
                    return unanswered(ErrorKind::Unavailable, &Unsaid);
                };
                if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref::<BackendError>()) {
                    // The login that the call needed.
                    return Self { error: error.clone(), meaning: None };
                }
                let last = causes(error).last().unwrap_or(error);
                unanswered(below_http(error, failure.is_timeout()), last)
            }
            // A request that cannot be made: an endpoint or a region that is none.
            _ => unanswered(ErrorKind::Misconfigured, &Unsaid),
        }
    }
}

/// What kept a request from being answered at all.
fn below_http(error: &(dyn Error + 'static), timeout: bool) -> ErrorKind {
    match () {
        () if timeout => ErrorKind::Timeout,
        () if causes(error).any(is_too_long) => ErrorKind::Malformed,
        () if is_certificate_refused(error) => ErrorKind::Misconfigured,
        () => ErrorKind::Unavailable,
    }
}

fn is_too_long(cause: &(dyn Error + 'static)) -> bool {
    matches!(cause.downcast_ref(), Some(Unread::TooLong))
}

/// A cause that would quote what it is about.
#[derive(Debug, thiserror::Error)]
#[error("the request cannot be made as it is configured")]
struct Unsaid;
