//! Connections: TLS 1.3 to a broker, a Unix socket to an agent.
//!
//! The connector is written here, not left to tonic's TLS support, for three reasons: tonic's `Identity` copies the
//! private key into buffers that nobody wipes; it would accept TLS 1.2; and it reports every failure as one kind of
//! error, while a person needs to know whether nobody listens, the name is wrong or a certificate has expired. What
//! fails here stays a [`ConnectError`] inside tonic's errors, where [`ConnectError::within`] finds it again.

mod error;
mod tls;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

pub use error::ConnectError;
pub use tls::{Identity, Tls};

use crate::address::{Address, Place};

/// Connects. `tls` is needed for an `https` address and has no meaning for a socket, whose permissions say who may use
/// it.
///
/// A connection that breaks later is made anew by the next call on the channel.
///
/// # Errors
/// [`ConnectError`].
pub async fn channel(address: &Address, tls: Option<&Tls>) -> Result<Channel, ConnectError> {
    let target = Target::new(address, tls)?;
    let endpoint = target.endpoint();
    let connected = endpoint.connect_with_connector(service_fn(move |_: Uri| target.clone().connect())).await;
    connected.map_err(|error| ConnectError::within(&error).unwrap_or_else(|| ConnectError::broken(&error)))
}

/// As [`channel`], but connects when the first call is made, which then fails if that does.
///
/// Has to be called inside a tokio runtime.
///
/// # Errors
/// [`ConnectError`], when `tls` cannot be used.
pub fn channel_lazy(address: &Address, tls: Option<&Tls>) -> Result<Channel, ConnectError> {
    let target = Target::new(address, tls)?;
    Ok(target.endpoint().connect_with_connector_lazy(service_fn(move |_: Uri| target.clone().connect())))
}

/// Everything that making one connection after another needs.
#[derive(Clone)]
enum Target {
    Https { host: Arc<str>, port: u16, tls: TlsConnector, name: ServerName<'static> },
    Unix { path: Arc<Path> },
}

impl Target {
    fn new(address: &Address, tls: Option<&Tls>) -> Result<Self, ConnectError> {
        let (host, port) = match &address.0 {
            Place::Https { host, port } => (host, *port),
            Place::Unix { path } => return Ok(Self::Unix { path: Arc::from(path.as_path()) }),
        };
        let tls = tls.ok_or(ConnectError::NoAuthority)?;
        let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name.clone()).map_err(|_| ConnectError::ServerName { name })?;
        let tls = TlsConnector::from(Arc::new(tls.client_config()?));
        Ok(Self::Https { host: Arc::from(host.as_str()), port, tls, name })
    }

    fn endpoint(&self) -> Endpoint {
        // tonic refuses an `https` target without TLS of its own. So the target, which nothing but the connector sees,
        // is plain, and the origin, which the server sees, says what is true.
        let origin = match self {
            Self::Https { .. } => Uri::from_static("https://bursar"),
            Self::Unix { .. } => Uri::from_static("http://bursar"),
        };
        Endpoint::from_static("http://bursar")
            .origin(origin)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_LIMIT)
            .keep_alive_while_idle(true)
    }

    async fn connect(self) -> Result<TokioIo<Box<dyn Stream>>, ConnectError> {
        let connected = tokio::time::timeout(CONNECT_LIMIT, self.open()).await;
        connected.map_err(|_| ConnectError::TimedOut { limit: CONNECT_LIMIT })?.map(TokioIo::new)
    }

    async fn open(self) -> Result<Box<dyn Stream>, ConnectError> {
        match self {
            Self::Https { host, port, tls, name } => {
                let stream = tcp(&host, port).await?;
                let stream = tls.connect(name, stream).await.map_err(ConnectError::of_tls)?;
                Ok(Box::new(accepted(stream).await?))
            }
            Self::Unix { path } => {
                let stream = UnixStream::connect(&path).await;
                Ok(Box::new(stream.map_err(|error| ConnectError::of_socket(&path, error))?))
            }
        }
    }
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let addresses = tokio::net::lookup_host((host, port)).await;
    let addresses = addresses
        .map_err(|source| ConnectError::Unresolved { host: host.to_owned(), source: Arc::new(source) })?;
    let addresses: Vec<_> = addresses.collect();
    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(ConnectError::of_io)?;
    // Small requests must not wait for an acknowledgement of the one before.
    stream.set_nodelay(true).map_err(ConnectError::of_io)?;
    Ok(stream)
}

/// Waits for the server's first word, its settings (RFC 9113, section 3.4), or for its refusal of the client's
/// certificate. In TLS 1.3 the client is done before the server has looked at that certificate: requests that were sent
/// at once would break with the connection, often without the alert that says why. A server that wants to hear the
/// client first is let have its way after a while.
async fn accepted(mut stream: TlsStream<TcpStream>) -> Result<TlsStream<TcpStream>, ConnectError> {
    match tokio::time::timeout(FIRST_WORD, stream.fill_buf()).await {
        Ok(Err(error)) => return Err(ConnectError::of_tls(error)),
        Ok(Ok([])) => return Err(ConnectError::Broken { cause: "the server hung up".to_owned() }),
        Ok(Ok(_)) | Err(_) => {}
    }
    Ok(stream)
}

/// What gRPC runs over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// For name resolution, connection and TLS together.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// For a server's settings, which it sends unasked. Well below [`CONNECT_LIMIT`].
const FIRST_WORD: Duration = Duration::from_secs(2);
/// A peer that vanished without a word is noticed after both together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
