//! A store with an authority, a broker, an agent, an Envoy, and a server behind it that says which token it was sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use bursar_tests::{Agent, Broker, Canary, Cli, Envoy, OpenBao, free_port, http, wait_until};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use super::LIMIT;

pub(super) struct Site {
    pub(super) administrator: Cli,
    pub(super) envoy: Envoy,
    pub(super) agent: Agent,
    _behind: Behind,
    secure: SocketAddr,
    plain: SocketAddr,
    client: Arc<ClientConfig>,
    _folder: tempfile::TempDir,
    _broker: Broker,
    _bao: OpenBao,
}

impl Site {
    /// With `token` in the local store, under `policies`.
    pub(super) fn start(token: &Canary, policies: &str) -> Result<Self> {
        let bao = OpenBao::start()?;
        bao.api("POST", "sys/mounts/pki", &json!({ "type": "pki" }))?;
        let root = json!({ "common_name": "Authority of a test", "ttl": "24h" });
        let root = bao.api("POST", "pki/root/generate/internal", &root)?;
        let root = root.pointer("/data/certificate").and_then(Value::as_str).context("no authority")?;
        let role = json!({
            "allowed_domains": ["example.org"], "allow_subdomains": true, "generate_lease": true, "max_ttl": "12h",
        });
        bao.api("POST", "pki/roles/web", &role)?;
        let vault = bao.backend("vault", BAO_POLICY, "{ pki = 'pki' }")?;
        let broker = Broker::start(&format!("[backends.local]\nkind = 'local'\n{vault}"))?;
        let administrator = Cli::administering(&broker)?;
        administrator.apply_policies(policies, &registrations()?)?;
        administrator.write("shop.toml", ENVIRONMENT)?;
        put(&administrator, token)?;
        administrator.done(&["env", "apply", "shop.toml"])?;

        let folder = tempfile::Builder::new().prefix("bursar-sds-").tempdir()?;
        let socket = folder.path().join("sds.sock");
        let join = administrator.done(&["node", "token", "web-1"])?;
        let sds = format!("[sds]\nsocket = '{}'\n", socket.display());
        let agent = Agent::start_with(&broker, "web-1", join.trim(), &sds)?;
        let (behind, secure, plain) = (Behind::start()?, free_port()?, free_port()?);
        let envoy = Envoy::start(&bootstrap(&socket.display().to_string(), secure, plain, behind.address))?;
        let client = Arc::new(client(root)?);
        Ok(Self {
            administrator,
            envoy,
            agent,
            _behind: behind,
            secure,
            plain,
            client,
            _folder: folder,
            _broker: broker,
            _bao: bao,
        })
    }

    pub(super) fn put(&self, token: &Canary) -> Result<()> {
        put(&self.administrator, token)
    }

    pub(super) fn apply(&self, policies: &str) -> Result<()> {
        self.administrator.apply_policies(policies, &registrations()?)
    }

    /// Revokes every lease below a path.
    pub(super) fn revoke(&self, path: &str) -> Result<()> {
        let command = ["lease", "revoke-many", "--path", path, "--yes", "--reason", "a test"];
        self.administrator.done(&command).map(drop)
    }

    /// The certificate that a client sees who trusts the store's authority.
    pub(super) fn certificate(&self) -> Result<CertificateDer<'static>> {
        let name = ServerName::try_from(NAME)?;
        let connection = ClientConnection::new(Arc::clone(&self.client), name)?;
        let stream = TcpStream::connect_timeout(&self.secure, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut stream = StreamOwned::new(connection, stream);
        stream.write_all(format!("GET / HTTP/1.0\r\nHost: {NAME}\r\n\r\n").as_bytes())?;
        let mut first = [0; 12];
        stream.read_exact(&mut first)?;
        ensure!(first == *b"HTTP/1.1 200" || first == *b"HTTP/1.0 200", "no answer of a listener");
        let certificates = stream.conn.peer_certificates().context("no certificate")?;
        Ok(certificates.first().context("no certificate")?.clone().into_owned())
    }

    /// Whether Envoy, as a client of its own listener, trusts what it finds there.
    pub(super) fn reaches_itself(&self) -> Result<bool> {
        Ok(http::request(self.plain, "GET", "/itself", &[], &[])?.status == 200)
    }

    /// What the server behind Envoy is sent as `authorization`.
    pub(super) fn sent(&self) -> Result<String> {
        let answer = http::request(self.plain, "GET", "/behind", &[], &[])?;
        ensure!(answer.status == 200, "the answer is {}", answer.status);
        Ok(String::from_utf8(answer.body)?)
    }

    /// Waits until that is this token.
    pub(super) fn until_token(&self, token: &Canary) -> Result<()> {
        let wanted = format!("Bearer {}", token.value());
        wait_until(LIMIT, "the token to be sent", || self.sent().is_ok_and(|sent| sent == wanted))
    }

    /// Waits for words in the agent's log.
    pub(super) fn agent_says(&self, words: &str) -> Result<()> {
        let log = self.agent.directory().join("agent.stderr");
        wait_until(LIMIT, words, || std::fs::read_to_string(&log).is_ok_and(|log| log.contains(words)))
    }
}

fn put(administrator: &Cli, token: &Canary) -> Result<()> {
    let put = ["secret", "put", "local/shop/api", "--field", "token"];
    administrator.done_with(&put, token.value().as_bytes()).map(drop)
}

/// Envoy is known by its program.
fn registrations() -> Result<String> {
    let program = Envoy::program()?;
    Ok(format!(
        "[[registration]]\nprincipal = \"spiffe://example.org/workload/web\"\nnode = \"web-1\"\n\
         selectors = [\"unix:exe:{}\"]\n",
        program.display()
    ))
}

/// A listener with a certificate, and one without that adds a token and trusts an authority.
fn bootstrap(socket: &str, secure: SocketAddr, plain: SocketAddr, behind: SocketAddr) -> Value {
    let sds = |name: &str| {
        json!({ "name": name, "sds_config": {
            "resource_api_version": "V3",
            "api_config_source": { "api_type": "GRPC", "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "bursar" } }] },
        } })
    };
    let tls = json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": tls_type("DownstreamTlsContext"),
        "common_tls_context": { "tls_certificate_sds_secret_configs": [sds(&format!("tls:{CERTIFICATE}"))] },
    } });
    let believing = json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": tls_type("UpstreamTlsContext"),
        "sni": NAME,
        "common_tls_context": { "validation_context_sds_secret_config": sds(&format!("ca:{CERTIFICATE}")) },
    } });
    let injector = json!({ "name": "envoy.filters.http.credential_injector", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
        "overwrite": true,
        "credential": { "name": "envoy.http.injected_credentials.generic", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic",
            "credential": sds("env:shop#AUTHORIZATION"),
        } },
    } });
    let by_http2 = json!({ "explicit_http_config": { "http2_protocol_options": {} } });
    // Each request has a handshake of its own: what Envoy believed when it opened a connection holds as long as that.
    let once = json!({
        "explicit_http_config": { "http_protocol_options": {} },
        "common_http_protocol_options": { "max_requests_per_connection": 1 },
    });
    let answer = json!({ "match": { "prefix": "/" }, "direct_response": { "status": 200 } });
    let to = |prefix: &str, cluster: &str| json!({ "match": { "prefix": prefix }, "route": { "cluster": cluster } });
    json!({
        "node": { "id": "test", "cluster": "test" },
        "admin": { "address": address("127.0.0.1:0".parse().ok()) },
        "static_resources": {
            "listeners": [
                listener("secure", secure, Some(&tls), &[], &[answer]),
                listener("plain", plain, None, &[injector], &[to("/behind", "behind"), to("/itself", "itself")]),
            ],
            "clusters": [
                cluster("bursar", &json!({ "pipe": { "path": socket } }), &by_http2, None),
                cluster("behind", &address(Some(behind)), &once, None),
                cluster("itself", &address(Some(secure)), &once, Some(&believing)),
            ],
        },
    })
}

fn listener(
    name: &str,
    at: SocketAddr,
    transport_socket: Option<&Value>,
    filters: &[Value],
    routes: &[Value],
) -> Value {
    let router = json!({ "name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    } });
    let filters = [filters, &[router]].concat();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_protocol_options": { "accept_http_10": true },
        "route_config": { "virtual_hosts": [{ "name": name, "domains": ["*"], "routes": routes }] },
        "http_filters": filters,
    });
    let manager = json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager });
    let mut chain = json!({ "filters": [manager] });
    if let (Some(chain), Some(transport_socket)) = (chain.as_object_mut(), transport_socket) {
        chain.insert("transport_socket".to_owned(), transport_socket.clone());
    }
    json!({ "name": name, "address": address(Some(at)), "filter_chains": [chain] })
}

fn address(at: Option<SocketAddr>) -> Value {
    let (host, port) = at.map(|at| (at.ip().to_string(), at.port())).unwrap_or_default();
    json!({ "socket_address": { "address": host, "port_value": port } })
}

fn cluster(name: &str, at: &Value, protocol: &Value, transport_socket: Option<&Value>) -> Value {
    let mut protocol = protocol.clone();
    let mut cluster = json!({
        "name": name,
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": at } }] }],
        },
    });
    if let (Some(cluster), Some(protocol)) = (cluster.as_object_mut(), protocol.as_object_mut()) {
        protocol.insert("@type".to_owned(), json!(format!("type.googleapis.com/{HTTP}")));
        cluster.insert("typed_extension_protocol_options".to_owned(), json!({ HTTP: protocol }));
        cluster.extend(transport_socket.map(|socket| ("transport_socket".to_owned(), socket.clone())));
    }
    cluster
}

fn tls_type(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{name}")
}

/// One who trusts the authority `root` alone.
fn client(root: &str) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// A server that answers what it is sent as `authorization`. Its thread ends on drop.
struct Behind {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Behind {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, stop) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let stopping = Arc::clone(&stop);
        std::thread::Builder::new().spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                // Envoy asks again, and the test sees what it does not get.
                drop(answer(stream));
            }
        })?;
        Ok(Self { address, stop })
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    let mut sent = String::new();
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                sent = value.trim().to_owned();
            }
            Some(_) => {}
            None if line.is_empty() => break,
            None => {}
        }
    }
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", sent.len());
    stream.write_all(head.as_bytes())?;
    Ok(stream.write_all(sent.as_bytes())?)
}

const HTTP: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const NAME: &str = "app.example.org";
const CERTIFICATE: &str = "vault/pki/issue/web/app.example.org";

const ENVIRONMENT: &str = r#"
[environment.shop.vars]
AUTHORIZATION = { compose = "Bearer ${local/shop/api#token}" }
"#;

const BAO_POLICY: &str = r#"
path "pki/issue/web" { capabilities = ["create", "update"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/lookup/*" { capabilities = ["list", "sudo"] }
"#;
