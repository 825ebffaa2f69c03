//! The gRPC port: connections in, calls out.
//!
//! A connection costs a place among `limits.connections` from its first byte, and its address a part of its rate: one
//! that comes too often is closed before it costs a handshake. The handshake has a deadline, and so have the first words
//! after it, so one that says nothing gives its place back. What the handshake established travels with every call of the
//! connection.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bursar_core::tasks::Tasks;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::identity::Trust;
use crate::identity::peer::{CertificateFault, Presented};
use crate::pace::Pace;

/// Accepts connections and shakes hands with them.
#[derive(Debug)]
pub struct Listener {
    pub tcp: TcpListener,
    pub tls: Arc<rustls::ServerConfig>,
    pub trust: Arc<Trust>,
    pub pace: Arc<Pace>,
    pub connections: usize,
    /// How much a caller says at first, in bytes. What listens by itself for how long that takes is told so by 0.
    pub preface: usize,
}

/// What the handshake established, for every call of the connection.
#[derive(Debug, Clone)]
pub struct Handshake {
    pub address: SocketAddr,
    /// Nobody, when no certificate was presented.
    pub peer: Option<Result<Arc<Presented>, CertificateFault>>,
}

impl Listener {
    /// Accepts until the process stops. Connections that shook hands come out of the receiver.
    pub fn accept(self, tasks: &Tasks) -> mpsc::Receiver<io::Result<Connection>> {
        let (ready, connections) = mpsc::channel(ACCEPT_BACKLOG);
        let (stop, spawner) = (tasks.clone(), tasks.clone());
        tasks.run("accept", async move {
            stop.until_stopping(self.accept_all(&spawner, ready)).await;
        });
        connections
    }

    async fn accept_all(self, tasks: &Tasks, ready: mpsc::Sender<io::Result<Connection>>) {
        let places = Arc::new(Semaphore::new(self.connections));
        let acceptor = TlsAcceptor::from(self.tls);
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (stream, address) = match self.tcp.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: go on once some connection has ended.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if !self.pace.admits(address.ip()) {
                continue;
            }
            let (acceptor, ready, trust) = (acceptor.clone(), ready.clone(), Arc::clone(&self.trust));
            let preface = self.preface;
            drop(tasks.finish(async move {
                match tokio::time::timeout(HANDSHAKE, shake_hands(&acceptor, stream, address, &trust)).await {
                    Ok(Ok((stream, handshake))) => {
                        let begins = Begins::within(preface);
                        let connection = Connection { stream, handshake, begins, _place: place };
                        // The server is gone only when the process stops.
                        drop(ready.send(Ok(connection)).await);
                    }
                    Ok(Err(error)) => tracing::info!(peer = %address, %error, "a TLS handshake failed"),
                    Err(_) => tracing::info!(peer = %address, "a TLS handshake took too long"),
                }
            }));
        }
    }
}

async fn shake_hands(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    trust: &Trust,
) -> io::Result<(TlsStream<TcpStream>, Handshake)> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
    let peer = chain.map(|chain| trust.present(chain, address).map(Arc::new));
    Ok((stream, Handshake { address, peer }))
}

/// A connection whose handshake is done. It gives its place back when it ends.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    handshake: Handshake,
    begins: Option<Begins>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Handshake;

    fn connect_info(&self) -> Handshake {
        self.handshake.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some(begins) = &mut self.begins else { return read };
        begins.left = begins.left.saturating_sub(buf.filled().len() - before);
        if begins.left == 0 {
            self.begins = None;
        } else if read.is_pending() && begins.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

/// What is left of a caller's first words, and until when they are waited for. HTTP/2 listens for them without an end, and
/// only after them for an answer to its pings.
#[derive(Debug)]
struct Begins {
    left: usize,
    end: Pin<Box<Sleep>>,
}

impl Begins {
    fn within(preface: usize) -> Option<Self> {
        (preface > 0).then(|| Self { left: preface, end: Box::pin(tokio::time::sleep(FIRST_WORDS)) })
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

const ACCEPT_BACKLOG: usize = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const HANDSHAKE: Duration = Duration::from_secs(5);
/// After the handshake.
const FIRST_WORDS: Duration = Duration::from_secs(10);
/// How long the first words of HTTP/2 are: RFC 9113, section 3.4.
pub const HTTP2: usize = 24;
