//! One HTTP call: no repetition, and no words of who answers in its errors.

use std::time::Duration;

use bursar_backend_http::{NotReached, whole};
use bursar_core::BackendName;
use bursar_core::backend::{self, BackendError, Operation};
use bursar_core::secret::Gathered;
use http::header::RETRY_AFTER;
use reqwest::RequestBuilder;

/// What was answered.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Gathered,
}

/// Sends a call and reads the answer whole.
///
/// # Errors
/// There is none, or it is too long. The log says why.
pub(crate) async fn exchange(
    backend: &BackendName,
    operation: Operation,
    call: RequestBuilder,
) -> Result<Reply, BackendError> {
    let not_reached = |failure: NotReached| {
        let NotReached { kind, cause, .. } = failure;
        tracing::warn!(%backend, %operation, %kind, cause, "store not reached");
        BackendError::new(kind, backend, operation)
    };
    let mut response = call.send().await.map_err(|error| not_reached(error.into()))?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|header| header.to_str().ok());
    let retry_after = retry_after.and_then(backend::retry_after);
    let body = whole(&mut response, LONGEST_BODY).await.map_err(|unread| not_reached(unread.into()))?;
    Ok(Reply { status, retry_after, body })
}

/// The longest answers are a value of 25 KiB, escaped, and a page of 25 secrets with 15 tags each.
const LONGEST_BODY: usize = 1024 * 1024;
