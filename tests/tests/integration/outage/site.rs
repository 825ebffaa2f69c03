//! A broker with a store of its own, an agent, and programs on its machine that read again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_core::{Clock, SystemClock};
use bursar_proto::convert::{duration_to_wire, timestamp_from_wire};
use bursar_proto::v1::secrets_client::SecretsClient;
use bursar_proto::v1::secrets_watch_response::Event;
use bursar_proto::v1::{SecretsReadRequest, SecretsReadResponse, SecretsWatchRequest, SecretsWatchResponse};
use bursar_sdk::Address;
use bursar_tests::{Agent, Broker, Canary, Cli, wait_until};
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use super::relay::Relay;

pub(super) struct Site {
    pub(super) administrator: Cli,
    pub(super) agent: Agent,
    pub(super) broker: Broker,
}

impl Site {
    /// `more` is what the agent's configuration says besides.
    pub(super) fn start(more: &str) -> Result<Self> {
        let broker = Broker::start(STORE)?;
        let address = broker.address();
        Self::with(broker, &address, more)
    }

    /// The same, with a network between the two.
    pub(super) fn apart(more: &str) -> Result<(Self, Relay)> {
        let broker = Broker::start(STORE)?;
        let relay = Relay::before(broker.address().trim_start_matches("https://").parse()?)?;
        Ok((Self::with(broker, &relay.url(), more)?, relay))
    }

    fn with(broker: Broker, address: &str, more: &str) -> Result<Self> {
        let administrator = Cli::administering(&broker)?;
        let uid = rustix::process::geteuid().as_raw().to_string();
        administrator.apply_policies(POLICIES, &REGISTRATION.replace("UID", &uid))?;
        let token = administrator.done(&["node", "token", "web-1"])?;
        let agent = Agent::start_by_way_of(address, &broker, "web-1", token.trim(), more)?;
        let site = Self { administrator, agent, broker };
        site.until_heard()?;
        Ok(site)
    }

    pub(super) fn put(&self, reference: &str, value: &Canary) -> Result<()> {
        let put = ["secret", "put", reference, "--field", "p"];
        self.administrator.done_with(&put, value.value().as_bytes()).map(drop)
    }

    pub(super) fn reader(&self) -> Result<Reader> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let channel = runtime.block_on(bursar_sdk::channel(&Address::unix(self.agent.socket()), None))?;
        Ok(Reader { runtime, channel })
    }

    /// Waits until the broker's events arrive at the agent.
    pub(super) fn until_heard(&self) -> Result<()> {
        wait_until(LIMIT, "the broker's events", || self.counted("bursar_agent_listening") == 1)
    }

    /// What a counter or gauge of the agent stands at.
    pub(super) fn counted(&self, name: &str) -> u64 {
        self.agent.counted(name)
    }

    /// What the agent answered from memory so far.
    pub(super) fn answered_locally(&self) -> u64 {
        ["fresh", "outage"]
            .iter()
            .map(|outcome| self.counted(&format!("bursar_agent_reads_total{{outcome=\"{outcome}\"}}")))
            .sum()
    }

    /// How many reads from memory the ledger knows of.
    pub(super) fn accounted(&self) -> Result<u64> {
        let records = self.administrator.audit(&["--action", "local-read", "--outcome", "ok"])?;
        let reads = |record: &serde_json::Value| {
            let reason = record.get("reason")?.as_str()?;
            reason.split(' ').next()?.parse::<u64>().ok()
        };
        records.iter().map(|record| reads(record).with_context(|| format!("no count: {record}"))).sum()
    }

    /// The lease ids that the broker has.
    pub(super) fn leases(&self) -> Result<Vec<String>> {
        let leases = self.administrator.json(&["lease", "list", "--limit", "1000"])?;
        let id = |lease: &serde_json::Value| Some(lease.get("id")?.as_str()?.to_owned());
        Ok(leases.as_array().into_iter().flatten().filter_map(id).collect())
    }
}

/// A program that reads through the agent.
pub(super) struct Reader {
    runtime: Runtime,
    channel: Channel,
}

impl Reader {
    /// Reads once, and waits for at most [`PATIENCE`].
    pub(super) fn read(&self, reference: &str, ttl: Duration) -> Result<SecretsReadResponse, tonic::Status> {
        let message = SecretsReadRequest {
            reference: reference.to_owned(),
            ttl: Some(duration_to_wire(ttl)),
            ..SecretsReadRequest::default()
        };
        let mut request = Request::new(message);
        request.set_timeout(PATIENCE);
        let mut secrets = SecretsClient::new(self.channel.clone());
        let read = self.runtime.block_on(async { secrets.read(request).await })?;
        Ok(read.into_inner())
    }

    /// What happens to what was read, from now on, as the agent tells it.
    pub(super) fn events(&self) -> Result<Streaming<SecretsWatchResponse>> {
        let watch = async {
            let mut secrets = SecretsClient::new(self.channel.clone());
            let stream = secrets.watch(SecretsWatchRequest::default()).await?.into_inner();
            anyhow::Ok(stream)
        };
        let mut stream = self.runtime.block_on(watch)?;
        // It begins with word that nothing is known of before.
        let first = self.runtime.block_on(stream.message())?.and_then(|message| message.event);
        ensure!(matches!(first, Some(Event::Resync(_))), "the stream began with {first:?}");
        Ok(stream)
    }

    /// Waits until `events` say that the lease is over, or that anything may be.
    pub(super) fn until_told(&self, events: &mut Streaming<SecretsWatchResponse>, lease: &str) -> Result<()> {
        let told = async {
            loop {
                let message = events.message().await?.context("the stream of events ended")?;
                match message.event {
                    Some(Event::LeaseRevoked(revoked)) if revoked.lease_id == lease => return Ok(()),
                    Some(Event::Resync(_)) => return Ok(()),
                    _ => {}
                }
            }
        };
        let told = async { tokio::time::timeout(LIMIT, told).await };
        self.runtime.block_on(told).context("nobody told of a lease that was revoked")?
    }

    /// The same, of a field that is text, with its lease.
    pub(super) fn value(&self, reference: &str, ttl: Duration) -> Result<(String, String)> {
        let mut read = self.read(reference, ttl)?;
        let lease = read.lease.take().context("no lease")?.id;
        Ok((String::from_utf8(std::mem::take(&mut read.value))?, lease))
    }

    /// Reads without a pause until it is stopped.
    pub(super) fn keep_reading(self, reference: &str, ttl: Duration) -> Load {
        let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopping, counted, reference) = (Arc::clone(&stop), Arc::clone(&reads), reference.to_owned());
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !stopping.load(Ordering::Relaxed) {
                let begun = Instant::now();
                match self.read(&reference, ttl) {
                    Ok(read) => {
                        let end = read.lease.as_ref().and_then(|lease| lease.expires_at);
                        let end = timestamp_from_wire("expires_at", end).ok();
                        seen.late += u64::from(end.is_none_or(|end| end < SystemClock.now()));
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(status) => seen.refused.push(status.to_string()),
                }
                seen.longest = seen.longest.max(begun.elapsed());
            }
            seen
        });
        Load { stop, reads, thread }
    }
}

/// A program that reads without a pause.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    thread: JoinHandle<Seen>,
}

/// What such a program saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) refused: Vec<String>,
    /// Reads that were answered under a lease that was over.
    pub(super) late: u64,
    pub(super) longest: Duration,
}

impl Load {
    /// How many reads were answered so far.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    pub(super) fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the reader panicked")
    }
}

/// A value of a secret that the tests made up.
pub(super) fn canary() -> Canary {
    Canary::alphanumeric("value")
}

/// Stops all of `loads`: none was refused anything, or got something under a lease that was over.
pub(super) fn all_served(loads: Vec<Load>) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    for load in loads {
        let seen = load.stop()?;
        ensure!(seen.refused.is_empty(), "{} reads failed: {:?}", seen.refused.len(), seen.refused.first());
        ensure!(seen.late == 0, "{} reads were answered under a lease that was over", seen.late);
        longest = longest.max(seen.longest);
    }
    Ok(longest)
}

pub(super) const LIMIT: Duration = Duration::from_secs(90);
/// Of a program that reads. An agent whose broker is gone takes less than half of it to notice.
pub(super) const PATIENCE: Duration = Duration::from_secs(12);

const STORE: &str = "[backends.local]\nkind = 'local'\n";

const REGISTRATION: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/app"
node = "web-1"
selectors = ["unix:uid:UID"]
"#;

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("app")
permit (principal == Bursar::Principal::"spiffe://example.org/workload/app",
        action in Bursar::Action::"use", resource);
@id("watch")
permit (principal, action == Bursar::Action::"watch", resource == Bursar::System::"broker");
"#;
