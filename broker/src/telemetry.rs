//! Logs and metrics: how they look, and every name in them. Labels stay low in cardinality: never a path or principal.

use std::io::IsTerminal;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
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
            other => Err(format!("is `json` or `human`, not `{other}`")),
        }
    }
}

/// Starts logging to standard error.
///
/// Crates that log what they send and receive are held at `warn`, and those in `silenced` are not heard at all, whatever
/// the filter says: a debug line of an HTTP client may hold a body.
///
/// # Errors
/// When `filter` is not in the form of `RUST_LOG`.
pub fn start_logging(
    format: LogFormat,
    filter: &str,
    silenced: &[&str],
) -> Result<(), tracing_subscriber::filter::ParseError> {
    let registry = tracing_subscriber::registry().with(EnvFilter::builder().parse(filter)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let held = held(silenced);
    match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_filter(held)).init(),
        LogFormat::Human => {
            registry.with(lines.with_ansi(std::io::stderr().is_terminal()).with_filter(held)).init();
        }
    }
    Ok(())
}

/// What is let through at most. A filter of its own, which a line has to pass beside the configured one: a directive
/// added to that would yield to a longer one, such as `hyper::proto=trace`.
fn held(silenced: &[&str]) -> Targets {
    let loud = LOUD_CRATES.iter().map(|name| (*name, LevelFilter::WARN));
    let silenced = silenced.iter().map(|name| (*name, LevelFilter::OFF));
    Targets::new().with_default(LevelFilter::TRACE).with_targets(loud.chain(silenced))
}

/// The broker's counters. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<MethodLabels, Histogram, fn() -> Histogram>,
    backend_calls: Family<BackendLabels, Counter>,
    backend_refusals: Family<RefusalLabels, Counter>,
    circuits: Family<BackendNameLabels, Gauge>,
    cache: Family<CacheLabels, Counter>,
    disclosures: Family<BackendNameLabels, Counter>,
    orphans: Family<BackendNameLabels, Counter>,
    changes: Family<BackendNameLabels, Counter>,
    watched: Gauge,
    credentials: Family<CredentialLabels, Counter>,
    offline_copies: Counter,
    quota_refusals: Family<QuotaLabels, Counter>,
    rate_refusals: Family<RateLabels, Counter>,
    leases_ending: Family<WithinLabels, Gauge>,
    clock_ahead: Gauge,
    trust_stale: Family<BundleLabels, Gauge>,
    authentications: Family<AuthenticationLabels, Counter>,
    joins: Family<AuthenticationLabels, Counter>,
    key_fetches: Family<IssuerFetchLabels, Counter>,
    keys_fetched: Family<IssuerLabels, Gauge>,
}

impl Metrics {
    /// New counters, known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
            }),
            backend_calls: Family::default(),
            backend_refusals: Family::default(),
            circuits: Family::default(),
            cache: Family::default(),
            disclosures: Family::default(),
            orphans: Family::default(),
            changes: Family::default(),
            watched: Gauge::default(),
            credentials: Family::default(),
            offline_copies: Counter::default(),
            quota_refusals: Family::default(),
            rate_refusals: Family::default(),
            leases_ending: Family::default(),
            clock_ahead: Gauge::default(),
            trust_stale: Family::default(),
            authentications: Family::default(),
            joins: Family::default(),
            key_fetches: Family::default(),
            keys_fetched: Family::default(),
        };
        registry.register(REQUESTS, "Calls by gRPC method and status code", metrics.requests.clone());
        registry.register(REQUEST_SECONDS, "Time that calls took", metrics.request_seconds.clone());
        registry.register(BACKEND_CALLS, "Calls to stores", metrics.backend_calls.clone());
        registry.register(
            BACKEND_REFUSALS,
            "Calls that were not made, since a circuit was open or a budget used up",
            metrics.backend_refusals.clone(),
        );
        registry.register(
            CIRCUITS,
            "Circuit breakers: 0 closed, 1 a trial is under way, 2 open",
            metrics.circuits.clone(),
        );
        registry.register(CACHE, "Reads by what the cache did", metrics.cache.clone());
        registry.register(DISCLOSURES, "Secrets handed out", metrics.disclosures.clone());
        registry.register(
            ORPHANS,
            "Credentials without a lease that were taken back",
            metrics.orphans.clone(),
        );
        registry.register(
            CHANGES,
            "Secrets that were found to have another content than those who watch them hold",
            metrics.changes.clone(),
        );
        registry.register(
            WATCHED,
            "Secrets that listeners hold, once for each listener",
            metrics.watched.clone(),
        );
        registry.register(
            CREDENTIALS,
            "Reads of credentials that stores make, by what became of them",
            metrics.credentials.clone(),
        );
        registry.register(
            OFFLINE_COPIES,
            "Environments that were given out to be kept",
            metrics.offline_copies.clone(),
        );
        registry.register(QUOTA_REFUSALS, "Requests that a quota refused", metrics.quota_refusals.clone());
        registry.register(
            RATE_REFUSALS,
            "Handshakes and calls that came too often",
            metrics.rate_refusals.clone(),
        );
        registry.register(
            CLOCK_AHEAD,
            "How far the machine's clock is ahead of the broker's time",
            metrics.clock_ahead.clone(),
        );
        registry.register(
            TRUST_STALE,
            "Whether the files of a trust bundle cannot be used or are out of date",
            metrics.trust_stale.clone(),
        );
        registry.register(LEASES_ENDING, "Active leases that end soon", metrics.leases_ending.clone());
        registry.register(
            AUTHENTICATIONS,
            "Calls with a token or a certificate, by what came of it",
            metrics.authentications.clone(),
        );
        registry.register(JOINS, "Nodes that asked to be let in, by what came of it", metrics.joins.clone());
        registry.register(KEY_FETCHES, "Rounds for the keys of an issuer", metrics.key_fetches.clone());
        registry.register(
            KEYS_FETCHED,
            "When the keys of an issuer were fetched last, Unix time",
            metrics.keys_fetched.clone(),
        );
        metrics
    }

    /// A call that ended.
    pub fn request(&self, method: &'static str, code: &'static str, took: Duration) {
        self.requests.get_or_create(&RequestLabels { method, code }).inc();
        self.request_seconds.get_or_create(&MethodLabels { method }).observe(took.as_secs_f64());
    }

    /// A call to a store that ended.
    pub fn backend_call(&self, backend: &str, operation: &'static str, outcome: &'static str) {
        let labels = BackendLabels { backend: backend.to_owned(), operation, outcome };
        self.backend_calls.get_or_create(&labels).inc();
    }

    /// A call to a store that was not made, because of its `circuit` or its `budget`.
    pub fn backend_refusal(&self, backend: &str, because: &'static str) {
        let labels = RefusalLabels { backend: backend.to_owned(), because };
        self.backend_refusals.get_or_create(&labels).inc();
    }

    /// What shows the state of a store's circuit breaker.
    pub fn circuit(&self, backend: &str) -> Gauge {
        self.circuits.get_or_create_owned(&BackendNameLabels { backend: backend.to_owned() })
    }

    /// A read that the cache answered, or did not.
    pub fn cache(&self, outcome: &'static str) {
        self.cache.get_or_create(&CacheLabels { outcome }).inc();
    }

    /// A secret that was handed out.
    pub fn disclosure(&self, backend: &str) {
        self.disclosures.get_or_create(&BackendNameLabels { backend: backend.to_owned() }).inc();
    }

    /// A secret that has another content than those who watch it hold.
    pub fn change(&self, backend: &str) {
        self.changes.get_or_create(&BackendNameLabels { backend: backend.to_owned() }).inc();
    }

    /// How many secrets listeners hold, once for each listener.
    pub fn watched(&self) -> Gauge {
        self.watched.clone()
    }

    /// A credential that was made for nobody and taken back.
    pub fn orphan(&self, backend: &str) {
        self.orphans.get_or_create(&BackendNameLabels { backend: backend.to_owned() }).inc();
    }

    /// A read of a credential that a store makes: `created`, `repeated`, `renewed` or `lost`.
    pub fn credential(&self, backend: &str, outcome: &'static str) {
        let labels = CredentialLabels { backend: backend.to_owned(), outcome };
        self.credentials.get_or_create(&labels).inc();
    }

    /// An environment that was given out to be kept.
    pub fn offline_copy(&self) {
        self.offline_copies.inc();
    }

    /// A request that a quota refused: `of` says whose, `limit` which.
    pub fn quota_refusal(&self, of: &'static str, limit: &'static str) {
        self.quota_refusals.get_or_create(&QuotaLabels { of, limit }).inc();
    }

    /// What came too often: `of` says who paid for it, `at` what was refused.
    pub fn rate_refusal(&self, of: &'static str, at: &'static str) {
        self.rate_refusals.get_or_create(&RateLabels { of, at }).inc();
    }

    /// How many seconds the machine's clock is ahead of the broker's time.
    pub fn clock_ahead(&self, seconds: i64) {
        self.clock_ahead.set(seconds);
    }

    /// Whether what is in force of a trust bundle is another than its files say.
    pub fn trust_stale(&self, bundle: &str, stale: bool) {
        let labels = BundleLabels { bundle: bundle.to_owned() };
        self.trust_stale.get_or_create(&labels).set(i64::from(stale));
    }

    /// A call whose bearer is known by `method`, or is not: `outcome` is `ok` or why not.
    pub fn authentication(&self, method: &'static str, outcome: &'static str) {
        self.authentications.get_or_create(&AuthenticationLabels { method, outcome }).inc();
    }

    /// A node that asked to be let in by `method`: `outcome` is `ok` or why not.
    pub fn join(&self, method: &'static str, outcome: &'static str) {
        self.joins.get_or_create(&AuthenticationLabels { method, outcome }).inc();
    }

    /// A round for the keys of an issuer, and when it ended well, or why it did not.
    pub fn keys_fetched(&self, issuer: &str, outcome: Result<Timestamp, &'static str>) {
        let issuer = issuer.to_owned();
        if let Ok(at) = outcome {
            self.keys_fetched.get_or_create(&IssuerLabels { issuer: issuer.clone() }).set(at.as_second());
        }
        let outcome = outcome.map_or_else(|fault| fault, |_| "ok");
        self.key_fetches.get_or_create(&IssuerFetchLabels { issuer, outcome }).inc();
    }

    /// How many active leases end within a time from now.
    pub fn leases_ending(&self, within: &'static str, count: u64) {
        let gauge = self.leases_ending.get_or_create(&WithinLabels { within });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// What the audit sinks count. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SinkMetrics {
    records: Family<SinkLabels, Counter>,
    failures: Family<SinkFailureLabels, Counter>,
}

impl SinkMetrics {
    /// New counters, known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { records: Family::default(), failures: Family::default() };
        registry.register(SINK_RECORDS, "Audit records that a sink confirmed", metrics.records.clone());
        registry.register(SINK_FAILURES, "Deliveries to a sink that failed", metrics.failures.clone());
        metrics
    }

    /// Records that a sink confirmed.
    pub fn shipped(&self, sink: &str, records: usize) {
        let labels = SinkLabels { sink: sink.to_owned() };
        self.records.get_or_create(&labels).inc_by(u64::try_from(records).unwrap_or(u64::MAX));
    }

    /// A delivery that failed.
    pub fn failed(&self, sink: &str, fault: &'static str) {
        self.failures.get_or_create(&SinkFailureLabels { sink: sink.to_owned(), fault }).inc();
    }
}

/// Sinks are named in the configuration, so they are few.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SinkLabels {
    pub(crate) sink: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkFailureLabels {
    sink: String,
    fault: &'static str,
}

/// Bundles are named in the configuration, so they are few.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BundleLabels {
    bundle: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuthenticationLabels {
    method: &'static str,
    outcome: &'static str,
}

/// Issuers are named in the configuration, so they are few.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerLabels {
    issuer: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerFetchLabels {
    issuer: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithinLabels {
    within: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabels {
    backend: String,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CredentialLabels {
    backend: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuotaLabels {
    of: &'static str,
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RateLabels {
    of: &'static str,
    at: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendNameLabels {
    backend: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    backend: String,
    because: &'static str,
}

const LOUD_CRATES: [&str; 8] =
    ["h2", "hyper", "hyper_rustls", "hyper_util", "reqwest", "rustls", "tokio_postgres", "tower"];

const REQUESTS: &str = "bursar_requests";
const REQUEST_SECONDS: &str = "bursar_request_seconds";
const BACKEND_CALLS: &str = "bursar_backend_calls";
const BACKEND_REFUSALS: &str = "bursar_backend_refusals";
const CIRCUITS: &str = "bursar_backend_circuit";
const CACHE: &str = "bursar_cache_reads";
const DISCLOSURES: &str = "bursar_disclosures";
const SINK_RECORDS: &str = "bursar_sink_records";
const SINK_FAILURES: &str = "bursar_sink_failures";
/// How far sinks are behind, collected when somebody asks.
pub const SINK_LAG_RECORDS: &str = "bursar_sink_lag_records";
pub const SINK_LAG_SECONDS: &str = "bursar_sink_lag_seconds";
/// Approvals in force, counted when somebody asks.
pub const APPROVALS: &str = "bursar_approvals";
/// Room on the disk, collected when somebody asks.
pub const DISK_BYTES: &str = "bursar_disk_bytes";
const ORPHANS: &str = "bursar_orphans";
const CHANGES: &str = "bursar_changes";
const WATCHED: &str = "bursar_watched_secrets";
const CREDENTIALS: &str = "bursar_credentials";
const OFFLINE_COPIES: &str = "bursar_offline_copies";
const QUOTA_REFUSALS: &str = "bursar_quota_refusals";
const RATE_REFUSALS: &str = "bursar_rate_refusals";
const CLOCK_AHEAD: &str = "bursar_clock_ahead_seconds";
const TRUST_STALE: &str = "bursar_trust_stale";
const LEASES_ENDING: &str = "bursar_leases_ending";
const AUTHENTICATIONS: &str = "bursar_authentications";
const JOINS: &str = "bursar_joins";
const KEY_FETCHES: &str = "bursar_issuer_key_fetches";
const KEYS_FETCHED: &str = "bursar_issuer_keys_fetched_seconds";
/// Leases by state, collected when somebody asks.
pub const LEASES: &str = "bursar_leases";
/// Figures of the ledger, collected when somebody asks.
pub const LEDGER: &str = "bursar_ledger";

#[cfg(test)]
mod tests {
    use bursar_backend_http::testing::Log;
    use tracing::Level;

    use super::*;

    #[test]
    fn no_filter_makes_a_client_library_say_what_it_sends() {
        let log = Log::default();
        let filter = "trace,hyper::proto=trace,aws_sigv4::sign=trace";
        let lines = tracing_subscriber::fmt::layer().with_writer(log.clone());
        let registry =
            tracing_subscriber::registry().with(EnvFilter::builder().parse(filter).expect("filter"));
        tracing::subscriber::with_default(registry.with(lines.with_filter(held(&["aws_sigv4"]))), || {
            tracing::event!(target: "hyper::proto", Level::TRACE, "body");
            tracing::event!(target: "hyper::proto", Level::WARN, "warned");
            tracing::event!(target: "aws_sigv4::sign", Level::ERROR, "key");
            tracing::event!(target: "bursar_broker::lease", Level::TRACE, "ours");
        });
        let text = log.text();
        let said: Vec<_> =
            ["body", "warned", "key", "ours"].iter().filter(|word| text.contains(**word)).collect();
        assert_eq!(said, [&"warned", &"ours"]);
    }
}
