//! Why a request came to nothing, as clients of Secrets Manager read it: `{"__type": …, "message": …}`, where the type is
//! what their libraries make an exception of. The table is in docs/aws-agent.md.

use std::time::Duration;

use axum::body::Body;
use bursar_proto::Reason;
use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;
use tonic::{Code, Status};

use crate::upstream::retry_after;

/// Why a request came to nothing. The message is for whoever asked.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) message: String,
    retry_after: Option<Duration>,
}

impl Fault {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), retry_after: None }
    }

    /// Something in the request is wrong, and the message names it.
    pub(super) fn parameter(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidParameterException", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ResourceNotFoundException", message)
    }

    /// Nobody knows who asks.
    pub(super) fn unknown_caller(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "UnrecognizedClientException", message)
    }

    /// How requests that end like this are counted.
    pub(super) fn outcome(&self) -> &'static str {
        if self.status.is_server_error() { "failed" } else { "refused" }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let body = json!({ "__type": self.kind, "message": self.message }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        let (http, kind) = match Reason::of(&status) {
            Some(
                Reason::SecretNotFound
                | Reason::FieldNotFound
                | Reason::VersionNotFound
                | Reason::BackendUnknown,
            ) => (StatusCode::BAD_REQUEST, "ResourceNotFoundException"),
            Some(Reason::AccessDenied | Reason::RegistrationMissing) => {
                (StatusCode::BAD_REQUEST, "AccessDeniedException")
            }
            Some(Reason::TokenExpired) => (StatusCode::FORBIDDEN, "ExpiredTokenException"),
            Some(Reason::Unauthenticated | Reason::TokenInvalid | Reason::IssuerUnknown) => {
                (StatusCode::FORBIDDEN, "UnrecognizedClientException")
            }
            Some(Reason::BackendSealed) => (StatusCode::BAD_REQUEST, "DecryptionFailure"),
            Some(Reason::ReferenceMalformed | Reason::RequestInvalid | Reason::RequestTooLarge) => {
                (StatusCode::BAD_REQUEST, "InvalidParameterException")
            }
            Some(Reason::RateLimited | Reason::QuotaExceeded | Reason::BackendThrottled) => {
                (StatusCode::TOO_MANY_REQUESTS, "ThrottlingException")
            }
            _ if status.code() == Code::DeadlineExceeded => {
                (StatusCode::GATEWAY_TIMEOUT, "InternalServiceError")
            }
            _ => (StatusCode::BAD_GATEWAY, "InternalServiceError"),
        };
        let retry_after = retry_after(&status);
        Self { status: http, kind, message: status.message().to_owned(), retry_after }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    #[tokio::test]
    async fn a_message_is_escaped() {
        let response = Fault::parameter("a \"quote\"\nand a line").into_response();
        let body = axum::body::to_bytes(response.into_body(), 1024).await.expect("body");
        let read: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(
            read,
            json!({ "__type": "InvalidParameterException", "message": "a \"quote\"\nand a line" })
        );
    }

    #[test]
    fn every_reason_is_something_that_a_client_knows() {
        let known = [
            "ResourceNotFoundException",
            "AccessDeniedException",
            "ExpiredTokenException",
            "UnrecognizedClientException",
            "DecryptionFailure",
            "InvalidParameterException",
            "ThrottlingException",
            "InternalServiceError",
        ];
        for reason in Reason::ALL {
            let status = Status::with_error_details(reason.code(), "words", reason.details(""));
            let fault = Fault::from(status);
            assert!(known.contains(&fault.kind) && fault.message == "words", "{reason:?}: {fault:?}");
            assert_eq!(
                fault.status.is_server_error(),
                fault.kind == "InternalServiceError",
                "{reason:?}: {fault:?}"
            );
        }
    }
}
