//! Group `read`: secrets read one after the other, by many at once and by few.
//!
//! For the broker, each read is: the caller's certificate, policy, a lease granted or extended, and an audit record,
//! durable before the value is sent.

use anyhow::Result;
use bursar_sdk::Client;
use tokio::runtime::Runtime;

use crate::bursar::{Bursar, Programs, Reader};
use crate::echo::Echo;
use crate::load::{Figures, Plan, measure as load};
use crate::openbao::{CONNECTIONS as OPENBAO_CONNECTIONS, Compared, Peer, Setting};
use crate::report::Figure;

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(crate) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    eprintln!("bench: {GROUP}: bare echo");
    let echo = runtime.block_on(Each::of_echo(&Echo::start()?, plan))?;
    eprintln!("bench: {GROUP}: OpenBao, {}", Setting::AsItComes.name());
    let plain = runtime.block_on(Each::of_openbao(&Peer::start(Setting::AsItComes, plan.secrets)?, plan))?;
    eprintln!("bench: {GROUP}: OpenBao, {}", Setting::LargerHeap.name());
    let tuned = runtime.block_on(Each::of_openbao(&Peer::start(Setting::LargerHeap, plan.secrets)?, plan))?;
    eprintln!("bench: {GROUP}: Bursar");
    let bursar = runtime.block_on(Each::of_bursar(&Bursar::start(programs)?, plan))?;

    let figures = |name: &str, of: fn(&Each) -> &Figures| {
        let (echo, bursar) = (of(&echo), of(&bursar));
        let openbao = Compared { plain: of(&plain), tuned: of(&tuned) };
        let figure = |part: &str, unit, value: fn(&Figures) -> f64| {
            let figure = Figure::new(GROUP, format!("{GROUP}.{name}.{part}"), unit, value(bursar));
            openbao.beside(figure.beside_bare(value(echo)), value)
        };
        [
            figure("rps", "req/s", |figures| figures.rps),
            figure("cpu_us", "us", |figures| figures.cpu_us),
            figure("p50_ms", "ms", |figures| figures.p50_ms),
            figure("p99_ms", "ms", |figures| figures.p99_ms),
        ]
    };
    Ok([figures("8x32", |each| &each.many), figures("8x1", |each| &each.few)].concat())
}

/// What one server does under each load.
pub(crate) struct Each {
    /// 8 connections of 32 streams; 32 connections for OpenBao.
    pub(crate) many: Figures,
    /// 8 connections, one request at a time on each.
    pub(crate) few: Figures,
}

impl Each {
    async fn of_echo(echo: &Echo, plan: &Plan) -> Result<Self> {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(echo.connect().await?);
        }
        Self::of_clients(&clients, plan, echo.pid()).await
    }

    pub(crate) async fn of_bursar(bursar: &Bursar, plan: &Plan) -> Result<Self> {
        bursar.fill(plan.secrets).await?;
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(bursar.connect().await?);
        }
        Self::of_clients(&clients, plan, bursar.pid()).await
    }

    async fn of_clients(clients: &[Client], plan: &Plan, pid: u32) -> Result<Self> {
        let readers = |streams: usize| {
            let clients = clients.iter().cycle().take(clients.len() * streams);
            clients
                .enumerate()
                .map(|(instance, client)| Reader::new(client, instance, plan.secrets))
                .collect()
        };
        Ok(Self { many: load(readers(STREAMS), plan, pid).await?, few: load(readers(1), plan, pid).await? })
    }

    async fn of_openbao(peer: &Peer, plan: &Plan) -> Result<Self> {
        let mut readers = Vec::new();
        for number in 0..OPENBAO_CONNECTIONS {
            readers.push(peer.reader(number).await?);
        }
        let many = load(readers, plan, peer.pid()).await?;
        let mut readers = Vec::new();
        for number in 0..CONNECTIONS {
            readers.push(peer.reader(number).await?);
        }
        Ok(Self { many, few: load(readers, plan, peer.pid()).await? })
    }
}

pub(crate) const GROUP: &str = "read";
const CONNECTIONS: usize = 8;
const STREAMS: usize = 32;
