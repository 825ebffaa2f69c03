//! One call of a local caller.

use std::sync::Arc;
use std::time::Duration;

use bursar_proto::v1::WorkloadContext;
use bursar_proto::{REQUEST_ID_METADATA_KEY, Reason};
use http::HeaderMap;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};

use crate::attest::Workload;
use crate::upstream::Failure;

/// Who calls, and the names under which the call can be found again.
#[derive(Debug, Clone)]
pub struct Call {
    pub caller: Arc<Workload>,
    request_id: MetadataValue<Ascii>,
    /// The W3C trace that it belongs to.
    trace: Option<MetadataValue<Ascii>>,
    pub(super) good_for: Option<Duration>,
}

impl Call {
    /// Takes the request id of the caller where it is one, or makes one. The broker logs and records the call under it.
    pub fn new(caller: Arc<Workload>, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let given =
            text(REQUEST_ID_METADATA_KEY).filter(|id| is_request_id(id)).and_then(|id| id.parse().ok());
        let made = || MetadataValue::from(fastrand::u64(..));
        let trace = text(TRACE).filter(|trace| trace.len() <= MAX_TRACE).and_then(|trace| trace.parse().ok());
        Self { caller, request_id: given.unwrap_or_else(made), trace, good_for: None }
    }

    /// The same, of one who has what it asks for already and asks whether that changed. What the cache has is good for so
    /// long, unless word of a change came; and a broker that does not answer soon is not waited for where the cache has
    /// something that lasts.
    pub fn again(self, good_for: Duration) -> Self {
        Self { good_for: Some(good_for), ..self }
    }

    /// Whether what the cache has stands in for an answer that came to this. Where there was none, always; and for one who
    /// has it already, whom an error would tell nothing, also where the same call may be answered otherwise later.
    pub(super) fn outlasts(&self, failure: &Failure) -> bool {
        !failure.is_answer() || (self.good_for.is_some() && !failure.is_final())
    }

    /// The id under which the call is logged and recorded.
    pub fn request_id(&self) -> &MetadataValue<Ascii> {
        &self.request_id
    }

    /// `message` for the broker, on behalf of the caller.
    pub(super) fn request<M>(&self, message: M, context: &WorkloadContext) -> Result<Request<M>, Failure> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        let introduced = self.caller.introduce(context, metadata);
        introduced.map_err(|fault| Failure::Answered(super::refuse(Reason::RequestInvalid, &fault)))?;
        metadata.insert(REQUEST_ID_METADATA_KEY, self.request_id.clone());
        if let Some(trace) = &self.trace {
            metadata.insert(TRACE, trace.clone());
        }
        Ok(request)
    }
}

/// As the broker takes it: see [`REQUEST_ID_METADATA_KEY`].
fn is_request_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= 64 && text.bytes().all(allowed)
}

const TRACE: &str = "traceparent";
const MAX_TRACE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_broker_would_keep_is_a_request_id() {
        for good in ["a", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "a-b_c"] {
            assert!(is_request_id(good), "{good}");
        }
        for bad in ["", "a b", "a/b", "é", "x".repeat(65).as_str()] {
            assert!(!is_request_id(bad), "{bad}");
        }
    }
}
