//! Secret Manager, token endpoint and metadata server that answer what a test tells them to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use bursar_core::clock::TestClock;
use bursar_core::{BackendName, Secret, SecretPath};
use data_encoding::BASE64;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::crc32c::crc32c;
use crate::{Credentials, GcpBackend, GcpConfig, SecretReader};

/// What [`account`] signs with.
pub(super) const KEY: &str = include_str!("key.pem");
/// Where `GET`s of the project's secrets go.
pub(super) const SECRETS: &str = "/v1/projects/shop/secrets";

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
    /// With the query.
    pub(super) target: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Call {
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// What is asked for a token, whichever way.
    pub(super) fn is_login(&self) -> bool {
        !self.path().starts_with("/v1/")
    }

    /// The token that it is made with; empty for none.
    pub(super) fn token(&self) -> &str {
        let header = self.headers.get("authorization").map(String::as_str).unwrap_or_default();
        header.strip_prefix("Bearer ").unwrap_or_default()
    }
}

/// What the fake does about a call.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// Status and body.
    Text(u16, String),
    /// Status, one header, body.
    With(u16, &'static str, String),
    /// These bytes instead of HTTP.
    Raw(Vec<u8>),
    /// A head, and then a byte now and then without an end.
    Drips,
    Silence,
}

impl Fake {
    /// Answers as `script` says, and that there is nothing where it says nothing.
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

    /// The calls for a token.
    pub(super) fn logins(&self) -> Vec<Call> {
        self.calls().into_iter().filter(Call::is_login).collect()
    }

    /// `HOST:PORT`
    pub(super) fn host(&self) -> &str {
        self.address.trim_start_matches("http://")
    }

    /// A backend before this fake, which is asked for no token.
    pub(super) fn backend(&self) -> GcpBackend {
        backend(config(&self.address))
    }

    /// One that gets its token here by the key of a service account.
    pub(super) fn backend_with_key(&self) -> GcpBackend {
        backend(GcpConfig { credentials: Some(json(account(&self.address))), ..config(&self.address) })
    }
}

pub(super) fn backend(config: GcpConfig) -> GcpBackend {
    install_provider();
    GcpBackend::new(config, Arc::new(TestClock::new())).expect("configuration")
}

pub(super) fn config(address: &str) -> GcpConfig {
    GcpConfig {
        name: BackendName::parse("gcp").expect("name"),
        project: "shop".to_owned(),
        location: None,
        endpoint: Some(address.to_owned()),
        allow_plaintext: true,
        ca_file: None,
        timeout: Duration::from_secs(20),
        prefix: String::new(),
        separator: None,
        credentials: None,
    }
}

/// The key of a service account, whose token endpoint is at `address`.
pub(super) fn account(address: &str) -> Value {
    json!({
        "type": "service_account", "project_id": "shop", "private_key_id": "key-1", "private_key": KEY,
        "client_email": "broker@shop.iam.gserviceaccount.com", "token_uri": format!("{address}/token"),
    })
}

/// A credential in Google's JSON.
pub(super) fn json(credential: Value) -> Credentials {
    Credentials::Json(reader(credential.to_string()))
}

pub(super) fn reader(text: String) -> SecretReader {
    SecretReader::new("a test", move || Ok(Secret::from(text.clone())))
}

pub(super) fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::ring::default_provider().install_default().expect("the only provider");
    });
}

pub(super) fn path(text: &str) -> SecretPath {
    SecretPath::from_store(text).expect("path")
}

pub(super) fn text(status: u16, body: impl ToString) -> Option<Reply> {
    Some(Reply::Text(status, body.to_string()))
}

/// A refusal in the form of Google's APIs.
pub(super) fn refused(status: u16, code: &str) -> Option<Reply> {
    text(status, json!({ "error": { "code": status, "message": "words of Google", "status": code } }))
}

/// Version 3 of the secret `db` with this value.
pub(super) fn value(value: &[u8]) -> Option<Reply> {
    text(200, accessed(value, crc32c(value)))
}

pub(super) fn accessed(value: &[u8], checksum: u32) -> Value {
    json!({
        "name": "projects/4711/secrets/db/versions/3",
        "payload": { "data": BASE64.encode(value), "dataCrc32c": checksum.to_string() },
    })
}

/// What a token endpoint and the metadata server answer.
pub(super) fn token(token: &str, seconds: u64) -> Option<Reply> {
    text(200, json!({ "access_token": token, "expires_in": seconds, "token_type": "Bearer" }))
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<impl Fn(&Call) -> Option<Reply>>,
    seen: Arc<Mutex<Vec<Call>>>,
) {
    let Some(call) = receive(&mut stream).await else { return };
    seen.lock().expect("lock").push(call.clone());
    let reply = script(&call).or_else(|| refused(404, "NOT_FOUND"));
    let bytes = match reply.expect("a reply") {
        Reply::Text(status, body) => http(status, "Content-Type: application/json", &body),
        Reply::With(status, header, body) => http(status, header, &body),
        Reply::Raw(bytes) => bytes,
        Reply::Drips => {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await);
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            return;
        }
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
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Some(Call { method: method.to_owned(), target: target.to_owned(), headers, body })
}
