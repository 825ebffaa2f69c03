//! The broker's configuration: TOML in, typed values out. `docs/config.md` is the reference.

mod audit;
mod aws;
mod azure;
mod cache;
mod disk;
mod gcp;
mod identity;
mod ledger;
#[cfg(feature = "postgres")]
mod postgres;
mod seal;
mod trust;
mod vault;

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bursar_backend_local::DEFAULT_MAX_VERSIONS;
use bursar_core::settings::{self, Fault, Section};
use bursar_core::spiffe::TrustDomain;
use bursar_core::{BackendName, SpiffeId};

pub use audit::{AuditSettings, FileSink, OtlpSink, SinkConfig, SinkKind, SyslogPlace};
pub use aws::{AwsCredentials, AwsRole, AwsSettings};
pub use azure::{AzureCredentials, AzureProof, AzureSettings};
pub use cache::{CacheContract, CacheContracts, OnOutage};
pub use disk::{DiskLimits, Threshold};
pub use gcp::{GcpCredentials, GcpSettings};
pub use identity::{
    HostPattern, IssuerKind, IssuerSettings, KeysPlace, Matched, NodeProof, NodeRule, ReviewSettings, Rule,
};
pub use ledger::LedgerSettings;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresSettings, StandingSettings};
pub use seal::{KeyPlace, SealKey, SealSettings};
pub use trust::{PrincipalPatterns, TrustSettings};
pub use vault::{VaultAuth, VaultCredential, VaultMount, VaultSettings};

use crate::identity::BreakGlass;
use crate::ledger::Quota;
use crate::telemetry::LogFormat;

/// Everything that a file can say.
#[derive(Debug)]
pub struct Config {
    pub trust_domain: TrustDomain,
    /// Tells brokers of one trust domain apart; part of the log's origin.
    pub name: String,
    pub data_dir: PathBuf,
    pub ledger: LedgerSettings,
    pub listen: Listen,
    pub tls: Tls,
    pub identity: Identity,
    pub seal: SealSettings,
    pub leases: LeaseLimits,
    pub limits: RequestLimits,
    pub log: Log,
    pub audit: AuditSettings,
    pub disk: DiskLimits,
    /// Whose tokens count.
    pub issuers: Vec<IssuerSettings>,
    pub backends: Vec<BackendConfig>,
}

/// Where the broker listens.
#[derive(Debug)]
pub struct Listen {
    pub grpc: SocketAddr,
    /// Health and metrics, without TLS.
    pub http: SocketAddr,
    /// Reads for those who speak no gRPC; nowhere when not given.
    pub https: Option<SocketAddr>,
}

/// Names of the gRPC port.
#[derive(Debug)]
pub struct Tls {
    /// DNS names and addresses under which clients reach the broker.
    pub names: Vec<String>,
}

/// How callers prove who they are.
#[derive(Debug)]
pub struct Identity {
    /// Authorities that vouch for callers, beside the broker's own.
    pub trust: Vec<TrustSettings>,
    /// For how long a break-glass certificate lives; there are none without.
    pub break_glass: Option<Duration>,
    /// What lets machines in as nodes, beside join tokens.
    pub nodes: Vec<NodeRule>,
}

/// Bounds on the time that leases get.
#[derive(Debug, Clone, Copy)]
pub struct LeaseLimits {
    /// Granted when the caller asks for nothing.
    pub default_ttl: Duration,
    /// Granted at most at a time.
    pub max_ttl: Duration,
    /// No renewal goes past this, counted from the issue.
    pub max_life: Duration,
    /// A store may go on for this long with a request whose client is gone.
    pub settle_after: Duration,
    /// For so long a lease that is gone is still listed.
    pub keep_gone: Duration,
    /// Of each principal.
    pub quota: Quota,
}

/// Bounds on what one caller can make the broker do.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// A request may take this long, the store included.
    pub deadline: Duration,
    /// Bytes of one request message.
    pub message_bytes: usize,
    /// Open connections.
    pub connections: usize,
    /// Requests under way on one connection.
    pub streams: u32,
    pub rates: Rates,
}

/// How often somebody may ask, in times a second; nothing sets no limit.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Handshakes, and calls of those who are not known.
    pub per_address: Option<NonZeroU32>,
    /// Calls.
    pub per_principal: Option<NonZeroU32>,
}

/// What is logged, and how.
#[derive(Debug)]
pub struct Log {
    pub format: LogFormat,
    /// In the form of `RUST_LOG`.
    pub filter: String,
}

/// One store.
#[derive(Debug)]
pub struct BackendConfig {
    pub name: BackendName,
    pub cache: CacheContracts,
    /// More calls wait, or are refused.
    pub calls_per_second: Option<NonZeroU32>,
    pub revocation: RevocationLimits,
    pub quota: Quota,
    pub kind: BackendKind,
}

/// How fast a store is asked to take credentials back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationLimits {
    /// Calls at a time.
    pub concurrency: usize,
    /// Calls a second.
    pub per_second: NonZeroU32,
    /// After so many that failed, a lease is stuck.
    pub attempts: u32,
}

/// What each kind of store needs.
#[derive(Debug)]
pub enum BackendKind {
    /// The broker's own store.
    Local { max_versions: NonZeroU32 },
    /// AWS Secrets Manager and STS.
    Aws(Box<AwsSettings>),
    /// The secrets of an Azure Key Vault.
    Azure(Box<AzureSettings>),
    /// Google Secret Manager.
    Gcp(Box<GcpSettings>),
    /// Roles of a PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresSettings>),
    /// HashiCorp Vault or OpenBao.
    Vault(Box<VaultSettings>),
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`], with every fault.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let faulty = |faults| ConfigError::Faulty { path: path.to_owned(), faults };
        let config = Self::parse(&text).map_err(faulty)?;
        match config.audit.misplaced() {
            faults if faults.is_empty() => Ok(config),
            faults => Err(faulty(faults)),
        }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Every fault in it.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        settings::read(text, root)
    }

    /// With no more places for connections than a process can serve that may have so many files open: one without any to
    /// spare reaches no store and writes no ledger. A quarter is left for what is no connection of a caller.
    #[must_use]
    pub fn within(mut self, files: u64) -> Self {
        let ports = 1 + u64::from(self.listen.https.is_some());
        let places = usize::try_from((files - files / 4) / ports).unwrap_or(usize::MAX).max(1);
        self.limits.connections = self.limits.connections.min(places);
        self
    }

    /// The administrator whose certificate `init` makes.
    pub fn administrator(&self) -> SpiffeId {
        administrator(&self.trust_domain)
    }

    /// Who may come by a break-glass certificate, and for how long.
    pub fn break_glass(&self) -> BreakGlass {
        BreakGlass { id: break_glass(&self.trust_domain), life: self.identity.break_glass }
    }

    /// The broker's own name, in its server certificate.
    pub fn identity(&self) -> SpiffeId {
        #[expect(clippy::expect_used, reason = "a checked trust domain with checked segments is a SPIFFE ID")]
        SpiffeId::from_segments(&self.trust_domain, &["broker", &self.name]).expect("checked segments")
    }

    /// The name under which this broker signs its log.
    pub fn origin(&self) -> String {
        format!("bursar.dev/{}/{}", self.trust_domain, self.name)
    }

    /// The ledger's file, where it is one.
    pub fn ledger_path(&self) -> PathBuf {
        self.data_dir.join("ledger.db")
    }
}

/// Whom nothing from outside makes of somebody, whatever a rule or a registration says.
fn break_glass(domain: &TrustDomain) -> SpiffeId {
    user(domain, "break-glass")
}

fn administrator(domain: &TrustDomain) -> SpiffeId {
    user(domain, "admin")
}

fn user(domain: &TrustDomain, name: &'static str) -> SpiffeId {
    // The trust domain was checked, and the segments are constants.
    #[expect(clippy::expect_used, reason = "a checked trust domain with constant segments is a SPIFFE ID")]
    SpiffeId::from_segments(domain, &["user", name]).expect("constant segments")
}

fn root(root: &mut Section<'_>) -> Option<Config> {
    let trust_domain = root.parsed("trust_domain", TrustDomain::parse);
    let trust_domain = root.required("trust_domain", trust_domain);
    let name = root.parsed("name", broker_name).unwrap_or_else(|| "broker".to_owned());
    let data_dir = root.path("data_dir");
    let data_dir = root.required("data_dir", data_dir);
    let listen = root.section("listen", listen);
    let tls = root.section("tls", tls);
    let (identity, issuers) = root.section("identity", |identity| {
        let trust = trust::trust(identity);
        let break_glass = identity.section_if_given("break_glass", break_glass_life).flatten();
        let issuers = identity::issuers(identity, trust_domain.as_ref());
        let nodes = identity::nodes(identity, trust_domain.as_ref(), &issuers, &trust);
        (Identity { trust, break_glass, nodes }, issuers)
    });
    let ledger = root.section("ledger", ledger::ledger);
    let seal = root.section("seal", seal::seal);
    let leases = root.section("leases", lease_limits);
    let limits = root.section("limits", |limits| RequestLimits {
        deadline: limits.duration("deadline").unwrap_or(Duration::from_secs(10)),
        message_bytes: size(limits.number("message_bytes", 4096..=67_108_864), 4 * 1024 * 1024),
        connections: size(limits.number("connections", 1..=100_000), 4096),
        streams: u32::try_from(limits.number("streams", 1..=10_000).unwrap_or(256)).unwrap_or(256),
        rates: limits.section("rate", rates),
    });
    let log = root.section("log", |log| Log {
        format: log.parsed("format", str::parse).unwrap_or(LogFormat::Json),
        filter: log.text("filter").unwrap_or_else(|| "info".to_owned()),
    });
    let audit = root.section("audit", audit::audit);
    let disk = root.section("disk", disk::disk);
    let mut named = Vec::new();
    let backends = root.each("backends", |name, section| {
        named.push(name.to_owned());
        backend(name, section)
    });
    seal::check(root, seal.as_ref(), &named, &backends);
    #[cfg(feature = "postgres")]
    postgres::check(root, &named, &backends, leases.settle_after);
    Some(Config {
        trust_domain: trust_domain?,
        name,
        data_dir: data_dir?,
        ledger: ledger?,
        listen,
        tls,
        identity,
        seal: seal?,
        leases,
        limits,
        log,
        audit,
        disk,
        issuers,
        backends,
    })
}

fn break_glass_life(section: &mut Section<'_>) -> Option<Duration> {
    let life = section.duration("life").unwrap_or(Duration::from_secs(3600));
    if !(Duration::from_secs(60)..=Duration::from_secs(24 * 3600)).contains(&life) {
        return section.fault("life", "is 1m to 24h".to_owned());
    }
    Some(life)
}

fn listen(listen: &mut Section<'_>) -> Listen {
    let address = |text: &str| {
        text.parse::<SocketAddr>()
            .map_err(|_| format!("`{text}` is no address; write one like `0.0.0.0:8443`"))
    };
    Listen {
        grpc: listen.parsed("grpc", address).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8443))),
        http: listen.parsed("http", address).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8480))),
        https: listen.parsed("https", address),
    }
}

fn tls(tls: &mut Section<'_>) -> Tls {
    let names = some_or(tls.texts("names"), &["localhost", "127.0.0.1", "::1"]);
    if !tls.texts("client_ca").is_empty() {
        tls.fault::<()>("client_ca", TRUST_MOVED.to_owned());
    }
    Tls { names }
}

fn lease_limits(leases: &mut Section<'_>) -> LeaseLimits {
    let limits = LeaseLimits {
        default_ttl: leases.duration("default_ttl").unwrap_or(Duration::from_secs(3600)),
        max_ttl: leases.duration("max_ttl").unwrap_or(Duration::from_secs(24 * 3600)),
        max_life: leases.duration("max_life").unwrap_or(Duration::from_secs(30 * 24 * 3600)),
        settle_after: leases.duration("settle_after").unwrap_or(Duration::from_secs(90)),
        keep_gone: leases.duration("keep_gone").unwrap_or(Duration::from_secs(7 * 24 * 3600)),
        quota: leases.section("quota", |section| quota(section, DEFAULT_LIVE)),
    };
    if limits.default_ttl.is_zero() {
        leases.fault::<()>("default_ttl", "must be longer than nothing".to_owned());
    }
    if limits.default_ttl > limits.max_ttl {
        leases.fault::<()>("default_ttl", "must not be longer than `max_ttl`".to_owned());
    }
    if limits.max_ttl > limits.max_life {
        leases.fault::<()>("max_ttl", "must not be longer than `max_life`".to_owned());
    }
    if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&limits.settle_after) {
        leases.fault::<()>("settle_after", "is 1s to 1h".to_owned());
    }
    limits
}

fn backend(name: &str, section: &mut Section<'_>) -> Option<BackendConfig> {
    let name = match BackendName::parse(name) {
        Ok(name) => Some(name),
        Err(_) => section.fault("", "a backend's name has 1 to 63 of a-z, 0-9 and `-`".to_owned()),
    };
    let cache = cache::read(section);
    let calls = section.number("calls_per_second", 1..=100_000).and_then(|calls| u32::try_from(calls).ok());
    let calls_per_second = calls.and_then(NonZeroU32::new);
    let revocation = section.section("revocation", revocation);
    let quota = section.section("quota", |section| quota(section, 0));
    let kind = section.text("kind");
    let kind = section.required("kind", kind);
    let kind = match kind.as_deref().unwrap_or_default() {
        "local" => {
            let versions =
                section.number("max_versions", 1..=1000).and_then(|number| u32::try_from(number).ok());
            let max_versions = versions.and_then(NonZeroU32::new).unwrap_or(DEFAULT_MAX_VERSIONS);
            Some(BackendKind::Local { max_versions })
        }
        "aws" => aws::aws(section).map(Box::new).map(BackendKind::Aws),
        "azure" => azure::azure(section).map(Box::new).map(BackendKind::Azure),
        "gcp" => gcp::gcp(section).map(Box::new).map(BackendKind::Gcp),
        #[cfg(feature = "postgres")]
        "postgres" => postgres::postgres(section).map(Box::new).map(BackendKind::Postgres),
        #[cfg(not(feature = "postgres"))]
        "postgres" => {
            section.fault("kind", "this broker was built without the feature `postgres`".to_owned())
        }
        "vault" => vault::read(section).map(Box::new).map(BackendKind::Vault),
        "" => None,
        other => section.fault(
            "kind",
            format!(
                "there is no kind of backend `{other}`; there are `aws`, `azure`, `gcp`, `local`, `postgres` and `vault`"
            ),
        ),
    };
    Some(BackendConfig { name: name?, cache, calls_per_second, revocation, quota, kind: kind? })
}

fn rates(rates: &mut Section<'_>) -> Rates {
    let mut rate = |key, usual| {
        let given = rates.number(key, 0..=1_000_000).and_then(|rate| u32::try_from(rate).ok());
        NonZeroU32::new(given.unwrap_or(usual))
    };
    Rates { per_address: rate("per_address", DEFAULT_PER_ADDRESS), per_principal: rate("per_principal", 0) }
}

/// `live` is the limit on leases where none is given; 0 is none.
fn quota(quota: &mut Section<'_>, live: u64) -> Quota {
    let live = quota.number("live", 0..=1_000_000_000).unwrap_or(live);
    let rate = quota.number("issued_per_minute", 0..=10_000_000).and_then(|rate| u32::try_from(rate).ok());
    Quota { live: NonZeroU64::new(live), issued_per_minute: rate.and_then(NonZeroU32::new) }
}

fn revocation(revocation: &mut Section<'_>) -> RevocationLimits {
    let mut number = |key, range| revocation.number(key, range).and_then(|number| u32::try_from(number).ok());
    let (concurrency, per_second) = (number("concurrency", 1..=256), number("per_second", 1..=10_000));
    RevocationLimits {
        concurrency: size(concurrency.map(u64::from), 8),
        per_second: per_second.and_then(NonZeroU32::new).unwrap_or(DEFAULT_PER_SECOND),
        attempts: number("attempts", 1..=1000).unwrap_or(12),
    }
}

fn broker_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > 63 || !text.bytes().all(allowed) {
        return Err("has 1 to 63 of a-z, 0-9 and `-`".to_owned());
    }
    Ok(text.to_owned())
}

fn some_or(given: Vec<String>, default: &[&str]) -> Vec<String> {
    if given.is_empty() { default.iter().map(ToString::to_string).collect() } else { given }
}

fn size(given: Option<u64>, default: usize) -> usize {
    given.and_then(|given| usize::try_from(given).ok()).unwrap_or(default)
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration `{}`; give its path with `--config`", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the configuration `{}` has {} fault{}:{}", path.display(), faults.len(), plural(faults), list(faults))]
    Faulty { path: PathBuf, faults: Vec<Fault> },
}

fn plural(faults: &[Fault]) -> &'static str {
    if faults.len() == 1 { "" } else { "s" }
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

/// A root that was given there could name anybody, so what it may name is asked for and not assumed.
const TRUST_MOVED: &str = "is no longer read; write a table `[identity.trust.NAME]` with `trust_domain`, `bundle` and \
                           `principals`, which says whom the authority may vouch for";
const DEFAULT_LIVE: u64 = 100_000;
/// What a few thousand machines behind one address need when they come back, and a tenth of what a core can shake.
const DEFAULT_PER_ADDRESS: u32 = 200;
const DEFAULT_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

#[cfg(test)]
mod tests;
