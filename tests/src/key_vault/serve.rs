//! HTTP by TLS, one request a connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use crate::certificate::ServerFiles;

/// Serves until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    pub(super) query: String,
    /// Names in small letters.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) status: u16,
    /// Whole lines.
    pub(super) headers: Vec<String>,
    pub(super) body: String,
}

impl Server {
    /// Answers what `answer` says, and leaves without an answer what it says nothing to.
    pub(super) fn start(
        files: &ServerFiles,
        answer: impl Fn(&Request) -> Option<Response> + Send + Sync + 'static,
    ) -> Result<Self> {
        let certificate = CertificateDer::from_pem_file(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = Arc::new(tls.with_no_client_auth().with_single_cert(vec![certificate], key)?);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (stop, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(answer));
        let stopped = Arc::clone(&stop);
        let accepting = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let (tls, stopped, answer) = (Arc::clone(&tls), Arc::clone(&stopped), Arc::clone(&answer));
                // Ends with its connection, whatever becomes of that.
                thread::spawn(move || drop(serve(client, tls, &stopped, &*answer)));
            }
        });
        Ok(Self { address, stop, accepting: Some(accepting) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes whoever accepts, so that it sees.
        drop(TcpStream::connect(self.address));
        drop(self.accepting.take().map(JoinHandle::join));
    }
}

impl Request {
    /// The host that was asked for.
    pub(super) fn host(&self) -> &str {
        self.headers.get("host").map(String::as_str).unwrap_or_default()
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        value(&self.query, name)
    }

    /// A pair of the body, where that is a form.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        value(&self.body, name)
    }
}

impl Response {
    pub(super) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self { status, headers: vec!["Content-Type: application/json".to_owned()], body: body.to_string() }
    }

    /// A refusal in Key Vault's form.
    pub(super) fn fault(status: u16, code: &str, inner: Option<&str>) -> Self {
        let mut error = json!({ "code": code, "message": format!("{code}, in the words of a vault") });
        if let (Some(inner), Some(error)) = (inner, error.as_object_mut()) {
            error.insert("innererror".to_owned(), json!({ "code": inner }));
        }
        Self::json(status, &json!({ "error": error }))
    }
}

fn serve(
    client: TcpStream,
    tls: Arc<ServerConfig>,
    stopped: &AtomicBool,
    answer: &dyn Fn(&Request) -> Option<Response>,
) -> Result<()> {
    client.set_read_timeout(Some(LIMIT))?;
    let mut reader = BufReader::new(StreamOwned::new(ServerConnection::new(tls)?, client));
    let request = receive(&mut reader)?;
    let stream = reader.get_mut();
    let Some(response) = answer(&request) else {
        // Until the client has had enough, or the server is to go.
        stream.sock.set_read_timeout(Some(Duration::from_millis(100)))?;
        while !stopped.load(Ordering::Acquire) && !matches!(stream.sock.peek(&mut [0]), Ok(0)) {}
        return Ok(());
    };
    let Response { status, headers, body } = response;
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())?;
    stream.conn.send_close_notify();
    Ok(stream.flush()?)
}

fn receive(reader: &mut impl BufRead) -> Result<Request> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let mut word = || words.next().context("no request line").map(str::to_owned);
    let (method, target) = (word()?, word()?);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut request =
        Request { method, path: path.to_owned(), query: query.to_owned(), ..Request::default() };
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':') {
            request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let length = request.headers.get("content-length").map_or(Ok(0), |length| length.parse())?;
    reader.take(length).read_to_string(&mut request.body)?;
    Ok(request)
}

/// A value of `name=value&…`, without its escapes.
fn value(pairs: &str, name: &str) -> Option<String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key) == name).then(|| decoded(value))
    };
    pairs.split('&').find_map(pair)
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escape = after.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let escaped = escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| byte == b'%');
        bytes.push(escaped.unwrap_or(if byte == b'+' { b' ' } else { byte }));
        rest = if escaped.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The longest wait for a client to say what it wants.
const LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_without_its_escapes() {
        let pairs = "a=1&scope=https%3A%2F%2Fv%2F.default&b=x+y%";
        assert_eq!(value(pairs, "scope").as_deref(), Some("https://v/.default"));
        assert_eq!(value(pairs, "b").as_deref(), Some("x y%"));
        assert_eq!(value(pairs, "c"), None);
    }
}
