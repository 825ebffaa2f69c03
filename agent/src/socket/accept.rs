//! Takes the connections of a socket, each with a place, and hands them on.
//!
//! Every socket of the agent begins here, so all are bounded alike: places are counted in all and for each user, and
//! whoever gets none is dropped rather than queued, since a caller can tell a closed connection from a slow one.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::tasks::Tasks;
use tokio::io::AsyncReadExt;
use tokio::net::unix::UCred;
use tokio::net::{UnixListener, UnixStream};

use crate::admission::{Admission, Place};
use crate::telemetry::Metrics;

/// Accepts connections.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: UnixListener,
    admission: Arc<Admission>,
    metrics: Metrics,
    tasks: Tasks,
}

/// A connection that got a place.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: UnixStream,
    /// Whoever connected, by the kernel's word.
    pub(crate) peer: UCred,
    pub(crate) place: Place,
}

impl Acceptor {
    pub(crate) fn new(
        listener: UnixListener,
        admission: Arc<Admission>,
        metrics: Metrics,
        tasks: Tasks,
    ) -> Self {
        Self { listener, admission, metrics, tasks }
    }

    /// Accepts until the process stops, and does with each connection what `receive` says, many at a time.
    pub(crate) async fn accept<F>(self, receive: impl Fn(Accepted) -> F + Send)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.tasks.clone();
        tasks.until_stopping(self.accept_all(receive)).await;
    }

    async fn accept_all<F>(self, receive: impl Fn(Accepted) -> F + Send)
    where
        F: Future<Output = ()> + Send + 'static,
    {
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
            let peer = match stream.peer_cred() {
                Ok(peer) => peer,
                Err(error) => {
                    tracing::warn!(%error, "the kernel does not say who connected");
                    self.metrics.connection("unattested");
                    continue;
                }
            };
            let Some(place) = self.admission.admit(peer.uid()) else {
                tracing::warn!(uid = peer.uid(), "there is no place for another connection");
                self.metrics.connection("full");
                continue;
            };
            drop(self.tasks.finish(receive(Accepted { stream, peer, place })));
        }
    }
}

/// Waits for the words that every HTTP/2 connection begins with. Answers whether they came.
pub(super) async fn begins_http2(stream: &mut UnixStream) -> bool {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await.is_ok() && preface == *PREFACE
}

/// RFC 9113, section 3.4.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A connection that is no more by then than it was has lost its place: attestation and first words together.
pub(crate) const BEGIN_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
