//! A vault, an Entra ID and a machine's identity service that answer what a test tells them to, by TLS.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use bursar_core::clock::TestClock;
use bursar_core::{BackendName, Clock, Secret, SecretPath};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::{AzureBackend, AzureConfig, Credentials, Proof, SecretReader};

/// The secret of the application that [`Fake::config`] logs in as.
pub(super) const CLIENT_SECRET: &str = "client-secret-canary-Wx3";
pub(super) const RESOURCE: &str = "https://vault.azure.net";
pub(super) const VERSION: &str = "0123456789abcdef0123456789abcdef";

/// A running fake, stopped when dropped.
pub(super) struct Fake {
    pub(super) address: String,
    pub(super) ca_file: PathBuf,
    _directory: TempDir,
    seen: Arc<Mutex<Vec<Call>>>,
    _connections: JoinSet<()>,
}

/// A call as it arrived.
#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    pub(super) method: String,
    /// With the query.
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Call {
    pub(super) fn is_login(&self) -> bool {
        self.path.contains("/token")
    }

    /// The token that it is made with.
    pub(super) fn token(&self) -> &str {
        let header = self.headers.get("authorization").and_then(|header| header.strip_prefix("Bearer "));
        header.unwrap_or_default()
    }
}

/// What the fake does about a call.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// Status and body.
    Text(u16, String),
    /// Status, one header, body.
    With(u16, String, String),
    /// These bytes instead of HTTP.
    Raw(Vec<u8>),
    /// A head, and then a byte now and then without an end.
    Drips,
    Silence,
}

impl Fake {
    /// Answers as `script` says, and where it says nothing: logins with the token `t`, all else that there is no such
    /// secret.
    pub(super) async fn start(script: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::start_as("127.0.0.1", script).await
    }

    /// The same with a certificate for `host`.
    pub(super) async fn start_as(
        host: &str,
        script: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        install_provider();
        let certificate = generate_simple_self_signed([host.to_owned()]).expect("certificate");
        let directory = tempfile::tempdir().expect("directory");
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, certificate.cert.pem()).expect("written");
        let acceptor = acceptor(certificate);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("https://{}", listener.local_addr().expect("address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut connections = JoinSet::new();
        let calls = Arc::clone(&seen);
        connections.spawn(async move {
            let script = Arc::new(script);
            let mut served = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (acceptor, script, calls) = (acceptor.clone(), Arc::clone(&script), Arc::clone(&calls));
                served.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, script, calls).await;
                    }
                });
            }
        });
        Self { address, ca_file, _directory: directory, seen, _connections: connections }
    }

    /// Every call until now, oldest first.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.seen.lock().expect("lock").clone()
    }

    /// The logins until now.
    pub(super) fn logins(&self) -> Vec<Call> {
        self.calls().into_iter().filter(Call::is_login).collect()
    }

    /// The calls to the vault until now.
    pub(super) fn reads(&self) -> Vec<Call> {
        self.calls().into_iter().filter(|call| !call.is_login()).collect()
    }

    /// As which the backend is configured: an application with a secret.
    pub(super) fn config(&self) -> AzureConfig {
        AzureConfig {
            name: BackendName::parse("azure").expect("name"),
            vault: self.address.clone(),
            resource: Some(RESOURCE.to_owned()),
            ca_file: Some(self.ca_file.clone()),
            timeout: Duration::from_secs(20),
            prefix: String::new(),
            separator: None,
            credentials: self.application(Proof::ClientSecret(holding(CLIENT_SECRET))),
        }
    }

    pub(super) fn application(&self, proof: Proof) -> Credentials {
        Credentials::Application {
            authority: Some(self.address.clone()),
            tenant: "contoso.example".to_owned(),
            client_id: "client".to_owned(),
            proof,
        }
    }

    /// A backend before this fake.
    pub(super) fn backend(&self) -> AzureBackend {
        backend(self.config())
    }
}

pub(super) fn backend(config: AzureConfig) -> AzureBackend {
    backend_at(config, Arc::new(TestClock::new()))
}

pub(super) fn backend_at(config: AzureConfig, clock: Arc<dyn Clock>) -> AzureBackend {
    install_provider();
    AzureBackend::new(config, clock).expect("configuration")
}

pub(super) fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::ring::default_provider().install_default().expect("the only provider");
    });
}

pub(super) fn holding(text: &'static str) -> SecretReader {
    SecretReader::new("a test", move || Ok(Secret::from(text.to_owned())))
}

pub(super) fn path(text: &str) -> SecretPath {
    SecretPath::from_store(text).expect("path")
}

pub(super) fn text(status: u16, body: &str) -> Option<Reply> {
    Some(Reply::Text(status, body.to_owned()))
}

/// A refusal in the form of Key Vault.
pub(super) fn refused(status: u16, code: &str, inner: Option<&str>) -> Option<Reply> {
    let inner = inner.map(|inner| format!(r#","innererror":{{"code":"{inner}"}}"#)).unwrap_or_default();
    text(status, &format!(r#"{{"error":{{"code":"{code}","message":"words of Azure"{inner}}}}}"#))
}

/// The secret `db`; `members` are further ones.
pub(super) fn value(value: &str, members: &str) -> Option<Reply> {
    let id = format!("https://v.vault.azure.net/secrets/db/{VERSION}");
    let attributes = r#""attributes":{"enabled":true,"created":1767225600,"updated":1767225600}"#;
    text(200, &format!(r#"{{"value":{value},"id":"{id}",{attributes}{members}}}"#))
}

/// What Entra ID answers.
pub(super) fn token(token: &str, seconds: u64) -> Option<Reply> {
    let life = format!(r#""expires_in":{seconds},"ext_expires_in":{seconds}"#);
    text(200, &format!(r#"{{"token_type":"Bearer",{life},"access_token":"{token}"}}"#))
}

fn acceptor(certificate: CertifiedKey<KeyPair>) -> TlsAcceptor {
    let CertifiedKey { cert, signing_key } = certificate;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("key");
    let tls = rustls::ServerConfig::builder().with_no_client_auth();
    TlsAcceptor::from(Arc::new(tls.with_single_cert(vec![cert.der().clone()], key).expect("TLS")))
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    script: Arc<impl Fn(&Call) -> Option<Reply>>,
    seen: Arc<Mutex<Vec<Call>>>,
) {
    let Some(call) = receive(&mut stream).await else { return };
    seen.lock().expect("lock").push(call.clone());
    let otherwise = || if call.is_login() { token("t", 3600) } else { refused(404, "SecretNotFound", None) };
    let reply = script(&call).or_else(otherwise);
    let bytes = match reply.expect("a reply") {
        Reply::Text(status, body) => http(status, "Content-Type: application/json", &body),
        Reply::With(status, header, body) => http(status, &header, &body),
        Reply::Raw(bytes) => bytes,
        Reply::Drips => {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await);
            while stream.write_all(b" ").await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            return;
        }
        Reply::Silence => std::future::pending().await,
    };
    // The client may be gone: some tests want it to be.
    drop(stream.write_all(&bytes).await);
    drop(stream.shutdown().await);
}

fn http(status: u16, header: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{header}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Option<Call> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).expect("an ASCII head");
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a header");
        (name.to_lowercase(), value.to_owned())
    };
    let headers: BTreeMap<_, _> = head.lines().skip(1).map(header).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    while bytes.len() < head_end + 4 + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    let body = String::from_utf8(bytes[head_end + 4..].to_vec()).expect("a UTF-8 body");
    let mut line = head.lines().next().expect("a request line").split(' ');
    let mut word = || line.next().unwrap_or_default().to_owned();
    Some(Call { method: word(), path: word(), headers, body })
}
