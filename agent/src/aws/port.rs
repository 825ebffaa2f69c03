//! The listener: from a connection to a caller with a place that speaks HTTP/1.1, and no longer than it may.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bursar_core::Explained;
use bursar_core::tasks::Tasks;
use http::{Request, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::caller::{Caller, Ends};
use super::front::Front;
use crate::admission::Admission;

/// Where programs connect.
#[derive(Debug)]
pub struct Port(TcpListener);

impl Port {
    /// Listens on `address`, which is one of this machine itself. What it sends crosses no router.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn bind(address: SocketAddr) -> Result<Self, PortError> {
        let fault = |source| PortError { address, source };
        let listener = TcpListener::bind(address).await.map_err(fault)?;
        if address.is_ipv4() {
            rustix::net::sockopt::set_ip_ttl(&listener, 1).map_err(|error| fault(error.into()))?;
        } else {
            let hops = Some(1);
            rustix::net::sockopt::set_ipv6_unicast_hops(&listener, hops)
                .map_err(|error| fault(error.into()))?;
        }
        Ok(Self(listener))
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// That of the system call.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves callers until the process stops.
    pub async fn serve(self, front: Front, admission: Arc<Admission>, tasks: Tasks) {
        let front = Arc::new(front);
        let accept = async {
            loop {
                match self.0.accept().await {
                    Ok((stream, peer)) => receive(stream, peer, &front, &admission, &tasks),
                    Err(error) => {
                        // Out of file descriptors, most likely: go on once some connection has ended.
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        tasks.until_stopping::<()>(accept).await;
    }
}

fn receive(
    stream: TcpStream,
    peer: SocketAddr,
    front: &Arc<Front>,
    admission: &Arc<Admission>,
    tasks: &Tasks,
) {
    let metrics = &front.metrics;
    let Ok(local) = stream.local_addr() else { return metrics.connection("unattested") };
    let ends = Ends { peer, local };
    let held = match ends.ask_kernel() {
        Ok(held) => held,
        Err(error) => {
            let error = Explained(&error);
            tracing::warn!(%error, "it is not known whose a connection is");
            return metrics.connection("unattested");
        }
    };
    let Some(place) = admission.admit(held.uid) else {
        tracing::warn!(uid = held.uid, "there is no place for another connection");
        metrics.connection("full");
        return turn_away(stream);
    };
    metrics.connection("served");
    let caller = Arc::new(Caller::new(ends, held, place, Arc::clone(&front.attestor)));
    drop(tasks.finish(serve(stream, caller, Arc::clone(front), tasks.clone())));
}

async fn serve(stream: TcpStream, caller: Arc<Caller>, front: Arc<Front>, tasks: Tasks) {
    front.metrics.open_connections.inc();
    let service = service_fn(|request: Request<Incoming>| {
        let (front, caller) = (Arc::clone(&front), Arc::clone(&caller));
        async move { Ok::<_, Infallible>(front.receive(&caller, request.map(Body::new)).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEADERS).max_headers(64);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    let ended = tasks.see_out(connection, LIFE, http1::Connection::graceful_shutdown, LAST).await;
    if let Some(Err(error)) = ended {
        // A caller that went away, or was too slow. What it sent is not in the error.
        tracing::debug!(%error, "a connection ended early");
    }
    front.metrics.open_connections.dec();
}

/// Answers without reading: a few bytes always fit, and nobody is waited for.
fn turn_away(stream: TcpStream) {
    let body = r#"{"__type":"ThrottlingException","message":"Connection limit exceeded"}"#;
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\n{}: {}\r\n{}: close\r\n\r\n{body}",
        header::CONTENT_LENGTH,
        body.len(),
        header::CONNECTION
    );
    // Whoever has gone already needs no answer.
    drop(stream.into_std().and_then(|mut stream| stream.write_all(answer.as_bytes())));
}

/// Why the port cannot be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on `{address}` for programs made for AWS; another process may, such as AWS's own agent"
)]
pub struct PortError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

const PAUSE: Duration = Duration::from_millis(100);
/// For the next request to begin and its headers to be there.
const IDLE: Duration = Duration::from_secs(15);
/// Then a connection takes no further request.
const LIFE: Duration = Duration::from_secs(600);
/// For the request that was under way. The longest that AWS's agent allows.
const LAST: Duration = Duration::from_secs(61);
/// In bytes. A token has at most 16 KiB, the id of a secret 2 KiB before it is escaped.
const MAX_HEADERS: usize = 32 * 1024;
