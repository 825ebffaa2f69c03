//! The agent's configuration: TOML in, typed values out, every fault at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bursar_core::settings::{self, Fault, SecretSource, Section};
use bursar_sdk::Address;

use crate::telemetry::LogFormat;

mod aws;
mod csi;
mod files;
mod hook;
mod run;
mod sds;
mod state;
mod systemd;
mod webhook;

pub use aws::{Aws, Callers, Mount};
pub use csi::Csi;
pub use files::{Account, Content, FileSet, Format, Output};
pub(crate) use files::{format_named, mode, relative};
pub use hook::{Hook, HookAction};
pub(crate) use hook::{process_name, server as local_server, signal, signal_name};
pub use run::{Restart, Run};
pub use sds::Sds;
pub use state::StateSettings;
pub use systemd::{Systemd, Unit};
pub use webhook::{
    Allowed, ApiServer, Injection, NamespaceDefaults, Resources, ReviewLimits, SelfMade, Serving, Shape,
    VaultStore, WebhookConfig,
};
pub(crate) use webhook::{absolute_path, environment_name};

/// Everything that a file can say.
#[derive(Debug)]
pub struct Config {
    /// The broker, always by `https`.
    pub broker: Address,
    /// The certificate authorities that vouch for the broker, in PEM.
    pub ca_file: PathBuf,
    /// The name in the broker's certificate, where it is not the host of `broker`.
    pub server_name: Option<String>,
    /// The name that this machine joins under. Where something else than a join token lets it in, the broker knows the
    /// name; one that is given has to be the same.
    pub node: Option<String>,
    /// Holds the certificate with its key, and the last checkpoint of the audit log.
    pub data_dir: PathBuf,
    /// Where local callers connect.
    pub socket: PathBuf,
    /// Permission bits of the socket. Everybody may connect unless told otherwise: who calls is attested.
    pub socket_mode: u32,
    /// What lets the machine in.
    pub join: Option<Join>,
    /// Where health and metrics are served, without TLS; nowhere when not given.
    pub http: Option<SocketAddr>,
    pub cache: CacheLimits,
    /// What is kept through a restart; nothing when not given.
    pub state: Option<StateSettings>,
    pub limits: Limits,
    /// The port for programs made for AWS; none when not given.
    pub aws: Option<Aws>,
    /// What is delivered as files.
    pub files: Vec<FileSet>,
    /// Where the driver of CSI volumes asks, if anywhere.
    pub csi: Option<Csi>,
    /// Where Envoy asks for its secrets, if anywhere.
    pub sds: Option<Sds>,
    /// Where systemd asks, if anywhere.
    pub systemd: Option<Systemd>,
    /// What is kept running.
    pub runs: Vec<Run>,
    /// The `bursar` that keeps it running; the one beside the agent's own program when not given.
    pub cli: Option<PathBuf>,
    pub log: Log,
}

/// What lets a machine in.
#[derive(Debug, Clone)]
pub enum Join {
    /// A one-time token; not needed once the machine has joined.
    Token(SecretSource),
    /// The token of the agent's own service account, which kubelet puts into a file and replaces there.
    Kubernetes { token_file: PathBuf },
    /// A certificate that the machine has already, PEM.
    Certificate { cert: PathBuf, key: PathBuf },
}

impl Join {
    /// Whether the broker knows by it which node this is, each time that it is asked for a certificate.
    pub fn names_the_node(&self) -> bool {
        !matches!(self, Self::Token(_))
    }
}

/// What is kept in memory, and for how long it is good.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// Bytes of values and of what is kept beside them.
    pub bytes: u64,
    pub entries: usize,
    /// For so long a value is served without asking the broker.
    pub fresh_for: Duration,
    pub on_outage: OnOutage,
}

/// What a read gets while the broker cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOutage {
    /// The cached value with its age, until its lease ends.
    Serve,
    /// An error.
    Fail,
}

/// Bounds on what local callers can make the agent do.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Of these, from processes of one user.
    pub connections_per_user: usize,
    /// Calls under way on one connection.
    pub streams: u32,
    /// The broker has so long to begin an answer.
    pub deadline: Duration,
}

/// What is logged, and how.
#[derive(Debug)]
pub struct Log {
    pub format: LogFormat,
    /// In the form of `RUST_LOG`.
    pub filter: String,
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`], with every fault.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        load(path, Self::parse)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Every fault in it.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        settings::read(text, root)
    }

    /// With no more places for connections than a process can serve that may have so many files open: one without any to
    /// spare can attest nobody, reach no broker and write nothing. A quarter is left for what is no connection.
    #[must_use]
    pub fn within(mut self, files: u64) -> Self {
        // Those that have places of their own, beside the rest, which share theirs.
        let sockets = 1 + u64::from(self.csi.is_some()) + u64::from(self.systemd.is_some());
        let places = (files - files / 4) / (FILES_OF_CONNECTION * sockets);
        let places = usize::try_from(places).unwrap_or(usize::MAX).max(1);
        let Limits { connections, connections_per_user, .. } = self.limits;
        if places < connections {
            // Who could not take all of them before cannot now.
            let per_user = connections_per_user.saturating_mul(places) / connections;
            (self.limits.connections, self.limits.connections_per_user) = (places, per_user.max(1));
        }
        self
    }
}

fn load<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, Vec<Fault>>) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse(&text).map_err(|faults| ConfigError::Faulty { path: path.to_owned(), faults })
}

fn root(root: &mut Section<'_>) -> Option<Config> {
    let broker = root.parsed("broker", broker_address);
    let broker = root.required("broker", broker);
    let ca_file = root.path("ca_file");
    let ca_file = root.required("ca_file", ca_file);
    let server_name = root.text("server_name");
    let (join, is_named_by_it) = join(root);
    let node = root.parsed("node", node_name);
    let node = if is_named_by_it { Some(node) } else { root.required("node", node).map(Some) };
    let data_dir = root.path("data_dir");
    let data_dir = root.required("data_dir", data_dir);
    let socket = root.path("socket").unwrap_or_else(|| PathBuf::from("/run/bursar/agent.sock"));
    let socket_mode = root.parsed("socket_mode", socket_mode).unwrap_or(0o666);
    let http = root.section("http", |http| http.parsed("listen", address));
    let cache = root.section("cache", cache);
    let state = state::state(root, data_dir.as_deref(), &cache);
    let limits = root.section("limits", limits);
    let aws = root.section_if_given("aws", aws::aws).flatten();
    let files = files::file_sets(root);
    let csi = root.section_if_given("csi", csi::csi).flatten();
    let sds = root.section_if_given("sds", sds::sds).flatten();
    let systemd = root.section_if_given("systemd", systemd::systemd).flatten();
    let sockets = [
        ("socket", Some(&socket)),
        ("csi.socket", csi.as_ref().map(|csi| &csi.socket)),
        ("sds.socket", sds.as_ref().map(|sds| &sds.socket)),
        ("systemd.socket", systemd.as_ref().map(|systemd| &systemd.socket)),
    ];
    keep_apart(root, &sockets);
    let runs = run::runs(root);
    let cli = root.parsed("cli", files::absolute);
    let log = log(root);
    Some(Config {
        broker: broker?,
        ca_file: ca_file?,
        server_name,
        node: node?,
        data_dir: data_dir?,
        socket,
        socket_mode,
        join,
        http,
        cache,
        state,
        limits,
        aws,
        files,
        csi,
        sds,
        systemd,
        runs,
        cli,
        log,
    })
}

/// Each socket has a path of its own.
fn keep_apart(root: &mut Section<'_>, sockets: &[(&str, Option<&PathBuf>)]) {
    for (place, (key, path)) in sockets.iter().enumerate() {
        let mut before = sockets.iter().take(place).filter(|(_, other)| path.is_some() && other == path);
        if let Some((other, _)) = before.next() {
            root.fault::<()>(key, format!("is `{other}` too; give it a path of its own"));
        }
    }
}

/// What lets the machine in, and whether that, good or faulty, is something that says which node it is.
fn join(root: &mut Section<'_>) -> (Option<Join>, bool) {
    let token = root.secret_source("join_token").map(Join::Token);
    let kubernetes = root.section_if_given("join_kubernetes", |section| {
        let token_file = section.path("token_file");
        Some(Join::Kubernetes { token_file: section.required("token_file", token_file)? })
    });
    let certificate = root.section_if_given("join_certificate", |section| {
        let (cert, key) = (section.path("cert"), section.path("key"));
        let (cert, key) = (section.required("cert", cert), section.required("key", key));
        Some(Join::Certificate { cert: cert?, key: key? })
    });
    let named = kubernetes.is_some() || certificate.is_some();
    let (others, key) = match certificate {
        Some(_) => (token.is_some() || kubernetes.is_some(), "join_certificate"),
        None => (token.is_some() && kubernetes.is_some(), "join_kubernetes"),
    };
    if others {
        let message = "is one of several things that let this machine in; give one".to_owned();
        return (root.fault(key, message), named);
    }
    (token.or(kubernetes.flatten()).or(certificate.flatten()), named)
}

fn cache(cache: &mut Section<'_>) -> CacheLimits {
    let limits = CacheLimits {
        bytes: cache.number("bytes", 1024 * 1024..=u64::from(u32::MAX)).unwrap_or(32 * 1024 * 1024),
        entries: size(cache.number("entries", 1..=1_000_000), 10_000),
        fresh_for: cache.duration("fresh_for").unwrap_or(Duration::from_secs(30)),
        on_outage: cache.parsed("on_outage", on_outage).unwrap_or(OnOutage::Serve),
    };
    if limits.fresh_for > MAX_FRESH {
        cache.fault::<()>("fresh_for", "must not be longer than 1h".to_owned());
    }
    limits
}

fn limits(limits: &mut Section<'_>) -> Limits {
    let connections = size(limits.number("connections", 1..=100_000), 1024);
    let read = Limits {
        connections,
        connections_per_user: size(limits.number("connections_per_user", 1..=100_000), connections.min(256)),
        streams: u32::try_from(limits.number("streams", 1..=10_000).unwrap_or(128)).unwrap_or(128),
        deadline: limits.duration("deadline").unwrap_or(Duration::from_secs(15)),
    };
    if read.connections_per_user > read.connections {
        limits.fault::<()>("connections_per_user", "must not be more than `connections`".to_owned());
    }
    if read.deadline.is_zero() {
        limits.fault::<()>("deadline", "must be longer than nothing".to_owned());
    }
    read
}

fn log(root: &mut Section<'_>) -> Log {
    root.section("log", |log| Log {
        format: log.parsed("format", str::parse).unwrap_or(LogFormat::Json),
        filter: log.text("filter").unwrap_or_else(|| "info".to_owned()),
    })
}

fn broker_address(text: &str) -> Result<Address, String> {
    let address = Address::parse(text).map_err(|error| error.to_string())?;
    match address.socket() {
        Some(_) => Err("is the socket of an agent; write `https://HOST:PORT` for the broker".to_owned()),
        None => Ok(address),
    }
}

/// A name that can be a segment of a SPIFFE ID (SPIFFE-ID standard, section 2.2).
fn node_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > 253 || !text.bytes().all(allowed) || matches!(text, "." | "..") {
        return Err("is 1 to 253 letters, digits, `.`, `_` and `-`".to_owned());
    }
    Ok(text.to_owned())
}

fn socket_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777 && mode & 0o600 == 0o600);
    mode.ok_or_else(|| format!("`{}` is no mode; write one like \"0666\" or \"0660\"", text.escape_default()))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let no_address =
        |_| format!("`{}` is no address; write one like `127.0.0.1:8490`", text.escape_default());
    text.parse().map_err(no_address)
}

fn on_outage(text: &str) -> Result<OnOutage, String> {
    match text {
        "serve" => Ok(OnOutage::Serve),
        "fail" => Ok(OnOutage::Fail),
        other => Err(format!("is `serve` or `fail`, not `{}`", other.escape_default())),
    }
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

/// The connection, and a handle on the process behind it.
const FILES_OF_CONNECTION: u64 = 2;
/// A value that is not asked about for longer is not fresh by any meaning of the word.
const MAX_FRESH: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
