//! What a store that hangs costs the readers of another: nothing, as they wait for nobody.

use std::time::Duration;

use anyhow::{Result, ensure};
use bursar_proto::v1::SecretsReadRequest;
use bursar_sdk::Client;
use bursar_tests::{OpenBao, Signal};
use rustix::process::{Pid, kill_process};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::figure;
use crate::bursar::{Bursar, Programs, Reader};
use crate::load::{Figures, Plan, measure as load};
use crate::report::Figure;

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(super) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    eprintln!("bench: {}: a store that hangs beside one that is read", super::GROUP);
    let bao = OpenBao::start()?;
    bao.enable_kv("kv")?;
    let bursar = Bursar::start_with(programs, &bao.backend(BACKEND, POLICY, "{ kv = 'kv-v2' }")?)?;
    let (before, during) = runtime.block_on(async {
        bursar.fill(plan.secrets).await?;
        bursar.admit_everybody_to(BACKEND).await?;
        let before = read(&bursar, plan, 0).await?;
        signal(&bao, Signal::STOP)?;
        let during = during(&bursar, plan).await;
        signal(&bao, Signal::CONT)?;
        anyhow::Ok((before, during?))
    })?;
    let note = format!(
        "bare: the same reads while that store is well; it hangs with {WAITING} callers before it, each of which asks again a \
         second after it was refused"
    );
    let named = |part: &str| format!("hung.{part}");
    Ok(vec![
        figure(&named("rps"), "req/s", during.rps).beside_bare(before.rps).noted(&note),
        figure(&named("p50_ms"), "ms", during.p50_ms).beside_bare(before.p50_ms),
        figure(&named("p99_ms"), "ms", during.p99_ms).beside_bare(before.p99_ms),
    ])
}

async fn during(bursar: &Bursar, plan: &Plan) -> Result<Figures> {
    let mut waiting = JoinSet::new();
    for number in 0..WAITING {
        waiting.spawn(wait_for_it(bursar.connect().await?, number));
    }
    let figures = read(bursar, plan, READERS).await?;
    ensure!(waiting.try_join_next().is_none(), "a caller of the store that hangs was answered");
    Ok(figures)
}

/// 8 readers, one request at a time on each. They are others each time, so that as many reads are the first of a secret.
async fn read(bursar: &Bursar, plan: &Plan, first: usize) -> Result<Figures> {
    let mut readers = Vec::new();
    for instance in first..first + READERS {
        readers.push(Reader::new(&bursar.connect().await?, instance, plan.secrets));
    }
    load(readers, plan, bursar.pid()).await
}

/// Asks as long as it is refused.
async fn wait_for_it(client: Client, number: usize) {
    loop {
        let reference = format!("{BACKEND}/kv/{number}#p");
        let request = SecretsReadRequest { reference, ..SecretsReadRequest::default() };
        if client.secrets().read(request).await.is_ok() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn signal(bao: &OpenBao, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(bao.pid())?);
    Ok(kill_process(pid.ok_or_else(|| anyhow::anyhow!("OpenBao has no process"))?, signal)?)
}

const BACKEND: &str = "vault";
const POLICY: &str = r#"path "kv/data/*" { capabilities = ["read"] }"#;
const READERS: usize = 8;
const WAITING: usize = 32;
const AGAIN: Duration = Duration::from_secs(1);
