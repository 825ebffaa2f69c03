//! An empty `POST` to a server on this machine.

use std::net::SocketAddr;

use http::{Method, Request, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::HookError;

/// Sends it, and looks at nothing of the answer but its status.
pub(super) async fn post(address: SocketAddr, uri: &Uri) -> Result<(), HookError> {
    fn unreachable<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        address: SocketAddr,
    ) -> impl Fn(E) -> HookError {
        move |source| HookError::Unreachable { address, source: source.into() }
    }
    let stream = TcpStream::connect(address).await.map_err(unreachable(address))?;
    let begun = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = begun.map_err(unreachable(address))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .header(header::CONTENT_LENGTH, "0")
        .body(String::new())
        .map_err(unreachable(address))?;
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            // What was read of the answer before the end still counts.
            Ok(()) => answer.await,
            Err(error) => Err(error),
        },
    };
    let status = answer.map_err(unreachable(address))?.status();
    if status.is_success() { Ok(()) } else { Err(HookError::Refused { status }) }
}
