//! Reads that the agent answers from its memory, by its socket: beside a bare echo at the same kind of socket, and
//! beside `bao proxy`, with a secret that it keeps and with one that it passes on.

use anyhow::Result;
use bursar_sdk::Client;
use tokio::runtime::Runtime;

use super::{GROUP, figure};
use crate::bursar::{Bursar, Programs, Reader};
use crate::echo::Echo;
use crate::load::{Figures, Plan, complete, measure as load};
use crate::node::Node;
use crate::openbao::{Kept, Proxy};
use crate::report::{Figure, shown};

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(super) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    eprintln!("bench: {GROUP}: bare echo");
    let echo = Echo::start_local()?;
    let bare = runtime.block_on(async {
        let (many, few) = (clients(&echo, MANY.0).await?, clients(&echo, FEW.0).await?);
        Each::measured(&many, &few, plan, echo.pid()).await
    })?;
    drop(echo);

    eprintln!("bench: {GROUP}: `bao proxy`");
    let proxy = Proxy::start()?;
    let proxied =
        |kept| runtime.block_on(async { load(proxy.readers(FEW.0, kept).await?, plan, proxy.pid()).await });
    let (kept, passed_on) = (proxied(Kept::Yes)?, proxied(Kept::No)?);
    drop(proxy);

    eprintln!("bench: {GROUP}: the socket");
    let bursar = Bursar::start(programs)?;
    runtime.block_on(bursar.fill(plan.secrets))?;
    let node = Node::start(runtime, &bursar, programs, &[], "")?;
    let agent = runtime.block_on(async {
        let (many, few) = (clients(&node, MANY.0).await?, clients(&node, FEW.0).await?);
        // All are in its memory before the first is measured.
        complete(
            many.iter().take(1).map(|client| Reader::sharing(client, 0, plan.secrets)).collect(),
            plan.secrets,
        )
        .await?;
        Each::measured(&many, &few, plan, node.pid()).await
    })?;

    let part = |name: &str, unit, value: f64, bare: f64| {
        figure(&format!("socket.{name}"), unit, value).beside_bare(bare)
    };
    Ok(vec![
        figure("socket.8x32.rps", "req/s", agent.many.rps).against_bare(bare.many.rps),
        part("8x32.cpu_us", "us", agent.many.cpu_us, bare.many.cpu_us),
        part("8x32.p99_ms", "ms", agent.many.p99_ms, bare.many.p99_ms),
        part("32x1.rps", "req/s", agent.few.rps, bare.few.rps).beside_openbao(kept.rps).noted(&format!(
            "OpenBao: `bao proxy` with a leased secret that it keeps; with KV version 2, which it passes on: {}",
            shown(passed_on.rps)
        )),
        part("32x1.cpu_us", "us", agent.few.cpu_us, bare.few.cpu_us).beside_openbao(kept.cpu_us),
        part("32x1.p99_ms", "ms", agent.few.p99_ms, bare.few.p99_ms).beside_openbao(kept.p99_ms),
    ])
}

/// What one server does under each load.
struct Each {
    many: Figures,
    few: Figures,
}

impl Each {
    async fn measured(many: &[Client], few: &[Client], plan: &Plan, pid: u32) -> Result<Self> {
        let readers = |clients: &[Client], streams: usize| {
            let clients = clients.iter().cycle().take(clients.len() * streams).enumerate();
            clients.map(|(number, client)| Reader::sharing(client, number, plan.secrets)).collect()
        };
        Ok(Self {
            many: load(readers(many, MANY.1), plan, pid).await?,
            few: load(readers(few, FEW.1), plan, pid).await?,
        })
    }
}

/// Whoever serves at a socket.
trait Local {
    async fn client(&self) -> Result<Client>;
}

impl Local for Echo {
    async fn client(&self) -> Result<Client> {
        self.connect().await
    }
}

impl Local for Node {
    async fn client(&self) -> Result<Client> {
        self.connect().await
    }
}

async fn clients(server: &impl Local, count: usize) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(server.client().await?);
    }
    Ok(clients)
}

/// Connections, and streams on each.
const MANY: (usize, usize) = (8, 32);
const FEW: (usize, usize) = (32, 1);
