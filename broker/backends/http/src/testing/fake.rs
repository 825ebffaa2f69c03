//! A store that answers what a test tells it to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::shown::{acceptor, certificate};

/// A running fake, stopped when dropped.
#[derive(Debug)]
pub struct Fake {
    /// `http://HOST:PORT`, or `https://`.
    pub address: String,
    seen: Arc<Mutex<Vec<Call>>>,
    tls: Option<(TempDir, PathBuf)>,
    _connections: JoinSet<()>,
}

/// A call as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Call {
    pub method: String,
    /// Path and query, escaped.
    pub target: String,
    /// By their names in small letters.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// What the fake does about a call.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Status and body, which is said to be JSON.
    Text(u16, String),
    /// Status, one header, body.
    With(u16, String, String),
    /// These bytes instead of HTTP.
    Raw(Vec<u8>),
    /// A head, and then a byte now and then without an end.
    Drips,
    Silence,
}

impl Call {
    /// Without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The token that it is made with; empty for none.
    pub fn token(&self) -> &str {
        let header = self.headers.get("authorization").and_then(|header| header.strip_prefix("Bearer "));
        header.unwrap_or_default()
    }
}

impl Fake {
    /// Answers as `script` says, in plain text.
    pub async fn start(script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(None, script).await
    }

    /// The same by TLS, with a certificate of its own for `host`.
    pub async fn start_tls(host: &str, script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(Some(host), script).await
    }

    /// Every call until now, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.seen.lock().expect("lock").clone()
    }

    /// The file of its certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.tls.as_ref().map(|(_, file)| file.clone()).expect("a fake that speaks TLS")
    }

    async fn serve(tls_for: Option<&str>, script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let shown = tls_for.map(certificate);
        let tls = shown.as_ref().map(|certificate| {
            let directory = tempfile::tempdir().expect("directory");
            let file = directory.path().join("ca.pem");
            std::fs::write(&file, certificate.cert.pem()).expect("written");
            (directory, file)
        });
        let acceptor = shown.map(acceptor);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", listener.local_addr().expect("address"));
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
                    match acceptor {
                        None => answer(stream, &*script, &calls).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                answer(stream, &*script, &calls).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen, tls, _connections: connections }
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    script: &impl Fn(&Call) -> Reply,
    seen: &Mutex<Vec<Call>>,
) {
    let Some(call) = receive(&mut stream).await else { return };
    seen.lock().expect("lock").push(call.clone());
    let bytes = match script(&call) {
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
    let mut body = bytes.split_off(head_end + 4);
    let head = String::from_utf8(bytes).expect("an ASCII head");
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a header");
        (name.to_lowercase(), value.to_owned())
    };
    let headers: BTreeMap<_, _> = lines.filter(|line| !line.is_empty()).map(header).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    while body.len() < length {
        stream.read_buf(&mut body).await.ok()?;
    }
    Some(Call { method, target, headers, body: String::from_utf8(body).expect("a UTF-8 body") })
}
