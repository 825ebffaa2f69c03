//! What every call on the socket passes through: is the caller who it was, is the call one of ours, who answers it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bursar_proto::v1::SecretsWatchRequest;
use bursar_proto::{REQUEST_ID_METADATA_KEY, Reason, limits};
use http::{Request, Response};
use prost::Message;
use tokio_stream::Stream;
use tonic::Status;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::service::Routes;
use tonic_prost::ProstCodec;
use tower::{Service, ServiceExt, service_fn};

use super::admit::admit;
use super::forward::forward;
use super::routes::{self, Route, To};
use crate::answer::{Answers, Call, refuse};
use crate::telemetry::Metrics;
use crate::upstream::Upstream;

/// Answers what is called on the socket.
#[derive(Debug)]
pub struct Front {
    pub answers: Arc<Answers>,
    pub upstream: Arc<Upstream>,
    pub health: Routes,
    /// For the broker, to begin its answer to what is passed on.
    pub deadline: Duration,
    pub metrics: Metrics,
}

/// The service on the socket.
#[derive(Debug, Clone)]
pub struct Served(pub Arc<Front>);

impl Service<Request<Body>> for Served {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let front = Arc::clone(&self.0);
        Box::pin(async move { Ok(front.receive(request).await) })
    }
}

impl Front {
    async fn receive(&self, mut request: Request<Body>) -> Response<Body> {
        let Some(route) = routes::find(request.uri().path()) else {
            return Status::unimplemented("there is no such method").into_http();
        };
        let call = match route.to {
            To::Nobody => Err(nobodys()),
            _ => admit(&mut request),
        };
        match call {
            Ok(call) => {
                let request_id = call.request_id().clone();
                let mut response = self.dispatch(route, call, request).await;
                if let Ok(mut request_id) = http::HeaderValue::from_bytes(request_id.as_bytes()) {
                    // It never comes again, so it is not to take a place in the connection's table of headers.
                    request_id.set_sensitive(true);
                    response.headers_mut().insert(REQUEST_ID_METADATA_KEY, request_id);
                }
                response
            }
            Err(status) => {
                self.metrics.call(route.path, "nobody");
                tracing::warn!(method = route.path, reason = ?Reason::of(&status), "a call was refused");
                status.into_http()
            }
        }
    }

    /// All but reads lie apart, so that a read, of which there are many, does not carry the room that the others need.
    #[tracing::instrument(level = "debug", skip_all, fields(method = route.path, request_id = ?call.request_id()))]
    async fn dispatch(&self, route: Route, call: Call, request: Request<Body>) -> Response<Body> {
        self.metrics.call(route.path, route.to.as_str());
        let answers = Arc::clone(&self.answers);
        match route.to {
            To::Read => unary(request, |message| async move { answers.read(&call, message).await }).await,
            To::BatchRead => {
                let answer = |message| async move { answers.batch_read(&call, message).await };
                Box::pin(unary(request, answer)).await
            }
            To::Resolve => {
                let answer = |message| async move { answers.resolve(&call, message).await };
                Box::pin(unary(request, answer)).await
            }
            To::Renew => {
                let answer = |message| async move { answers.renew(&call, message).await };
                Box::pin(unary(request, answer)).await
            }
            To::Revoke => {
                let answer = |message| async move { answers.revoke(&call, message).await };
                Box::pin(unary(request, answer)).await
            }
            To::Watch => {
                let answer = |SecretsWatchRequest { after: _ }| answers.watch(&call);
                Box::pin(stream(request, answer)).await
            }
            To::Broker => match Box::pin(forward(&self.upstream, &call, self.deadline, request)).await {
                Ok(response) => response,
                Err(status) => status.into_http(),
            },
            To::Health => match self.health.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            To::Nobody => nobodys().into_http(),
        }
    }
}

fn nobodys() -> Status {
    let message =
        "this is between a broker and its nodes or administrators; call the broker with your own certificate";
    refuse(Reason::AccessDenied, message)
}

/// Reads the message of a call, has it answered and writes the answer.
async fn unary<M, R, F>(request: Request<Body>, answer: impl FnOnce(M) -> F) -> Response<Body>
where
    M: Message + Default + Send + 'static,
    R: Message + Send + 'static,
    F: Future<Output = Result<R, Status>>,
{
    let mut answer = Some(answer);
    let handler = service_fn(move |request: tonic::Request<M>| {
        let answer = answer.take().map(|answer| answer(request.into_inner()));
        async move {
            match answer {
                Some(answer) => answer.await.map(tonic::Response::new),
                // A call has one message.
                None => Err(Status::internal("the call has ended")),
            }
        }
    });
    grpc().unary(handler, request).await
}

/// Reads the message of a call, and writes what comes until it ends.
async fn stream<M, R, S>(request: Request<Body>, answer: impl FnOnce(M) -> S) -> Response<Body>
where
    M: Message + Default + Send + 'static,
    R: Message + Send + 'static,
    S: Stream<Item = Result<R, Status>> + Send + 'static,
{
    let mut answer = Some(answer);
    let handler = service_fn(move |request: tonic::Request<M>| {
        let answer = answer.take().map(|answer| answer(request.into_inner()));
        // A call has one message.
        std::future::ready(
            answer.map(tonic::Response::new).ok_or_else(|| Status::internal("the call has ended")),
        )
    });
    grpc().server_streaming(handler, request).await
}

fn grpc<M, R>() -> Grpc<ProstCodec<R, M>>
where
    M: Message + Default + Send + 'static,
    R: Message + Send + 'static,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(limits::MESSAGE)
        .max_encoding_message_size(limits::MESSAGE)
}
