//! `[audit]`: where records are shipped to, and how long the ledger keeps them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bursar_core::settings::{Fault, Section};

/// Sinks and retention.
#[derive(Debug, Clone, Default)]
pub struct AuditSettings {
    pub sinks: Vec<SinkConfig>,
    /// Records older than this, which every sink has, are taken out of the ledger.
    pub retention: Option<Duration>,
}

/// One place that every record is shipped to.
#[derive(Debug, Clone)]
pub struct SinkConfig {
    /// Under this name the ledger remembers how far the sink is.
    pub name: String,
    pub kind: SinkKind,
}

/// What each kind of sink needs.
#[derive(Debug, Clone)]
pub enum SinkKind {
    File(FileSink),
    Stdout,
    Syslog(SyslogPlace),
    Otlp(OtlpSink),
}

impl SinkKind {
    /// As the configuration names it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Stdout => "stdout",
            Self::Syslog(_) => "syslog",
            Self::Otlp(_) => "otlp",
        }
    }
}

/// A file of JSON Lines.
#[derive(Debug, Clone)]
pub struct FileSink {
    pub path: PathBuf,
    /// A file that would grow past this is put aside.
    pub rotate_bytes: u64,
    /// How many files that were put aside are kept.
    pub keep: u64,
}

/// Where a syslog daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogPlace {
    /// `HOST:PORT`
    Udp(String),
    /// `HOST:PORT`
    Tcp(String),
    /// A datagram socket.
    Unix(PathBuf),
}

/// A collector of OTLP over gRPC.
#[derive(Debug, Clone)]
pub struct OtlpSink {
    pub endpoint: String,
    /// The roots that vouch for it.
    pub ca_file: Option<PathBuf>,
}

impl AuditSettings {
    /// What is wrong with the places that the configuration names, as far as looking at them tells. A sink that is not
    /// there yet is no fault: it may come, and its records wait for it.
    pub fn misplaced(&self) -> Vec<Fault> {
        let misplaced = self.sinks.iter().filter_map(|sink| {
            let (path, wanted) = match &sink.kind {
                SinkKind::File(file) => (&file.path, "a file in it"),
                SinkKind::Syslog(SyslogPlace::Unix(path)) => (path, "the socket in it"),
                SinkKind::Stdout | SinkKind::Syslog(_) | SinkKind::Otlp(_) => return None,
            };
            let message = format!("`{}` is a directory; name {wanted}", path.display());
            let key = match sink.kind {
                SinkKind::File(_) => "path",
                _ => "address",
            };
            path.is_dir().then(|| Fault { key: format!("audit.sinks.{}.{key}", sink.name), message })
        });
        misplaced.collect()
    }
}

pub(super) fn audit(audit: &mut Section<'_>) -> AuditSettings {
    let retention = audit.duration("retention");
    if retention.is_some_and(|age| age < SHORTEST_RETENTION) {
        audit.fault::<()>("retention", "must be `1h` or longer".to_owned());
    }
    let mut sinks: Vec<SinkConfig> = Vec::new();
    let named = audit.each("sinks", sink);
    for sink in named {
        let taken = sinks.iter().find(|other| same_place(&other.kind, &sink.kind));
        if let Some(other) = taken {
            let message = format!("writes to the same place as `{}`", other.name);
            audit.fault::<()>(&format!("sinks.{}", sink.name), message);
        }
        sinks.push(sink);
    }
    AuditSettings { sinks, retention }
}

fn sink(name: &str, section: &mut Section<'_>) -> Option<SinkConfig> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let well_named = !name.is_empty() && name.len() <= 63 && name.bytes().all(allowed);
    if !well_named {
        section.fault::<()>("", "a sink's name has 1 to 63 of a-z, 0-9 and `-`".to_owned());
    }
    let kind = section.text("kind");
    let kind = section.required("kind", kind);
    let kind = match kind.as_deref().unwrap_or_default() {
        "file" => file(section).map(SinkKind::File),
        "stdout" => Some(SinkKind::Stdout),
        "syslog" => {
            let place = section.parsed("address", syslog_place);
            section.required("address", place).map(SinkKind::Syslog)
        }
        "otlp" => otlp(section).map(SinkKind::Otlp),
        "" => None,
        other => section.fault(
            "kind",
            format!("there is no kind of sink `{other}`; there are `file`, `stdout`, `syslog` and `otlp`"),
        ),
    };
    kind.filter(|_| well_named).map(|kind| SinkConfig { name: name.to_owned(), kind })
}

fn file(section: &mut Section<'_>) -> Option<FileSink> {
    let path = section.path("path");
    let path = section.required("path", path);
    let rotate_bytes = section.number("rotate_bytes", 65_536..=1 << 40).unwrap_or(100 * 1024 * 1024);
    let keep = section.number("keep", 1..=10_000).unwrap_or(10);
    Some(FileSink { path: path?, rotate_bytes, keep })
}

fn otlp(section: &mut Section<'_>) -> Option<OtlpSink> {
    let endpoint = section.parsed("endpoint", |text| {
        let known = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
        let uri = text.parse::<http::Uri>().ok().filter(|uri| known && uri.host().is_some());
        match uri {
            Some(_) => Ok(text.to_owned()),
            None => Err("must be the gRPC endpoint of a collector, such as `http://127.0.0.1:4317`"),
        }
    });
    let endpoint = section.required("endpoint", endpoint);
    let ca_file = section.path("ca_file");
    let secure = endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("https://"));
    if secure && ca_file.is_none() {
        section.fault::<()>(
            "ca_file",
            "is required with `https://`: the roots that vouch for the collector".to_owned(),
        );
    }
    if !secure && endpoint.is_some() && ca_file.is_some() {
        section.fault::<()>("ca_file", "is for `https://` only".to_owned());
    }
    Some(OtlpSink { endpoint: endpoint?, ca_file })
}

fn syslog_place(text: &str) -> Result<SyslogPlace, &'static str> {
    const FORM: &str = "must be `udp://HOST:PORT`, `tcp://HOST:PORT` or `unix:///PATH`";
    let host = |rest: &str| {
        let (host, port) = rest.rsplit_once(':')?;
        (!host.is_empty() && port.parse::<u16>().is_ok()).then(|| rest.to_owned())
    };
    let place = match text.split_once("://") {
        Some(("udp", rest)) => host(rest).map(SyslogPlace::Udp),
        Some(("tcp", rest)) => host(rest).map(SyslogPlace::Tcp),
        Some(("unix", path)) => path.starts_with('/').then(|| SyslogPlace::Unix(path.into())),
        _ => None,
    };
    place.ok_or(FORM)
}

/// Two sinks that write to one file would write over each other's rotation.
fn same_place(one: &SinkKind, other: &SinkKind) -> bool {
    match (one, other) {
        (SinkKind::File(one), SinkKind::File(other)) => one.path == other.path,
        (SinkKind::Stdout, SinkKind::Stdout) => true,
        _ => false,
    }
}

impl fmt::Display for SyslogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

const SHORTEST_RETENTION: Duration = Duration::from_secs(3600);
