//! The network between an agent and its broker: it carries what passes, or it swallows it.
//!
//! What is swallowed is read and thrown away, and nothing is closed, so that neither end learns of it. A connection that
//! was open at that moment is dead for good, also when the network carries again: behind a firewall that was started
//! anew, or an address that another machine has by now, it is never heard of again.

use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    Carries,
    /// Connections are made, and nothing that is sent over them arrives.
    Swallows,
    /// No connection is made either: whoever tries is not answered.
    Ignores,
}

/// A network on a port of its own, which carries at first.
pub(super) struct Relay {
    address: SocketAddr,
    network: watch::Sender<Network>,
    listener: Arc<TcpListener>,
    accepted: Arc<AtomicU64>,
    /// Connections that take up the room in which the kernel keeps those that nobody has accepted yet.
    waiting: Vec<StdStream>,
    _runtime: Runtime,
}

impl Relay {
    /// Before `server`.
    pub(super) fn before(server: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener =
            runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).context("no port for the relay")?;
        let (address, listener) = (listener.local_addr()?, Arc::new(listener));
        let (network, accepted) = (watch::Sender::new(Network::Carries), Arc::new(AtomicU64::new(0)));
        runtime.spawn(accept(Arc::clone(&listener), server, network.clone(), Arc::clone(&accepted)));
        Ok(Self { address, network, listener, accepted, waiting: Vec::new(), _runtime: runtime })
    }

    /// `https://HOST:PORT`
    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// How many connections were made so far.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// It is like this from now on.
    pub(super) fn turn(&mut self, network: Network) -> Result<()> {
        self.network.send_replace(network);
        let backlog = if network == Network::Ignores { 0 } else { BACKLOG };
        rustix::net::listen(&*self.listener, backlog)?;
        self.waiting.clear();
        if network == Network::Ignores {
            // The kernel answers nobody any more once its room is taken up.
            while let Ok(stream) = StdStream::connect_timeout(&self.address, UNANSWERED) {
                self.waiting.push(stream);
                ensure!(self.waiting.len() <= MOST, "the kernel goes on answering for nobody");
            }
        }
        Ok(())
    }
}

async fn accept(
    listener: Arc<TcpListener>,
    server: SocketAddr,
    network: watch::Sender<Network>,
    accepted: Arc<AtomicU64>,
) {
    let (mut now, mut connections) = (network.subscribe(), JoinSet::new());
    loop {
        if now.wait_for(|network| *network != Network::Ignores).await.is_err() {
            return;
        }
        let client = tokio::select! {
            client = listener.accept() => client,
            _ = now.changed() => continue,
        };
        let Ok((client, _)) = client else { continue };
        accepted.fetch_add(1, Ordering::Relaxed);
        connections.spawn(connect(client, server, network.subscribe()));
    }
}

async fn connect(client: TcpStream, server: SocketAddr, mut network: watch::Receiver<Network>) {
    if *network.borrow_and_update() != Network::Carries {
        // It may be closed by its client; nobody answers that.
        let _client = swallow(client).await;
        return std::future::pending().await;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(carry(from_client, to_server, network.clone()), carry(from_server, to_client, network));
}

/// Carries until the network does not, and swallows then for good. Both ends stay open for as long as the relay is there.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut network: watch::Receiver<Network>,
) {
    let mut bytes = [0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read,
            _ = network.wait_for(|network| *network != Network::Carries) => break,
        };
        let sent = match read.ok().and_then(|length| bytes.get(..length)) {
            Some(part) if !part.is_empty() => to.write_all(part).await,
            _ => return drop(to.shutdown().await),
        };
        if sent.is_err() {
            return;
        }
    }
    let _from = swallow(from).await;
    std::future::pending::<()>().await;
}

async fn swallow<R: AsyncRead + Unpin>(mut from: R) -> R {
    drop(tokio::io::copy(&mut from, &mut tokio::io::sink()).await);
    from
}

const BACKLOG: i32 = 128;
/// How long the kernel takes at most to answer over loopback, if it does.
const UNANSWERED: Duration = Duration::from_millis(300);
const MOST: usize = 8;
