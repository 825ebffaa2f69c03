//! What is answered: `{"value": …}` with a text in any case, since the operator makes fractions of numbers; or
//! `{"error": {"reason", "message", "request_id"}}`, of which it shows the status alone.

use axum::body::Body;
use bursar_core::secret::json::{QUOTED, write_base64, write_text};
use bursar_proto::v1::SecretsReadResponse;
use bursar_proto::{REQUEST_ID_METADATA_KEY, Reason};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;
use tonic::codegen::Bytes;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use zeroize::Zeroizing;

use super::request::Encoding;

/// The answer with a value. Its buffer has its final size, and is wiped when it has been sent.
pub(super) fn given(read: tonic::Response<SecretsReadResponse>, encoding: Encoding) -> Response<Body> {
    let request_id = read.metadata().get(REQUEST_ID_METADATA_KEY).cloned();
    let mut read = read.into_inner();
    let value = read.take_value();
    let mut body = Zeroizing::new(Vec::with_capacity(AROUND + QUOTED * value.len()));
    body.extend_from_slice(b"{\"value\":");
    match (encoding, std::str::from_utf8(value.expose())) {
        (Encoding::Text, Ok(text)) => write_text(&mut body, text),
        (Encoding::Text, Err(_)) => {
            let message = "the value is no text; ask for it with `encoding=base64`";
            return error(StatusCode::BAD_REQUEST, Reason::RequestInvalid, message, "");
        }
        (Encoding::Base64, _) => write_base64(&mut body, value.expose()),
    }
    body.push(b'}');
    let mut response = respond(StatusCode::OK, Body::from(Bytes::from_owner(body)));
    if let Some(id) = request_id.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok()) {
        response.headers_mut().insert(REQUEST_ID_METADATA_KEY, id);
    }
    response
}

/// The answer to what was refused or failed.
pub(super) fn refused(status: &Status) -> Response<Body> {
    let reason = Reason::of(status).unwrap_or(Reason::Internal);
    let id = status.get_details_request_info().map(|info| info.request_id).unwrap_or_default();
    let mut response = error(status_of(reason), reason, status.message(), &id);
    let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    if let Some(after) = retry_after {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Only what is not in its store is not found: a backend that is misspelt is no secret that was deleted.
fn status_of(reason: Reason) -> StatusCode {
    match (reason, reason.code()) {
        (Reason::SecretNotFound | Reason::FieldNotFound | Reason::VersionNotFound, _) => {
            StatusCode::NOT_FOUND
        }
        (Reason::LedgerFull, _) => StatusCode::SERVICE_UNAVAILABLE,
        (_, Code::InvalidArgument | Code::NotFound) => StatusCode::BAD_REQUEST,
        (_, Code::Unauthenticated) => StatusCode::UNAUTHORIZED,
        (_, Code::PermissionDenied) => StatusCode::FORBIDDEN,
        (_, Code::ResourceExhausted) => StatusCode::TOO_MANY_REQUESTS,
        (_, Code::FailedPrecondition) => StatusCode::BAD_GATEWAY,
        (_, Code::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
        (_, Code::DeadlineExceeded) => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An error, in words for people and a reason for programs.
pub(super) fn error(status: StatusCode, reason: Reason, message: &str, request_id: &str) -> Response<Body> {
    let error = json!({ "reason": reason.as_str(), "message": message, "request_id": request_id });
    let mut response = respond(status, Body::from(json!({ "error": error }).to_string()));
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET"));
    }
    response
}

fn respond(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Room for what is around the value.
const AROUND: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    async fn read(response: Response<Body>) -> (u16, Value) {
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("body");
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    fn value(value: &[u8], encoding: Encoding) -> Response<Body> {
        let mut read = SecretsReadResponse::default();
        read.value = value.to_vec();
        given(tonic::Response::new(read), encoding)
    }

    #[tokio::test]
    async fn every_value_is_a_text() {
        for text in ["1.50", "{\"a\":\"\u{1}\"}", "\"\\\n", ""] {
            let answered = read(value(text.as_bytes(), Encoding::Text)).await;
            assert_eq!(answered, (200, json!({ "value": text })));
        }
        assert_eq!(read(value(b"\xff\x00", Encoding::Base64)).await, (200, json!({ "value": "/wA=" })));
        assert_eq!(read(value(b"", Encoding::Base64)).await, (200, json!({ "value": "" })));
        let (status, body) = read(value(b"\xff\x00", Encoding::Text)).await;
        assert_eq!((status, &body["error"]["reason"]), (400, &json!("REQUEST_INVALID")));
    }

    #[tokio::test]
    async fn only_what_a_store_does_not_have_is_not_found() {
        for reason in Reason::ALL {
            let status = Status::with_error_details(reason.code(), "words", reason.details("id-1"));
            let (code, body) = read(refused(&status)).await;
            let is_gone =
                matches!(reason, Reason::SecretNotFound | Reason::FieldNotFound | Reason::VersionNotFound);
            assert_eq!(code == 404, is_gone, "{reason:?}");
            let error = json!({ "reason": reason.as_str(), "message": "words", "request_id": "id-1" });
            assert_eq!(body, json!({ "error": error }));
        }
    }
}
