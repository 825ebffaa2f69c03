//! Calls that the broker answers: passed on as they are, message by message, in both directions.
//!
//! Nothing of a message is read here, so what a later release adds passes too, and streams are streams; HTTP/2's flow
//! control bounds what is under way. Of the headers only those on a short list pass: the caller's own word on who it
//! is stays behind, and what was attested goes in its place; or its token, for which others vouch.

use std::time::Duration;

use bursar_proto::{REQUEST_ID_METADATA_KEY, Reason};
use http::{HeaderMap, Request, Response, Version};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tower::{Service, ServiceExt};

use crate::answer::{Call, refuse};
use crate::upstream::{Failure, Upstream};

/// Passes `request` on. The broker has `deadline` to begin its answer.
pub(super) async fn forward(
    upstream: &Upstream,
    call: &Call,
    deadline: Duration,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let away =
        || Status::unavailable("this node has not joined its broker yet, or its certificate has ended");
    let mut channel = upstream.channel().ok_or_else(away)?;
    let request = for_broker(call, request)?;
    let answer = async { channel.ready().await?.call(request).await };
    let answer = match tokio::time::timeout(deadline, answer).await {
        Ok(answer) => answer.map_err(|error| Failure::of(Status::from_error(error.into()))),
        Err(_) => return Err(upstream.late().into_status()),
    };
    upstream.note(answer.as_ref().err());
    answer.map_err(Failure::into_status)
}

fn for_broker(call: &Call, request: Request<Body>) -> Result<Request<Body>, Status> {
    let (parts, body) = request.into_parts();
    let mut headers = HeaderMap::with_capacity(PASSED.len() + 2);
    for name in PASSED {
        if let Some(value) = parts.headers.get(name) {
            headers.insert(name, value.clone());
        }
    }
    let mut metadata = MetadataMap::from_headers(headers);
    metadata.insert(REQUEST_ID_METADATA_KEY, call.request_id().clone());
    let introduced = call.caller.introduce(call.caller.context(), &mut metadata);
    introduced.map_err(|fault| refuse(Reason::Internal, &fault))?;
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = parts.uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = metadata.into_headers();
    Ok(request)
}

/// What of a caller's headers the broker gets to see. Beyond what gRPC itself needs: the trace.
const PASSED: [&str; 7] = [
    "content-type",
    "te",
    "grpc-timeout",
    "grpc-encoding",
    "grpc-accept-encoding",
    "traceparent",
    "tracestate",
];
