//! Many leases revoked by one order: from the order until the last lease is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use bursar_sdk::Client;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{SECRETS, connect, figure};
use crate::bursar::{Bursar, FOLDER, Grants, Reader, revoke};
use crate::cpu;
use crate::histogram::Histogram;
use crate::load::{Caller, Plan, median};
use crate::openbao::Tokens;
use crate::report::Figure;

pub(super) struct Revoked {
    seconds: f64,
    cpu_seconds: f64,
    /// Of reads meanwhile, one at a time on each connection, in a revocation of its own.
    read_p99: Duration,
}

pub(super) async fn of_bursar(bursar: &Bursar, plan: &Plan) -> Result<Revoked> {
    let clients = connect(bursar).await?;
    let (mut seconds, mut cpu_seconds) = (Vec::new(), Vec::new());
    for round in 0..plan.repeats {
        let count = grant(&clients, plan, round).await?;
        let before = cpu::time(bursar.pid())?;
        let taken = revoke(&clients, FOLDER, count).await?;
        seconds.push(taken.as_secs_f64());
        cpu_seconds.push(cpu::time(bursar.pid())?.saturating_sub(before).as_secs_f64());
    }
    let count = grant(&clients, plan, plan.repeats).await?;
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for (number, client) in clients.iter().enumerate() {
        readers.spawn(read_until(Reader::new(client, number, SECRETS), Arc::clone(&done)));
    }
    let revoked = revoke(&clients, FOLDER, count).await;
    done.store(true, Ordering::Relaxed);
    let mut latencies = Histogram::new();
    while let Some(read) = readers.join_next().await {
        latencies.add(&read??);
    }
    revoked?;
    Ok(Revoked {
        seconds: median(seconds),
        cpu_seconds: median(cpu_seconds),
        read_p99: latencies.percentile(99),
    })
}

/// Seconds that OpenBao takes for fewer leases, and how many.
pub(super) fn of_openbao(runtime: &Runtime, tokens: &Tokens, plan: &Plan) -> Result<(f64, usize)> {
    let made = runtime.block_on(tokens.make(plan.peer_revoked, None))?;
    Ok((tokens.revoke_all()?.as_secs_f64(), made.len()))
}

pub(super) fn figures(bursar: &Revoked, (openbao, count): &(f64, usize)) -> Vec<Figure> {
    let note = format!(
        "OpenBao: {count} leases of tokens, by `sys/leases/revoke-prefix`, not waiting for its answer"
    );
    vec![
        figure("revoke_prefix_100k.s", "s", bursar.seconds).beside_smaller_openbao(*openbao, &note),
        figure("revoke_prefix_100k.cpu_s", "s", bursar.cpu_seconds),
        figure("revoke_prefix_100k.read_p99_ms", "ms", bursar.read_p99.as_secs_f64() * 1e3)
            .noted("of reads meanwhile, by 8 connections, one at a time on each"),
    ]
}

/// Leases that no round before had. Answers how many.
async fn grant(clients: &[Client], plan: &Plan, round: usize) -> Result<usize> {
    // The leases of `renew` are there too, once.
    let grants = Grants::of(plan.revoked, (round + 1) * plan.revoked);
    grants.make(clients).await?;
    Ok(grants.leases())
}

async fn read_until(mut reader: Reader, done: Arc<AtomicBool>) -> Result<Histogram> {
    let mut latencies = Histogram::new();
    while !done.load(Ordering::Relaxed) {
        let sent = Instant::now();
        reader.call().await?;
        latencies.record(sent.elapsed());
    }
    Ok(latencies)
}
