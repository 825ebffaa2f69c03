//! The HTTPS port: one secret for one `GET`, for those who speak no gRPC and bring a token, such as the External Secrets
//! Operator's webhook provider.
//!
//! It translates and does nothing else. A request becomes `Secrets.Read` and goes through the very layer and service that
//! calls by gRPC go through, so rates, tokens, policy, leases and records are theirs; [`request`] reads what is asked,
//! [`reply`] says what came of it. A second way past policy would be one too many.
//!
//! The port for health and metrics was no place for it: that one is without TLS.

mod reply;
mod request;

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use bursar_core::tasks::Tasks;
use bursar_proto::v1::secrets_client::SecretsClient;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::mpsc;
use tonic::transport::server::Connected;

use crate::api::{Identified, Services};
use crate::server::{Connection, Handshake};

/// Serves `connections` by `calls`, until the process stops.
pub async fn serve(
    mut connections: mpsc::Receiver<io::Result<Connection>>,
    calls: Identified<Services>,
    tasks: Tasks,
) {
    let secrets = SecretsClient::new(calls);
    let accept = async {
        while let Some(connection) = connections.recv().await {
            let Ok(connection) = connection else { continue };
            drop(tasks.finish(converse(connection, secrets.clone(), tasks.clone())));
        }
    };
    tasks.until_stopping(accept).await;
}

/// Answers the requests of one connection, one after the other.
async fn converse(connection: Connection, secrets: SecretsClient<Identified<Services>>, tasks: Tasks) {
    let handshake = connection.connect_info();
    let service = service_fn(move |request: Request<Incoming>| {
        let (secrets, handshake) = (secrets.clone(), handshake.clone());
        async move { Ok::<_, Infallible>(answer(request, handshake, secrets).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEADERS).max_headers(64);
    let conversation = http.serve_connection(TokioIo::new(connection), service);
    let ended = tasks.see_out(conversation, LIFE, http1::Connection::graceful_shutdown, LAST).await;
    if let Some(Err(error)) = ended {
        // A client that went away, or was too slow. What it sent is not in the error.
        tracing::debug!(%error, "a connection by HTTPS ended early");
    }
}

async fn answer(
    request: Request<Incoming>,
    handshake: Handshake,
    mut secrets: SecretsClient<Identified<Services>>,
) -> Response<Body> {
    // A body is read by nobody.
    let (mut parts, _) = request.into_parts();
    let (wanted, encoding) = match request::read(&parts) {
        Ok(read) => read,
        Err(fault) => return fault.into_response(),
    };
    let mut call = tonic::Request::new(wanted);
    request::pass_on(&mut parts.headers, call.metadata_mut());
    call.extensions_mut().insert(handshake);
    match secrets.read(call).await {
        Ok(read) => reply::given(read, encoding),
        Err(status) => reply::refused(&status),
    }
}

/// The reference that a request asks for, for those who try what can be done to its parser.
///
/// # Errors
/// The status that it is answered with.
#[cfg(feature = "testing")]
pub fn reference(parts: &http::request::Parts) -> Result<bursar_core::Reference, u16> {
    let (wanted, _) = request::read(parts).map_err(|fault| fault.into_response().status().as_u16())?;
    bursar_core::Reference::parse(&wanted.reference).map_err(|_| 0)
}

/// For the next request to begin and its headers to be there.
const IDLE: Duration = Duration::from_secs(15);
/// Then a connection takes no further request.
const LIFE: Duration = Duration::from_secs(600);
/// For the request that was under way.
const LAST: Duration = Duration::from_secs(60);
/// In bytes. A token has at most 16 KiB, a reference 4 KiB before it is escaped.
const MAX_HEADERS: usize = 32 * 1024;
