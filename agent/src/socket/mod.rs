//! The Unix socket: local callers in, answers out.
//!
//! A connection is attested when it is accepted, and carries who was attested with every call; each call checks that the
//! process still runs, and may bring a token that speaks for it. Beyond that a caller is a stranger: places are counted in all and for each user, a connection that
//! does not begin to speak HTTP/2 soon loses its place, one that stops answering pings loses it too, and messages,
//! headers and calls under way are bounded.

mod accept;
mod admit;
mod bind;
mod connection;
mod forward;
mod front;
mod routes;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::tasks::Tasks;
use http::{Request, Response};
use tokio::net::UnixListener;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tower::Service;

pub(crate) use accept::{Accepted, Acceptor};
pub(crate) use admit::Admitted;
pub use bind::{Bound, SocketError, bind};
pub(crate) use connection::of_user;
pub use front::{Front, Served};

use crate::admission::Admission;
use crate::attest::Attestor;
use crate::config::Limits;
use crate::telemetry::Metrics;

/// Serves attested callers on `listener` with `front` until the process stops, and ends once they are done.
pub async fn serve<S>(
    listener: UnixListener,
    attestor: Arc<Attestor>,
    front: S,
    admission: Arc<Admission>,
    limits: Limits,
    metrics: Metrics,
    tasks: Tasks,
) -> Result<(), tonic::transport::Error>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let acceptor = Acceptor::new(listener, admission, metrics.clone(), tasks.clone());
    let connections = connection::of_anybody(acceptor, attestor, &metrics, &tasks);
    server(limits)
        .serve_with_incoming_shutdown(front, ReceiverStream::new(connections), async move {
            tasks.stopping().await;
        })
        .await
}

/// A server that is not held up by callers who stop for good, and takes no more of each than `limits` says.
pub(crate) fn server(limits: Limits) -> Server {
    Server::builder()
        .max_concurrent_streams(limits.streams)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_LIMIT))
}

/// gRPC's health service, answered by the agent for itself.
pub fn health_routes(
    health: tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>,
) -> Routes {
    Routes::new(health)
}

/// In bytes. Callers send a handful of short headers, and a token of at most 16 KiB.
const MAX_HEADERS: u32 = 32 * 1024;
/// A caller that has stopped for good is noticed after both together.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(10);
