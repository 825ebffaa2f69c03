//! A store that answers what a test tells it to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use bursar_core::clock::TestClock;
use bursar_core::{BackendName, LeaseId, Secret, SecretPath};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::{Auth, Credential, MountKind, SecretReader, VaultBackend, VaultConfig};

/// The token that the fake grants.
pub(super) const TOKEN: &str = "s.token-canary-Qz7";
/// The secret id that [`config`] logs in with.
pub(super) const SECRET_ID: &str = "secret-id-canary-Wx3";

/// A running fake, stopped when dropped.
pub(super) struct Fake {
    pub(super) address: String,
    seen: Arc<Mutex<Vec<Call>>>,
    _connections: JoinSet<()>,
}

/// A call as it arrived.
#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    pub(super) method: String,
    /// Path and query, escaped, without `/v1`.
    pub(super) target: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

/// What the fake does about a call.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Json(u16, String),
    /// Status, one header, body.
    With(u16, &'static str, String),
    /// These bytes instead of HTTP.
    Raw(Vec<u8>),
    Silence,
}

impl Fake {
    /// Answers as `script` says, and where it says nothing: grants [`TOKEN`] to whoever logs in, knows that token, is
    /// healthy, and has nothing else.
    pub(super) async fn start(script: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut connections = JoinSet::new();
        let calls = Arc::clone(&seen);
        connections.spawn(async move {
            let script = Arc::new(script);
            let mut served = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                served.spawn(serve(stream, Arc::clone(&script), Arc::clone(&calls)));
            }
        });
        Self { address, seen, _connections: connections }
    }

    /// Every call until now, oldest first.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.seen.lock().expect("lock").clone()
    }

    /// How many calls went to `target`.
    pub(super) fn count(&self, target: &str) -> usize {
        self.calls().iter().filter(|call| call.target == target).count()
    }

    /// A backend before this fake.
    pub(super) fn backend(&self) -> VaultBackend {
        backend(config(&self.address))
    }
}

pub(super) fn backend(config: VaultConfig) -> VaultBackend {
    install_provider();
    VaultBackend::new(config, Arc::new(TestClock::new())).expect("configuration")
}

/// `kv` and `kv1` are key-value engines, `db` leases.
pub(super) fn config(address: &str) -> VaultConfig {
    let mounts = [("kv", MountKind::KvV2), ("kv1", MountKind::KvV1), ("db", MountKind::Leased)];
    VaultConfig {
        name: BackendName::parse("vault").expect("name"),
        addresses: vec![address.to_owned()],
        allow_plaintext: true,
        namespace: None,
        auth: Auth::AppRole {
            mount: "approle".to_owned(),
            role_id: "role".to_owned(),
            secret_id: plain(SecretReader::new("a test", || Ok(Secret::from(SECRET_ID.to_owned())))),
        },
        mounts: mounts.map(|(mount, kind)| (mount.to_owned(), kind)).into(),
        parameters: BTreeMap::new(),
        ca_file: None,
        timeout: Duration::from_secs(20),
    }
}

/// A credential as it is.
pub(super) fn plain(reader: SecretReader) -> Credential {
    Credential { reader, wrapping_path: None }
}

pub(super) fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::ring::default_provider().install_default().expect("the only provider");
    });
}

/// The id of some lease.
pub(super) fn lease() -> LeaseId {
    LeaseId::from_bytes([7; 16])
}

pub(super) fn path(text: &str) -> SecretPath {
    SecretPath::from_store(text).expect("path")
}

pub(super) fn json(status: u16, body: &str) -> Option<Reply> {
    Some(Reply::Json(status, body.to_owned()))
}

/// A login that grants `token`.
pub(super) fn granted(token: &str, seconds: u64, renewable: bool) -> Option<Reply> {
    let auth = format!(
        r#"{{"auth":{{"client_token":"{token}","lease_duration":{seconds},"renewable":{renewable}}}}}"#
    );
    json(200, &auth)
}

fn usual(call: &Call) -> Reply {
    let known = call.headers.get("x-vault-token").is_some_and(|token| token == TOKEN);
    let reply = match call.target.as_str() {
        "/auth/approle/login" => granted(TOKEN, 3600, true),
        "/auth/token/lookup-self" if known => json(200, r#"{"data":{"ttl":3600,"renewable":true}}"#),
        "/auth/token/lookup-self" => json(403, r#"{"errors":["permission denied"]}"#),
        "/sys/health" => json(200, "{}"),
        _ => json(404, r#"{"errors":[]}"#),
    };
    reply.expect("each arm answers")
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<impl Fn(&Call) -> Option<Reply>>,
    seen: Arc<Mutex<Vec<Call>>>,
) {
    let Some(call) = receive(&mut stream).await else { return };
    seen.lock().expect("lock").push(call.clone());
    let bytes = match script(&call).unwrap_or_else(|| usual(&call)) {
        Reply::Json(status, body) => http(status, "Content-Type: application/json", &body),
        Reply::With(status, header, body) => http(status, header, &body),
        Reply::Raw(bytes) => bytes,
        Reply::Silence => std::future::pending().await,
    };
    // The client may be gone: some tests want it to be.
    drop(stream.write_all(&bytes).await);
}

fn http(status: u16, header: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{header}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

async fn receive(stream: &mut TcpStream) -> Option<Call> {
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
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a header");
        (name.to_lowercase(), value.to_owned())
    };
    let headers: BTreeMap<_, _> = lines.map(header).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    while bytes.len() < head_end + 4 + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    let body = String::from_utf8(bytes[head_end + 4..].to_vec()).expect("a UTF-8 body");
    let target = target.strip_prefix("/v1").unwrap_or(target).to_owned();
    Some(Call { method, target, headers, body })
}
