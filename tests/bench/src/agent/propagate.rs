//! How soon a change is in a file: from the write of a secret to the moment when the files of an agent have it, while
//! very many others hold the same secret, hear of the change and read it again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use bursar_proto::v1::secrets_watch_response::Event;
use bursar_proto::v1::{SecretsReadRequest, SecretsWatchRequest};
use bursar_sdk::Client;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{GROUP, figure, revoke};
use crate::bursar::{Bursar, ENVIRONMENT_NAME, Programs, reference};
use crate::histogram::Histogram;
use crate::load::Plan;
use crate::node::Node;
use crate::report::Figure;

#[expect(clippy::print_stderr, reason = "whoever waits is told what for")]
pub(super) fn measure(runtime: &Runtime, programs: &Programs, plan: &Plan) -> Result<Vec<Figure>> {
    let (watchers, changes) = plan.changes;
    eprintln!("bench: {GROUP}: {changes} changes for {watchers} watchers");
    let limits = format!("[limits]\nconnections = {}\n", watchers + 1000);
    let bursar = Bursar::start_with(programs, &limits)?;
    runtime.block_on(bursar.fill(SECRETS))?;
    let memory = tempfile::Builder::new().prefix("bursar-bench-").tempdir_in("/dev/shm")?;
    let names: Vec<_> = (0..SETS).map(|number| format!("s{number:02}")).collect();
    let sets: String = names.iter().map(|name| set(memory.path(), name)).collect();
    let node = Node::start(runtime, &bursar, programs, &names, &sets)?;
    let files: Vec<_> = names.iter().map(|name| memory.path().join(name).join(FILE)).collect();
    runtime.block_on(async {
        let mut others = JoinSet::new();
        for number in 1..watchers {
            let client = bursar.connect_as(&format!("watcher-{number}")).await?;
            listen(&mut others, client).await?;
        }
        let administrator = bursar.connect().await?;
        let (mut taken, before) = (Histogram::new(), bursar.reads_of("local")?);
        for change in 0..changes {
            let value = format!("changed for the {change}th time and as long as one");
            let begun = Instant::now();
            bursar.rewrite(&administrator, &value).await?;
            arrive(&files, &value, begun, &mut taken).await?;
            // Everybody has heard and read by then, and no delivery is held back for having been made just before.
            sleep(PAUSE).await;
        }
        let calls = (bursar.reads_of("local")? - before) / changes as f64;
        let revoked = revoke::measure(&node, &administrator, changes).await?;
        ensure!(others.try_join_next().is_none(), "a watcher does not listen any more");
        drop(node);
        let milliseconds = |percent| taken.percentile(percent).as_secs_f64() * 1e3;
        Ok(vec![
            figure("propagate_p50.ms", "ms", milliseconds(50)),
            figure("propagate_p99.ms", "ms", milliseconds(99)).noted(&format!(
                "from the beginning of the write until the file has it; {changes} changes, {SETS} sets of files of one \
                 agent, {watchers} watchers in all"
            )),
            figure("revoke_p99.ms", "ms", revoked.percentile(99).as_secs_f64() * 1e3).noted(&format!(
                "from the beginning of a revocation until a program of the machine was told, after its agent had let go \
                 of the value; {changes} revocations, {watchers} watchers in all"
            )),
            figure("propagate.store_calls", "calls", calls).beside_bare(1.0).noted("for each change"),
        ])
    })
}

fn set(memory: &Path, name: &str) -> String {
    let directory = memory.join(name);
    format!(
        "[files.{name}]\ndirectory = '{}'\nenvironment = '{ENVIRONMENT_NAME}'\n[files.{name}.output.'{FILE}']\n\
         format = 'env'\n",
        directory.display()
    )
}

/// Reads the secret, and again whenever it hears that it has changed, as an agent does.
async fn listen(others: &mut JoinSet<Result<()>>, client: Client) -> Result<()> {
    let mut events = client.secrets().watch(SecretsWatchRequest::default()).await?.into_inner();
    read(&client).await?;
    others.spawn(async move {
        while let Some(event) = events.message().await? {
            if let Some(Event::VersionChanged(_)) = event.event {
                read(&client).await?;
            }
        }
        Ok(())
    });
    Ok(())
}

async fn read(client: &Client) -> Result<()> {
    let request = SecretsReadRequest { reference: reference(0), ..SecretsReadRequest::default() };
    client.secrets().read(request).await?;
    Ok(())
}

/// Waits until all files have `value`, and takes down when each did.
async fn arrive(files: &[PathBuf], value: &str, begun: Instant, taken: &mut Histogram) -> Result<()> {
    let all = async {
        let mut without: Vec<_> = files.iter().collect();
        while !without.is_empty() {
            without.retain(|file| {
                let has_it = fs::read_to_string(file).is_ok_and(|text| text.contains(value));
                if has_it {
                    taken.record(begun.elapsed());
                }
                !has_it
            });
            sleep(LOOK).await;
        }
    };
    timeout(LONGEST, all).await.map_err(|_| anyhow::anyhow!("a change did not arrive within {LONGEST:?}"))
}

/// As many as the environment names.
const SECRETS: usize = 2;
/// Of the agent that is looked at.
const SETS: usize = 20;
const FILE: &str = "app.env";
const LOOK: Duration = Duration::from_millis(1);
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);
