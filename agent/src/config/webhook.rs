//! `webhook.toml`: the admission webhook's own configuration. It holds no secret.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bursar_core::settings::{self, Fault, Section};

use super::{ConfigError, Log};

mod injection;
#[cfg(test)]
mod tests;

pub use injection::{Allowed, Injection, NamespaceDefaults, Resources, Shape, VaultStore};
pub(crate) use injection::{absolute_path, environment_name};

/// Everything that a file can say.
#[derive(Debug)]
pub struct WebhookConfig {
    /// Where the API server asks, by HTTPS.
    pub listen: SocketAddr,
    /// Where health and metrics are served, without TLS; nowhere when not given.
    pub http: Option<SocketAddr>,
    /// The roots that vouch for the broker in pods, PEM.
    pub ca_file: PathBuf,
    /// What is added to pods.
    pub injection: Injection,
    pub serving: Serving,
    pub limits: ReviewLimits,
    pub log: Log,
}

/// Whose certificate is served.
#[derive(Debug, Clone)]
pub enum Serving {
    /// Somebody else's, read again when it changes.
    Files {
        cert: PathBuf,
        key: PathBuf,
    },
    SelfMade(Box<SelfMade>),
}

/// A certificate that the webhook makes, keeps in the cluster and has the API server trust.
#[derive(Debug, Clone)]
pub struct SelfMade {
    /// Where the webhook runs.
    pub namespace: String,
    /// The Service that the API server asks.
    pub service: String,
    /// The MutatingWebhookConfiguration.
    pub configuration: String,
    pub secret: String,
    pub lease: String,
    /// Of a certificate.
    pub life: Duration,
    /// Of an authority.
    pub ca_life: Duration,
    pub api: ApiServer,
}

/// The API server of the cluster.
#[derive(Debug, Clone)]
pub struct ApiServer {
    /// Where it listens, and under which name.
    pub host: String,
    pub port: u16,
    /// The roots that vouch for it, PEM.
    pub ca_file: PathBuf,
    /// The token of the webhook's service account.
    pub token_file: PathBuf,
}

/// Bounds on what the API server can make the webhook do.
#[derive(Debug, Clone, Copy)]
pub struct ReviewLimits {
    /// Open connections.
    pub connections: usize,
    /// Reviews under way.
    pub reviews: usize,
}

impl WebhookConfig {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`], with every fault.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        super::load(path, Self::parse)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Every fault in it.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        settings::read(text, root)
    }
}

fn root(root: &mut Section<'_>) -> Option<WebhookConfig> {
    let listen = root.parsed("listen", super::address).unwrap_or(LISTEN);
    let http = root.section("http", |http| http.parsed("listen", super::address));
    let ca_file = root.path("ca_file");
    let ca_file = root.required("ca_file", ca_file);
    let api = root.section("api", api_server);
    let certificate = root.section_if_given("certificate", |files| {
        let (cert, key) = (files.path("cert"), files.path("key"));
        let (cert, key) = (files.required("cert", cert), files.required("key", key));
        Some(Serving::Files { cert: cert?, key: key? })
    });
    let own = root.section_if_given("self_made", |section| self_made(section, api));
    let serving = match (certificate, own) {
        (Some(_), Some(_)) => {
            root.fault("self_made", "goes without `certificate`; give one of the two".to_owned())
        }
        (None, None) => root.fault(
            "self_made",
            "or `certificate` is required: the API server asks by HTTPS alone".to_owned(),
        ),
        (Some(files), None) => files,
        (None, Some(own)) => own.map(|own| Serving::SelfMade(Box::new(own))),
    };
    let injection = injection::injection(root);
    if let (Some(Serving::SelfMade(own)), Some(injection)) = (&serving, &injection)
        && injection.namespaces.contains_key(&own.namespace)
    {
        let key = format!("namespaces.{}", own.namespace);
        root.fault::<()>(
            &key,
            "is where the webhook runs: it would have to be running to be started".to_owned(),
        );
    }
    let limits = root.section("limits", |limits| ReviewLimits {
        connections: super::size(limits.number("connections", 1..=10_000), 256),
        reviews: super::size(limits.number("reviews", 1..=10_000), 64),
    });
    let log = super::log(root);
    Some(WebhookConfig {
        listen,
        http,
        ca_file: ca_file?,
        injection: injection?,
        serving: serving?,
        limits,
        log,
    })
}

fn self_made(section: &mut Section<'_>, api: Option<ApiServer>) -> Option<SelfMade> {
    let (namespace, service) =
        (section.parsed("namespace", object_name), section.parsed("service", object_name));
    let (namespace, service) =
        (section.required("namespace", namespace), section.required("service", service));
    let configuration = section.parsed("configuration", object_name);
    let configuration = section.required("configuration", configuration);
    let mut named = |key| section.parsed(key, object_name).unwrap_or_else(|| NAME.to_owned());
    let (secret, lease) = (named("secret"), named("lease"));
    let life = section.duration("life").unwrap_or(LIFE);
    let ca_life = section.duration("ca_life").unwrap_or(CA_LIFE);
    if life < SHORTEST {
        section.fault::<()>("life", "must not be shorter than 1h".to_owned());
    }
    if ca_life < life || ca_life > LONGEST {
        section.fault::<()>("ca_life", "must not be shorter than `life`, nor longer than 3650d".to_owned());
    }
    Some(SelfMade {
        namespace: namespace?,
        service: service?,
        configuration: configuration?,
        secret,
        lease,
        life,
        ca_life,
        api: api?,
    })
}

fn api_server(api: &mut Section<'_>) -> Option<ApiServer> {
    let server = api.text("server").unwrap_or_else(|| "https://kubernetes.default.svc".to_owned());
    let account = |name| Path::new(ACCOUNT).join(name);
    let ca_file = api.path("ca_file").unwrap_or_else(|| account("ca.crt"));
    let token_file = api.path("token_file").unwrap_or_else(|| account("token"));
    let uri = server.parse::<http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("https"));
    let host = uri.as_ref().and_then(http::Uri::host).map(|host| host.trim_matches(['[', ']']).to_owned());
    match (uri, host) {
        (Some(uri), Some(host)) if matches!(uri.path(), "" | "/") && uri.query().is_none() => {
            Some(ApiServer { host, port: uri.port_u16().unwrap_or(443), ca_file, token_file })
        }
        _ => api.fault("server", "is `https://HOST[:PORT]`".to_owned()),
    }
}

/// A label of DNS (RFC 1123), as Kubernetes names namespaces and services.
fn object_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = (1..=63).contains(&text.len()) && text.bytes().all(allowed);
    match good && !text.starts_with('-') && !text.ends_with('-') {
        true => Ok(text.to_owned()),
        false => Err("is 1 to 63 lower-case letters, digits and `-`, as Kubernetes has names".to_owned()),
    }
}

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 8443);
/// Where kubelet puts what a pod asks the API server with.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Of the Secret and of the Lease.
const NAME: &str = "bursar-webhook";
const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const CA_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const SHORTEST: Duration = Duration::from_secs(60 * 60);
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
