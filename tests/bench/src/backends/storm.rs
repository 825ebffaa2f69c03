//! How many calls a store gets when very many ask at once: one for a cold secret, however many want it; one for each
//! secret when all agents come back after a restart.

use anyhow::{Context, Result, ensure};
use bursar_proto::v1::{SecretsReadRequest, SecretsWatchRequest, SecretsWatchResponse};
use bursar_sdk::Client;
use bursar_tests::{OpenBao, Signal};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Streaming;

use super::figure;
use crate::bursar::{Bursar, Programs};
use crate::load::Plan;
use crate::report::Figure;

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(super) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    eprintln!("bench: {}: {} callers of one secret", super::GROUP, plan.callers);
    let bao = OpenBao::start()?;
    bao.enable_kv("kv")?;
    for number in 0..SECRETS {
        bao.api("POST", &format!("kv/data/{number}"), &json!({ "data": { "p": "not a secret" } }))?;
    }
    let backend = bao.backend(BACKEND, POLICY, "{ kv = 'kv-v2' }")?;
    let limits = format!("calls_per_second = {CALLS_PER_SECOND}\nmax_stale = '1h'\n");
    let sections = format!("{backend}{limits}[limits]\nconnections = {}\n", plan.agents + 1000);
    let mut bursar = Bursar::start_with(programs, &sections)?;
    let cold = runtime.block_on(cold(&bursar, plan.callers))?;

    eprintln!("bench: {}: {} agents after a restart", super::GROUP, plan.agents);
    bursar.restart(Signal::TERM)?;
    let begun = Instant::now();
    let reconnect = runtime.block_on(reconnect(&bursar, plan.agents))?;
    let note = format!(
        "{} agents, each with a certificate, a connection and a stream of events of its own, read {EACH} of {SECRETS} \
         secrets within {:.0} s; budget {CALLS_PER_SECOND} calls/s",
        plan.agents,
        begun.elapsed().as_secs_f64()
    );
    Ok(vec![
        figure("cold_storm.store_calls", "calls", cold)
            .beside_bare(1.0)
            .noted(&format!("{} callers, each with a certificate of its own", plan.callers)),
        figure("reconnect.store_calls", "calls", reconnect).beside_bare(SECRETS as f64).noted(&note),
    ])
}

/// All of `callers` ask for one secret that nobody has asked for before.
async fn cold(bursar: &Bursar, callers: usize) -> Result<f64> {
    bursar.admit_everybody_to(BACKEND).await?;
    let mut clients = Vec::new();
    for number in 0..callers {
        clients.push(bursar.connect_as(&format!("caller-{number}")).await?);
    }
    let before = bursar.reads_of(BACKEND)?;
    let mut reads = JoinSet::new();
    for client in clients {
        reads.spawn(async move { read(&client, 0).await });
    }
    while let Some(read) = reads.join_next().await {
        read??;
    }
    Ok(bursar.reads_of(BACKEND)? - before)
}

/// All of `agents` connect, listen and read, [`AT_A_TIME`] of them at any moment; each stays until the last is done.
async fn reconnect(bursar: &Bursar, agents: usize) -> Result<f64> {
    let (mut begun, mut held) = (JoinSet::new(), Vec::new());
    for number in 0..agents {
        if begun.len() == AT_A_TIME {
            held.push(begun.join_next().await.context("none begun")???);
        }
        // Signed here, one after the other, as they would be by the clients' own machines.
        let client = bursar.connect_as(&format!("agent-{number}")).await?;
        begun.spawn(come_back(client, number));
    }
    while let Some(agent) = begun.join_next().await {
        held.push(agent??);
    }
    ensure!(held.len() == agents, "{} of {agents} agents came back", held.len());
    bursar.reads_of(BACKEND)
}

async fn come_back(client: Client, number: usize) -> Result<(Client, Streaming<SecretsWatchResponse>)> {
    let events = client.secrets().watch(SecretsWatchRequest::default()).await?.into_inner();
    for secret in 0..EACH {
        read(&client, (number * EACH + secret) % SECRETS).await?;
    }
    Ok((client, events))
}

async fn read(client: &Client, secret: usize) -> Result<()> {
    let reference = format!("{BACKEND}/kv/{secret}#p");
    let answer =
        client.secrets().read(SecretsReadRequest { reference, ..SecretsReadRequest::default() }).await?;
    ensure!(!answer.into_inner().value.is_empty(), "no value was read");
    Ok(())
}

const BACKEND: &str = "vault";
const SECRETS: usize = 100;
/// Secrets that each agent holds.
const EACH: usize = 3;
const AT_A_TIME: usize = 256;
const CALLS_PER_SECOND: u32 = 50;
const POLICY: &str = r#"path "kv/data/*" { capabilities = ["read"] }"#;
