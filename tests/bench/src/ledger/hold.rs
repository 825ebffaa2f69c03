//! A million live leases: what they cost a broker that restarts, that has been used a little, and that is asked for
//! lists.

use std::time::Duration;

use anyhow::{Context, Result};
use bursar_proto::v1::LeasesListRequest;
use bursar_sdk::Client;
use bursar_tests::Signal;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::{CONNECTIONS, SECRETS, connect, figure};
use crate::bursar::{Bursar, Grants, Programs, Reader, principal};
use crate::load::{Caller, Plan, median};
use crate::openbao::Tokens;
use crate::report::Figure;
use crate::{cpu, memory};

pub(super) struct Held {
    /// The longest of the restarts, by SIGKILL and by SIGTERM.
    restart: Duration,
    /// Until it was ready.
    restart_cpu: Duration,
    memory: Memory,
    empty: Memory,
    /// The worst of the lists, each by its median.
    list_ms: f64,
}

/// Resident, in MiB.
struct Memory {
    restarted: f64,
    used: f64,
}

pub(super) struct PeerHeld {
    count: usize,
    restart: Duration,
    /// Until all leases were restored.
    restart_cpu: Duration,
    memory: f64,
    list: Duration,
}

pub(super) fn of_bursar(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Held> {
    let mut bursar = Bursar::start(programs)?;
    runtime.block_on(async {
        bursar.fill(SECRETS).await?;
        bursar.admit_workloads().await
    })?;
    bursar.restart(Signal::TERM)?;
    let empty = used(runtime, &bursar)?;

    let middle = runtime.block_on(grant(&bursar, plan))?;
    let (mut restarts, mut cpu_times, mut memory) = (Vec::new(), Vec::new(), None);
    for _ in 0..plan.repeats {
        for signal in [Signal::KILL, Signal::TERM] {
            restarts.push(bursar.restart(signal)?);
            cpu_times.push(cpu::time(bursar.pid())?);
            let now = used(runtime, &bursar)?;
            memory = memory.into_iter().chain([now]).max_by(|one, other| one.used.total_cmp(&other.used));
        }
    }
    Ok(Held {
        restart: restarts.into_iter().max().unwrap_or_default(),
        restart_cpu: cpu_times.into_iter().max().unwrap_or_default(),
        memory: memory.context("there was no restart")?,
        empty,
        list_ms: runtime.block_on(list(&bursar, &middle, plan))?,
    })
}

pub(super) fn of_openbao(runtime: &Runtime, tokens: &mut Tokens, plan: &Plan) -> Result<PeerHeld> {
    let (most, time) = plan.peer_held;
    runtime.block_on(tokens.make(most, Some(time)))?;
    let (count, list) = tokens.list()?;
    let (restart, restart_cpu) = tokens.restart()?;
    Ok(PeerHeld { count, restart, restart_cpu, memory: tokens.memory()?, list })
}

pub(super) fn figures(bursar: &Held, openbao: &PeerHeld, openbao_empty: f64) -> Vec<Figure> {
    let count = openbao.count;
    let seconds = |time: Duration| time.as_secs_f64();
    let added =
        |memory: &Memory, empty: &Memory| (memory.used - empty.used).max(memory.restarted - empty.restarted);
    let serving = format!(
        "OpenBao: {count} leases; it answers requests while it restores them, so their number costs it processor time \
         and memory and not time without service"
    );
    let of_fewer = format!("OpenBao: {count} leases");
    vec![
        figure("restart_1m.s", "s", seconds(bursar.restart))
            .beside_smaller_openbao(seconds(openbao.restart), &serving),
        figure("restart_1m.cpu_s", "s", seconds(bursar.restart_cpu)).beside_smaller_openbao(
            seconds(openbao.restart_cpu),
            &format!("{of_fewer}, until all are restored"),
        ),
        figure("memory_1m.mib", "MiB", bursar.memory.used)
            .beside_bare(bursar.empty.used)
            .beside_smaller_openbao(
                openbao.memory,
                &format!("{of_fewer}; without leases {openbao_empty:.0}"),
            ),
        figure("memory_1m.added_mib", "MiB", added(&bursar.memory, &bursar.empty))
            .beside_smaller_openbao(openbao.memory - openbao_empty, &of_fewer),
        figure("list_page_1m.ms", "ms", bursar.list_ms).beside_smaller_openbao(
            openbao.list.as_secs_f64() * 1e3,
            &format!("{of_fewer}, all in one answer: it has no pages"),
        ),
    ]
}

/// Grants the leases: first those of a workload that holds few and of one that holds more than the broker would sort for
/// a page, so that theirs are the oldest; then those of some that hold many. Answers the id of a lease in the middle.
async fn grant(bursar: &Bursar, plan: &Plan) -> Result<String> {
    let part = |part: usize| plan.held * part / 1000;
    Grants::of(part(1), 0).make(&[bursar.connect_as(FEW).await?]).await?;
    Grants::of(part(12), 0).make(&[bursar.connect_as(SOME).await?]).await?;
    let mut clients = Vec::new();
    for number in 0..CONNECTIONS {
        clients.push(bursar.connect_as(&many(number)).await?);
    }
    let granted = Grants::of(part(987), 0).make(&clients).await?;
    let middle = granted.get(granted.len() / 2).and_then(|ids| ids.first());
    middle.cloned().context("no lease was granted")
}

/// The memory of a broker that was just restarted, then after some reads and lists.
fn used(runtime: &Runtime, bursar: &Bursar) -> Result<Memory> {
    let restarted = memory::resident(bursar.pid())?;
    runtime.block_on(async {
        for (number, client) in connect(bursar).await?.iter().enumerate() {
            let mut reader = Reader::new(client, number, SECRETS);
            for _ in 0..READS {
                reader.call().await?;
            }
            page(client, &Page::default()).await?;
        }
        anyhow::Ok(())
    })?;
    Ok(Memory { restarted, used: memory::resident(bursar.pid())? })
}

/// The first page and one from the middle, of all leases and of those of one principal. Milliseconds of the slowest.
async fn list(bursar: &Bursar, middle: &str, plan: &Plan) -> Result<f64> {
    let client = bursar.connect().await?;
    let mut worst = 0.0_f64;
    for workload in [None, Some(FEW.to_owned()), Some(SOME.to_owned()), Some(many(0))] {
        // A page begins below the lease that its token names.
        for token in ["", middle] {
            let principal = workload.as_deref().map(principal).unwrap_or_default();
            let page_of = Page { principal, token: token.to_owned() };
            let mut times = Vec::new();
            for _ in 0..plan.repeats * PAGES {
                let start = Instant::now();
                page(&client, &page_of).await?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            worst = worst.max(median(times));
        }
    }
    Ok(worst)
}

#[derive(Default)]
struct Page {
    principal: String,
    token: String,
}

async fn page(client: &Client, page: &Page) -> Result<()> {
    let request = LeasesListRequest {
        principal: page.principal.clone(),
        page_token: page.token.clone(),
        ..LeasesListRequest::default()
    };
    client.leases().list(request).await.context("`Leases.List` failed")?;
    Ok(())
}

fn many(number: usize) -> String {
    format!("many-{number}")
}

const FEW: &str = "few";
const SOME: &str = "some";
/// Reads on each connection.
const READS: usize = 200;
/// How often each page is asked for, a repeat.
const PAGES: usize = 10;
