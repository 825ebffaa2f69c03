//! From a connection to a caller that speaks HTTP/2: one that is attested, or one of a user that may.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bursar_core::Explained;
use bursar_core::tasks::Tasks;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tonic::transport::server::Connected;

use super::accept::{Accepted, Acceptor, BEGIN_WITHIN, PREFACE, begins_http2};
use crate::admission::Place;
use crate::attest::{AttestError, Attestor, Peer, Workload};
use crate::telemetry::Metrics;

/// Connections that are ready for calls, each with what is known of the caller.
pub(crate) type Connections<C> = mpsc::Receiver<io::Result<Connection<C>>>;

/// Takes callers whoever they are, and attests each.
pub(super) fn of_anybody(
    acceptor: Acceptor,
    attestor: Arc<Attestor>,
    metrics: &Metrics,
    tasks: &Tasks,
) -> Connections<Arc<Workload>> {
    ready(acceptor, metrics, tasks, move |accepted| attest(accepted, Arc::clone(&attestor)))
}

/// Takes callers of the user `uid`, and root.
pub(crate) fn of_user(uid: u32, acceptor: Acceptor, metrics: &Metrics, tasks: &Tasks) -> Connections<()> {
    ready(acceptor, metrics, tasks, move |accepted: Accepted| {
        let peer = accepted.peer.uid();
        let may = peer == 0 || peer == uid;
        std::future::ready(if may { Ok((accepted, ())) } else { Err(Unready::NotAllowed { uid: peer }) })
    })
}

/// Has every caller looked at by `look`, waits for its first words then, and lets it come out of the receiver.
fn ready<C, F>(
    acceptor: Acceptor,
    metrics: &Metrics,
    tasks: &Tasks,
    look: impl Fn(Accepted) -> F + Send + 'static,
) -> Connections<C>
where
    C: Send + 'static,
    F: Future<Output = Result<(Accepted, C), Unready>> + Send + 'static,
{
    let (ready, connections) = mpsc::channel(BACKLOG);
    let metrics = metrics.clone();
    let receive = move |accepted: Accepted| {
        let (pid, metrics, ready) = (accepted.peer.pid(), metrics.clone(), ready.clone());
        let looked = look(accepted);
        async move {
            let begun = async { begin(looked.await?).await };
            match tokio::time::timeout(BEGIN_WITHIN, begun).await.unwrap_or(Err(Unready::Silent)) {
                Ok((stream, caller, place)) => {
                    metrics.connection("served");
                    let connection = Connection::new(stream, caller, place, metrics);
                    // The server is gone only when the process stops.
                    drop(ready.send(Ok(connection)).await);
                }
                Err(unready) => unready.tell(pid, &metrics),
            }
        }
    };
    tasks.run("accept", acceptor.accept(receive));
    connections
}

/// While the process that connected is likeliest to be there: before its first words.
async fn attest(accepted: Accepted, attestor: Arc<Attestor>) -> Result<(Accepted, Arc<Workload>), Unready> {
    let peer = Peer::of(&accepted.stream).map_err(Unready::Unattested)?;
    let turn = accepted.place.turn().await.ok_or(Unready::Silent)?;
    let attested = tokio::task::spawn_blocking(move || {
        // Held until the reading has really ended, also when nobody waits for it any more.
        let _turn = turn;
        attestor.attest(peer)
    });
    let workload = attested.await.map_err(|_| Unready::Silent)?.map_err(Unready::Unattested)?;
    Ok((accepted, Arc::new(workload)))
}

async fn begin<C>((accepted, caller): (Accepted, C)) -> Result<(UnixStream, C, Place), Unready> {
    let Accepted { mut stream, peer: _, place } = accepted;
    if begins_http2(&mut stream).await { Ok((stream, caller, place)) } else { Err(Unready::Silent) }
}

/// Why a connection is not served.
enum Unready {
    Unattested(AttestError),
    NotAllowed { uid: u32 },
    Silent,
}

impl Unready {
    fn tell(self, pid: Option<i32>, metrics: &Metrics) {
        match self {
            Self::Unattested(error) => {
                metrics.connection("unattested");
                tracing::warn!(error = %Explained(&error), "a caller could not be attested");
            }
            Self::NotAllowed { uid } => {
                metrics.connection("not_allowed");
                tracing::warn!(uid, "a caller is not of the users that this socket is for");
            }
            Self::Silent => {
                metrics.connection("silent");
                tracing::info!(pid, "a caller did not begin to speak HTTP/2");
            }
        }
    }
}

/// A connection that is served. It gives its place back when it ends.
#[derive(Debug)]
pub(crate) struct Connection<C> {
    /// What of the preface the server has not read again yet.
    preface: &'static [u8],
    stream: UnixStream,
    caller: C,
    _place: Place,
    metrics: Metrics,
}

impl<C> Connection<C> {
    fn new(stream: UnixStream, caller: C, place: Place, metrics: Metrics) -> Self {
        metrics.open_connections.inc();
        Self { preface: PREFACE, stream, caller, _place: place, metrics }
    }
}

impl<C> Drop for Connection<C> {
    fn drop(&mut self) {
        self.metrics.open_connections.dec();
    }
}

impl<C: Clone + Send + Sync + 'static> Connected for Connection<C> {
    type ConnectInfo = C;

    fn connect_info(&self) -> C {
        self.caller.clone()
    }
}

impl<C: Unpin> AsyncRead for Connection<C> {
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

impl<C: Unpin> AsyncWrite for Connection<C> {
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

const BACKLOG: usize = 64;
