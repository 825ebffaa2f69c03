//! Reads that the agent answers from its memory, by its socket: beside a bare echo at the same kind of socket, and
//! beside `bao proxy`, with a secret that it keeps and with one that it passes on.

use anyhow::Result;
use bursar_sdk::Client;
use tokio::runtime::Runtime;

use super::{GROUP, figure};
use crate::bursar::{Bursar, Programs, Reader};
use crate::echo::Echo;
use crate::load::{Figures, Plan, Side, complete};
use crate::node::Node;
use crate::openbao::{Kept, Proxy};
use crate::report::{Figure, shown};

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(super) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    eprintln!("bench: {GROUP}: a bare echo, `bao proxy` and the socket, in turn");
    let (echo, proxy, bursar) = (Echo::start_local()?, Proxy::start()?, Bursar::start(programs)?);
    runtime.block_on(bursar.fill(plan.secrets))?;
    let node = Node::start(runtime, &bursar, programs, &[], "")?;
    let (bare, agent, kept, passed_on) = runtime.block_on(async {
        let mut bare = Each::of(&echo, plan, echo.pid()).await?;
        let mut agent = Each::of(&node, plan, node.pid()).await?;
        // All are in its memory before the first is measured.
        let reader = Reader::sharing(&node.connect().await?, 0, plan.secrets);
        complete(vec![reader], plan.secrets).await?;
        let mut kept = Side::new(Vec::new(), proxy.pid());
        let mut passed_on = Side::new(Vec::new(), proxy.pid());
        for _ in 0..plan.rounds {
            bare.many.round(plan).await?;
            agent.many.round(plan).await?;
            bare.few.round(plan).await?;
            agent.few.round(plan).await?;
            kept.replace(proxy.readers(FEW.0, Kept::Yes).await?);
            kept.round(plan).await?;
            passed_on.replace(proxy.readers(FEW.0, Kept::No).await?);
            passed_on.round(plan).await?;
        }
        anyhow::Ok((bare.figures(), agent.figures(), kept.figures(), passed_on.figures()))
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

/// One server under each load.
struct Each<T> {
    many: T,
    few: T,
}

impl Each<Side<Reader>> {
    async fn of(server: &impl Local, plan: &Plan, pid: u32) -> Result<Self> {
        let side = async |(connections, streams): (usize, usize)| {
            let mut clients = Vec::new();
            for _ in 0..connections {
                clients.push(server.client().await?);
            }
            let clients = clients.iter().cycle().take(connections * streams).enumerate();
            let readers = clients.map(|(number, client)| Reader::sharing(client, number, plan.secrets));
            anyhow::Ok(Side::new(readers.collect(), pid))
        };
        Ok(Self { many: side(MANY).await?, few: side(FEW).await? })
    }

    fn figures(&self) -> Each<Figures> {
        Each { many: self.many.figures(), few: self.few.figures() }
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

/// Connections, and streams on each.
const MANY: (usize, usize) = (8, 32);
const FEW: (usize, usize) = (32, 1);
