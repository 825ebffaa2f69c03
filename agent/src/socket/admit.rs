//! Who calls: what every call on a socket of the agent's is looked at for first, whoever answers it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bursar_proto::{Reason, WORKLOAD_CONTEXT_METADATA_KEY};
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::answer::{Call, refuse};
use crate::attest::{Bearer, Workload};

/// The context of a workload is the agent's to state: a caller that states one pretends to be an agent.
pub(super) fn admit(request: &mut Request<Body>) -> Result<Call, Status> {
    // Out of the call first of all, so that it reaches nothing else, whoever asks for what.
    let bearer = Bearer::take(request.headers_mut());
    if request.headers().contains_key(WORKLOAD_CONTEXT_METADATA_KEY) {
        let message = format!(
            "`{WORKLOAD_CONTEXT_METADATA_KEY}` is for agents to send; the agent attests its callers itself"
        );
        return Err(refuse(Reason::RequestInvalid, &message));
    }
    let caller = request.extensions().get::<Arc<Workload>>().filter(|caller| caller.is_alive());
    let gone =
        || refuse(Reason::Unauthenticated, "the process that opened this connection has ended; open another");
    let process = caller.ok_or_else(gone)?;
    let caller = match bearer.map_err(|fault| refuse(Reason::TokenInvalid, &fault.to_string()))? {
        None => Arc::clone(process),
        Some(bearer) => Arc::new(process.bearing(bearer)),
    };
    Ok(Call::new(caller, request.headers()))
}

/// Puts a [`Call`] into the extensions of every request for `S`, and refuses those that are nobody's.
#[derive(Debug, Clone)]
pub(crate) struct Admitted<S>(pub(crate) S);

impl<S> Service<Request<Body>> for Admitted<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match admit(&mut request) {
            Ok(call) => {
                request.extensions_mut().insert(call);
                Box::pin(self.0.call(request))
            }
            Err(status) => {
                tracing::warn!(reason = ?Reason::of(&status), "a call was refused");
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}
