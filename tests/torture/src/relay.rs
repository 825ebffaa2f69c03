//! The way from the broker to OpenBao, on which the death of a broker is not seen.
//!
//! OpenBao gives a request up when its client hangs up, and then loses roles at PostgreSQL by itself: of 1,500 requests
//! that were broken off, without any broker, 14 left one that OpenBao knows nothing of (`docs/decisions/0012-lost-issuances.md`). That is
//! nothing that a broker could find, so here the store finishes what it began, as it does when a whole machine dies and
//! nobody closes the connection. For the broker this is the harder case: more is created after its end.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Carries connections to `store` until the runtime ends; answers where from.
///
/// # Errors
/// There is no free port.
pub(crate) fn start(runtime: &Runtime, store: SocketAddr) -> Result<SocketAddr> {
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).context("no port for the relay")?;
    let address = listener.local_addr()?;
    runtime.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((broker, _)) = listener.accept().await {
            connections.spawn(carry(broker, store));
        }
    });
    Ok(address)
}

async fn carry(mut broker: TcpStream, store: SocketAddr) {
    // A store that is not there closes the connection, as it would itself.
    let Ok(mut store) = TcpStream::connect(store).await else { return };
    let (mut from_broker, mut to_broker) = broker.split();
    let (mut from_store, mut to_store) = store.split();
    tokio::select! {
        _ = copy(&mut from_broker, &mut to_store) => {}
        _ = copy(&mut from_store, &mut to_broker) => {}
    }
    let mut answer = [0; 4096];
    while timeout(HELD, from_store.read(&mut answer))
        .await
        .is_ok_and(|read| read.is_ok_and(|bytes| bytes > 0))
    {}
}

/// So long after the last byte of the store, its connection is kept open for a broker that is gone.
const HELD: Duration = Duration::from_secs(20);
