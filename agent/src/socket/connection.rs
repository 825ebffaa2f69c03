//! From a connection to an attested caller that speaks HTTP/2.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bursar_core::tasks::Tasks;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tonic::transport::server::Connected;

use crate::admission::{Admission, Place};
use crate::attest::{AttestError, Attestor, Peer, Workload};
use crate::telemetry::Metrics;

/// Accepts connections.
pub(super) struct Acceptor {
    pub(super) listener: UnixListener,
    pub(super) attestor: Arc<Attestor>,
    pub(super) admission: Arc<Admission>,
    pub(super) metrics: Metrics,
    pub(super) tasks: Tasks,
}

impl Acceptor {
    /// Accepts until the process stops. Connections that are ready for calls come out of the receiver.
    pub(super) fn accept(self) -> mpsc::Receiver<io::Result<Connection>> {
        let (ready, connections) = mpsc::channel(BACKLOG);
        let tasks = self.tasks.clone();
        tasks.clone().run("accept", async move {
            tasks.until_stopping(self.accept_all(ready)).await;
        });
        connections
    }

    async fn accept_all(self, ready: mpsc::Sender<io::Result<Connection>>) {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: go on once some connection has ended.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let peer = match Peer::of(&stream) {
                Ok(peer) => peer,
                Err(error) => {
                    self.refuse("unattested", &error);
                    continue;
                }
            };
            let Some(place) = self.admission.admit(peer.uid) else {
                // Dropped rather than queued: a caller can tell a closed connection from a slow one, and try again.
                tracing::warn!(uid = peer.uid, "there is no place for another connection");
                self.metrics.connection("full");
                continue;
            };
            let (attestor, metrics, ready) =
                (Arc::clone(&self.attestor), self.metrics.clone(), ready.clone());
            drop(self.tasks.finish(async move {
                match tokio::time::timeout(LIMIT, receive(stream, peer, place, attestor)).await {
                    Ok(Ok((stream, workload, place))) => {
                        metrics.connection("served");
                        let connection = Connection::new(stream, workload, place, metrics);
                        // The server is gone only when the process stops.
                        drop(ready.send(Ok(connection)).await);
                    }
                    Ok(Err(Unready::Unattested(error))) => {
                        metrics.connection("unattested");
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "a caller could not be attested"
                        );
                    }
                    Ok(Err(Unready::Silent)) | Err(_) => {
                        metrics.connection("silent");
                        tracing::info!(pid = peer.pid, "a caller did not begin to speak HTTP/2");
                    }
                }
            }));
        }
    }

    fn refuse(&self, outcome: &'static str, error: &AttestError) {
        self.metrics.connection(outcome);
        tracing::warn!(error = error as &dyn std::error::Error, "a caller could not be attested");
    }
}

enum Unready {
    Unattested(AttestError),
    Silent,
}

/// Attests first, while the process that connected is likeliest to be there, and waits for its first words then.
async fn receive(
    mut stream: UnixStream,
    peer: Peer,
    place: Place,
    attestor: Arc<Attestor>,
) -> Result<(UnixStream, Workload, Place), Unready> {
    let turn = place.turn().await.ok_or(Unready::Silent)?;
    let attested = tokio::task::spawn_blocking(move || {
        // Held until the reading has really ended, also when nobody waits for it any more.
        let _turn = turn;
        attestor.attest(peer)
    });
    let workload = attested.await.map_err(|_| Unready::Silent)?.map_err(Unready::Unattested)?;
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await.map_err(|_| Unready::Silent)?;
    if preface == *PREFACE { Ok((stream, workload, place)) } else { Err(Unready::Silent) }
}

/// A connection of an attested caller. It gives its place back when it ends.
#[derive(Debug)]
pub(super) struct Connection {
    /// What of the preface the server has not read again yet.
    preface: &'static [u8],
    stream: UnixStream,
    workload: Arc<Workload>,
    _place: Place,
    metrics: Metrics,
}

impl Connection {
    fn new(stream: UnixStream, workload: Workload, place: Place, metrics: Metrics) -> Self {
        metrics.open_connections.inc();
        Self { preface: PREFACE, stream, workload: Arc::new(workload), _place: place, metrics }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.metrics.open_connections.dec();
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Workload>;

    fn connect_info(&self) -> Arc<Workload> {
        Arc::clone(&self.workload)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let fitting = self.preface.len().min(buf.remaining());
        if let Some((now, later)) = self.preface.split_at_checked(fitting).filter(|(now, _)| !now.is_empty())
        {
            buf.put_slice(now);
            self.preface = later;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
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

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const BACKLOG: usize = 64;
const PAUSE: Duration = Duration::from_millis(100);
/// For attestation and first words together.
const LIMIT: Duration = Duration::from_secs(5);
