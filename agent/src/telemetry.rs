//! Logs and metrics: how they look, and every name in them. Labels stay low in cardinality: never a path, principal or
//! process.

pub mod webhook;

use std::io::IsTerminal;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

impl std::str::FromStr for LogFormat {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "human" => Ok(Self::Human),
            other => Err(format!("is `json` or `human`, not `{}`", other.escape_default())),
        }
    }
}

/// Starts logging to standard error.
///
/// Crates that log what they send and receive are held at `warn`, whatever the filter says: a debug line of the HTTP/2
/// stack may hold a piece of a message.
///
/// # Errors
/// When `filter` is not in the form of `RUST_LOG`.
pub fn start_logging(format: LogFormat, filter: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let registry = tracing_subscriber::registry().with(EnvFilter::builder().parse(filter)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_filter(held())).init(),
        LogFormat::Human => {
            registry.with(lines.with_ansi(std::io::stderr().is_terminal()).with_filter(held())).init();
        }
    }
    Ok(())
}

/// What is let through at most. A filter of its own, which a line has to pass beside the configured one: a directive
/// added to that would yield to a longer one, such as `hyper::proto=trace`.
fn held() -> Targets {
    let loud = LOUD_CRATES.map(|name| (name, LevelFilter::WARN));
    Targets::new().with_default(LevelFilter::TRACE).with_targets(loud)
}

/// The agent's counters and gauges. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    reads: Family<OutcomeLabel, Counter>,
    broker_calls: Family<OutcomeLabel, Counter>,
    /// Connections to the broker that were given up because it said nothing over them.
    pub connections_given_up: Counter,
    connections: Family<OutcomeLabel, Counter>,
    certificate: Family<OutcomeLabel, Counter>,
    renewals: Family<OutcomeLabel, Counter>,
    events: Family<EventLabel, Counter>,
    journal: Family<OutcomeLabel, Counter>,
    checkpoints: Family<OutcomeLabel, Counter>,
    files: Family<OutcomeLabel, Counter>,
    hooks: Family<OutcomeLabel, Counter>,
    state_writes: Family<OutcomeLabel, Counter>,
    state_resumed: Family<OutcomeLabel, Counter>,
    /// Answers in the state that was written last.
    pub state_answers: Gauge,
    /// How long its file is, in bytes.
    pub state_bytes: Gauge,
    aws_requests: Family<OperationLabels, Counter>,
    mounts: Family<OutcomeLabel, Counter>,
    sds_secrets: Family<OutcomeLabel, Counter>,
    sds_answers: Family<OutcomeLabel, Counter>,
    /// Streams on which secrets are given to Envoy.
    pub sds_streams: Gauge,
    credentials: Family<OutcomeLabel, Counter>,
    runs: Family<OutcomeLabel, Counter>,
    /// Open connections of local callers.
    pub open_connections: Gauge,
    /// Values in the cache.
    pub cache_entries: Gauge,
    /// What they take, in bytes.
    pub cache_bytes: Gauge,
    /// Leases that the cache holds.
    pub leases: Gauge,
    /// Lines of the journal that the broker does not have yet.
    pub journal_lines: Gauge,
    /// Whether the broker's events arrive: 1 or 0.
    pub listening: Gauge,
    /// Sets of files that are missing or out of date, or whose hook fails.
    pub file_sets_failing: Gauge,
    /// Programs that the agent keeps running, and that run.
    pub runs_running: Gauge,
    /// Programs that do not run as they have to.
    pub runs_failing: Gauge,
    /// Whether the agent is ready: 1 or 0.
    pub ready: Gauge,
    /// When the certificate ends, in seconds since 1970.
    pub certificate_end: Gauge,
}

impl Metrics {
    /// New ones, known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let all = metrics.clone();
        registry.register(CALLS, "Calls of local callers by method and by who answers", all.calls);
        registry.register(READS, "Secrets asked for by what the cache did", all.reads);
        registry.register(BROKER_CALLS, "Calls to the broker by outcome", all.broker_calls);
        registry.register(
            GIVEN_UP,
            "Connections to the broker that were given up for another",
            all.connections_given_up,
        );
        registry.register(CONNECTIONS, "Connections of local callers by outcome", all.connections);
        registry.register(
            CERTIFICATE,
            "Attempts at joining and at renewing the certificate",
            all.certificate,
        );
        registry.register(RENEWALS, "Leases that were due for renewal, by outcome", all.renewals);
        registry.register(EVENTS, "Events from the broker", all.events);
        registry.register(JOURNAL, "Reads from the cache that were journaled, by outcome", all.journal);
        registry.register(CHECKPOINTS, "Checkpoints of the audit log that were checked", all.checkpoints);
        registry.register(OPEN_CONNECTIONS, "Open connections of local callers", all.open_connections);
        registry.register(CACHE_ENTRIES, "Values in the cache", all.cache_entries);
        registry.register(CACHE_BYTES, "Bytes that the cache takes", all.cache_bytes);
        registry.register(LEASES, "Leases that the cache holds", all.leases);
        registry.register(JOURNAL_LINES, "Lines of the journal that wait to be shipped", all.journal_lines);
        registry.register(LISTENING, "Whether the events of the broker arrive", all.listening);
        registry.register(FILES, "Deliveries of sets of files by outcome", all.files);
        registry.register(HOOKS, "Runs of hooks of sets of files by outcome", all.hooks);
        registry.register(STATE_WRITES, "Writings of the state by outcome", all.state_writes);
        registry.register(STATE_RESUMED, "States found at a start by what became of them", all.state_resumed);
        registry.register(STATE_ANSWERS, "Answers in the state that was written last", all.state_answers);
        registry.register(STATE_BYTES, "Bytes of the state that was written last", all.state_bytes);
        registry.register(MOUNTS, "Questions of the driver of CSI volumes by outcome", all.mounts);
        registry.register(CREDENTIALS, "Credentials that systemd asked for by outcome", all.credentials);
        registry.register(
            AWS_REQUESTS,
            "Requests of programs made for AWS by operation and outcome",
            all.aws_requests,
        );
        registry.register(SDS_SECRETS, "Secrets for Envoy by outcome", all.sds_secrets);
        registry.register(SDS_ANSWERS, "What Envoy says of what it was given", all.sds_answers);
        registry.register(SDS_STREAMS, "Streams on which secrets are given to Envoy", all.sds_streams);
        registry.register(
            FILE_SETS_FAILING,
            "Sets of files that are missing or out of date, or whose hook fails",
            all.file_sets_failing,
        );
        registry.register(RUNS, "Starts and ends of programs that the agent keeps running", all.runs);
        registry.register(
            RUNS_RUNNING,
            "Programs that the agent keeps running, and that run",
            all.runs_running,
        );
        registry.register(RUNS_FAILING, "Programs that do not run as they have to", all.runs_failing);
        registry.register(READY, "Whether the agent is ready", all.ready);
        registry.register(CERTIFICATE_END, "When the certificate ends, in Unix seconds", all.certificate_end);
        metrics
    }

    /// A call of a local caller. `answered_by` is who is responsible: `cache` (which may ask the broker), `broker`,
    /// `agent` or `nobody`.
    pub fn call(&self, method: &'static str, answered_by: &'static str) {
        self.calls.get_or_create(&CallLabels { method, answered_by }).inc();
    }

    /// A secret or environment that was asked for: `fresh`, `asked`, `outage`, `failed`.
    pub fn read(&self, outcome: &'static str) {
        self.reads.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A call to the broker: `ok`, `refused`, `unreachable`.
    pub fn broker_call(&self, outcome: &'static str) {
        self.broker_calls.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A connection: `served`, `full`, `unattested`, `not_allowed`, `silent`.
    pub fn connection(&self, outcome: &'static str) {
        self.connections.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A certificate: `joined`, `renewed`, `failed`.
    pub fn certificate(&self, outcome: &'static str) {
        self.certificate.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A lease that was due: `renewed`, `checked`, `failed`, `ended`, `unread`, `given_back`.
    pub fn renewal(&self, outcome: &'static str) {
        self.renewals.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// An event: the name of it.
    pub fn event(&self, event: &'static str) {
        self.events.get_or_create(&EventLabel { event }).inc();
    }

    /// Reads from the cache: `shipped`, `refused`.
    pub fn journaled(&self, outcome: &'static str, reads: u64) {
        self.journal.get_or_create(&OutcomeLabel { outcome }).inc_by(reads);
    }

    /// A set of files: `delivered`, `unchanged`, `repaired`, `removed`, `failed`.
    pub fn files(&self, outcome: &'static str) {
        self.files.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// The hook of a set of files: `done`, `failed`, `timed_out`.
    pub fn hook(&self, outcome: &'static str) {
        self.hooks.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// The state: `written`, `failed`.
    pub fn state_written(&self, outcome: &'static str) {
        self.state_writes.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// The state that a start found: `resumed`, `discarded`.
    pub fn state_resumed(&self, outcome: &'static str) {
        self.state_resumed.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A request on the port for programs made for AWS: `answered`, `refused`, `failed`.
    pub fn aws_request(&self, operation: &'static str, outcome: &'static str) {
        self.aws_requests.get_or_create(&OperationLabels { operation, outcome }).inc();
    }

    /// A credential of a unit: `given`, `refused`, `failed`.
    pub fn credential(&self, outcome: &'static str) {
        self.credentials.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A volume: `mounted`, `last_good`, `refused`, `failed`.
    pub fn mount(&self, outcome: &'static str) {
        self.mounts.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A secret for Envoy: `delivered`, `unchanged`, `withdrawn`, `failed`.
    pub fn sds_secret(&self, outcome: &'static str) {
        self.sds_secrets.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// What Envoy says of a response: `accepted`, `rejected`, or of one before it: `stale`.
    pub fn sds_answer(&self, outcome: &'static str) {
        self.sds_answers.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A program that the agent keeps running: `started`, `not_started`, `ended`, `failed`, `stopped`, `killed`.
    pub fn run(&self, outcome: &'static str) {
        self.runs.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A checkpoint: `consistent`, `unproven`, `unknown`.
    pub fn checkpoint(&self, outcome: &'static str) {
        self.checkpoints.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    answered_by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabel {
    event: &'static str,
}

const LOUD_CRATES: [&str; 4] = ["h2", "hyper", "hyper_util", "rustls"];

const CALLS: &str = "bursar_agent_calls";
const READS: &str = "bursar_agent_reads";
const BROKER_CALLS: &str = "bursar_agent_broker_calls";
const GIVEN_UP: &str = "bursar_agent_broker_connections_given_up";
const CONNECTIONS: &str = "bursar_agent_connections";
const CERTIFICATE: &str = "bursar_agent_certificate";
const RENEWALS: &str = "bursar_agent_lease_renewals";
const EVENTS: &str = "bursar_agent_events";
const JOURNAL: &str = "bursar_agent_journal_reads";
const CHECKPOINTS: &str = "bursar_agent_checkpoints";
const FILES: &str = "bursar_agent_files";
const HOOKS: &str = "bursar_agent_file_hooks";
const AWS_REQUESTS: &str = "bursar_agent_aws_requests";
const CREDENTIALS: &str = "bursar_agent_systemd_credentials";
const MOUNTS: &str = "bursar_agent_csi_mounts";
const SDS_SECRETS: &str = "bursar_agent_sds_secrets";
const SDS_ANSWERS: &str = "bursar_agent_sds_answers";
const SDS_STREAMS: &str = "bursar_agent_sds_streams";
const FILE_SETS_FAILING: &str = "bursar_agent_file_sets_failing";
const STATE_WRITES: &str = "bursar_agent_state_writes";
const STATE_RESUMED: &str = "bursar_agent_state_resumed";
const STATE_ANSWERS: &str = "bursar_agent_state_answers";
const STATE_BYTES: &str = "bursar_agent_state_bytes";
const RUNS: &str = "bursar_agent_runs";
const RUNS_RUNNING: &str = "bursar_agent_runs_running";
const RUNS_FAILING: &str = "bursar_agent_runs_failing";
const OPEN_CONNECTIONS: &str = "bursar_agent_open_connections";
const CACHE_ENTRIES: &str = "bursar_agent_cache_entries";
const CACHE_BYTES: &str = "bursar_agent_cache_bytes";
const LEASES: &str = "bursar_agent_leases";
const JOURNAL_LINES: &str = "bursar_agent_journal_lines";
const LISTENING: &str = "bursar_agent_listening";
const READY: &str = "bursar_agent_ready";
const CERTIFICATE_END: &str = "bursar_agent_certificate_end_seconds";

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn no_filter_makes_a_client_library_say_what_it_sends() {
        let held = held();
        for loud in LOUD_CRATES {
            let inside = format!("{loud}::proto");
            assert!(held.would_enable(&inside, &Level::WARN) && !held.would_enable(&inside, &Level::INFO));
        }
        assert!(held.would_enable("bursar_agent::cache", &Level::TRACE));
    }
}
