//! The servers of whoever signs tokens: discovery and key set, the device grant, and a cluster's `TokenReview`, over
//! TLS.

mod device;

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

pub use self::device::DeviceAnswer;
use self::device::{Device, OFFERS, TOKENS};
use crate::certificate::ServerFiles;
use crate::token_issuer::TokenIssuer;

/// A running server on loopback. Its thread ends on drop.
pub struct IssuerDoor {
    address: SocketAddr,
    files: ServerFiles,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    shared: Arc<Shared>,
    directory: TempDir,
}

struct Shared {
    url: String,
    keys: Mutex<Vec<Value>>,
    /// What the discovery document says: whose it is, and where the keys are.
    document: Mutex<Value>,
    /// The paths that were asked for with a token.
    shown: Mutex<Vec<String>>,
    /// What is said of tokens that are reviewed.
    verdict: Mutex<Verdict>,
    device: Device,
    away: AtomicBool,
    stop: AtomicBool,
    asked: AtomicUsize,
    reviewed: AtomicUsize,
}

/// What a cluster says of the tokens that it is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It knows them, by what they say.
    Known,
    /// Their pods are gone.
    Gone,
    /// It has not looked at their audience.
    NoAudience,
    /// They are of somebody else.
    Another,
    /// It answers with an error.
    Broken,
    /// The broker may not ask.
    Forbidden,
}

impl IssuerDoor {
    /// Starts one that has no keys, and knows every token.
    ///
    /// # Errors
    /// No port can be had.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-issuer-").tempdir()?;
        let files = ServerFiles::make(directory.path())?;
        let config = Arc::new(Mutex::new(Arc::new(showing(&files)?)));
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            url: format!("https://{address}"),
            keys: Mutex::default(),
            document: Mutex::new(json!({
                "issuer": format!("https://{address}"), "jwks_uri": format!("https://{address}/keys"),
            })),
            shown: Mutex::default(),
            verdict: Mutex::new(Verdict::Known),
            device: Device::default(),
            away: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            reviewed: AtomicUsize::new(0),
        });
        let (served, shown) = (Arc::clone(&shared), Arc::clone(&config));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.stop.load(Ordering::Acquire) {
                    return;
                }
                let served = Arc::clone(&served);
                let config = Arc::clone(&shown.lock().unwrap_or_else(PoisonError::into_inner));
                // Who asks gets an error of its own when this fails.
                thread::spawn(move || drop(served.answer(stream, config)));
            }
        });
        Ok(Self { address, files, config, shared, directory })
    }

    /// Base URL, which is its `iss` too.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// The certificate of the authority that vouches for it.
    pub fn ca(&self) -> &Path {
        &self.files.authority
    }

    /// Shows from now on a certificate by another authority, which is in [`ca`](Self::ca) then.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn replace_authority(&self) -> Result<()> {
        ServerFiles::make(self.directory.path())?;
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(showing(&self.files)?);
        Ok(())
    }

    /// Gives tokens to devices: answers whoever asks for a code by `offer`, and then by each of `tokens`, the last of
    /// them again and again.
    pub fn grant(&self, offer: DeviceAnswer, tokens: Vec<DeviceAnswer>) {
        self.shared.device.say(offer, tokens);
        self.shared.say("device_authorization_endpoint", &format!("{}{OFFERS}", self.url()));
        self.shared.say("token_endpoint", &format!("{}{TOKENS}", self.url()));
    }

    /// The forms by which devices asked for a code.
    pub fn asked_for_codes(&self) -> Vec<String> {
        self.shared.device.asked(OFFERS)
    }

    /// The forms by which devices asked for a token.
    pub fn asked_for_tokens(&self) -> Vec<String> {
        self.shared.device.asked(TOKENS)
    }

    /// Has these keys from now on, and no others.
    pub fn publish(&self, issuers: &[&TokenIssuer]) {
        let keys = issuers.iter().map(|issuer| issuer.jwk().clone()).collect();
        *self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Says from now on that it is `issuer`.
    pub fn pretend(&self, issuer: &str) {
        self.shared.say("issuer", issuer);
    }

    /// Says from now on that its keys are at another name of this machine.
    pub fn keep_keys_elsewhere(&self) {
        self.shared.say("jwks_uri", &format!("https://localhost:{}/keys", self.address.port()));
    }

    /// The paths that were asked for with a token.
    pub fn shown(&self) -> Vec<String> {
        self.shared.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hangs up on everybody, or does not any more.
    pub fn be_away(&self, away: bool) {
        self.shared.away.store(away, Ordering::Release);
    }

    /// Says this of tokens from now on.
    pub fn judge(&self, verdict: Verdict) {
        *self.shared.verdict.lock().unwrap_or_else(PoisonError::into_inner) = verdict;
    }

    /// How often its keys were asked for.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Acquire)
    }

    /// How often it was asked about a token.
    pub fn reviewed(&self) -> usize {
        self.shared.reviewed.load(Ordering::Acquire)
    }

    /// A file in a directory of its own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for IssuerDoor {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Wakes whoever accepts, so that it sees.
        drop(TcpStream::connect(self.address));
    }
}

impl fmt::Debug for IssuerDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerDoor").field("url", &self.shared.url).finish_non_exhaustive()
    }
}

impl Shared {
    fn say(&self, name: &str, value: &str) {
        let mut document = self.document.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(members) = document.as_object_mut() {
            members.insert(name.to_owned(), json!(value));
        }
    }

    fn answer(&self, stream: TcpStream, config: Arc<ServerConfig>) -> Result<()> {
        if self.away.load(Ordering::Acquire) {
            return Ok(());
        }
        stream.set_read_timeout(Some(LIMIT))?;
        let mut reader = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, stream));
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let path = first.split(' ').nth(1).unwrap_or_default();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            if line.to_ascii_lowercase().starts_with("authorization:") {
                self.shown.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let (status, said) = match path {
            "/.well-known/openid-configuration" => {
                (200, self.document.lock().unwrap_or_else(PoisonError::into_inner).clone())
            }
            "/keys" => {
                self.asked.fetch_add(1, Ordering::AcqRel);
                (200, json!({ "keys": *self.keys.lock().unwrap_or_else(PoisonError::into_inner) }))
            }
            "/apis/authentication.k8s.io/v1/tokenreviews" => self.review(&serde_json::from_slice(&body)?)?,
            _ => match self.device.answer(path, &body) {
                None => (404, json!({})),
                Some(DeviceAnswer::Json(status, said)) => (status, said),
                Some(DeviceAnswer::Page(page)) => return write(reader.into_inner(), 200, "", page),
                Some(DeviceAnswer::Redirect(to)) => {
                    return write(reader.into_inner(), 302, &format!("Location: {to}\r\n"), "{}");
                }
                Some(DeviceAnswer::Huge(bytes)) => {
                    return write(reader.into_inner(), 200, "", &" ".repeat(bytes));
                }
                Some(DeviceAnswer::Silence) => return Ok(reader.read_line(&mut first).map(|_| ())?),
            },
        };
        write(reader.into_inner(), status, "", &said.to_string())
    }

    fn review(&self, asked: &Value) -> Result<(u16, Value)> {
        self.reviewed.fetch_add(1, Ordering::AcqRel);
        let verdict = *self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        let token = asked.pointer("/spec/token").and_then(Value::as_str).unwrap_or_default();
        let claims = TokenIssuer::claims(token)?;
        let user = match verdict {
            Verdict::Another => json!("system:serviceaccount:shop:other"),
            _ => claims.get("sub").cloned().unwrap_or_default(),
        };
        let uid = claims.pointer("/kubernetes.io/serviceaccount/uid").cloned().unwrap_or_default();
        let mut status = json!({
            "authenticated": true,
            "user": { "username": user, "uid": uid },
            "audiences": asked.pointer("/spec/audiences").cloned().unwrap_or_default(),
        });
        match verdict {
            Verdict::Broken => return Ok((500, json!({}))),
            Verdict::Forbidden => return Ok((403, json!({}))),
            Verdict::Gone => status = json!({ "error": "the pod is gone" }),
            Verdict::NoAudience => status.as_object_mut().into_iter().for_each(|status| {
                status.remove("audiences");
            }),
            Verdict::Known | Verdict::Another => {}
        }
        Ok((
            201,
            json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status }),
        ))
    }
}

/// Writes an answer; `more` are whole lines of its head.
fn write(
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    status: u16,
    more: &str,
    body: &str,
) -> Result<()> {
    let head = format!("HTTP/1.1 {status} -\r\n{more}Content-Type: application/json\r\nConnection: close");
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    stream.conn.send_close_notify();
    Ok(stream.flush()?)
}

/// A server that shows the certificate in `files`.
fn showing(files: &ServerFiles) -> Result<ServerConfig> {
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&files.certificate)?],
            PrivateKeyDer::from_pem_file(&files.key)?,
        )?;
    Ok(config)
}

const LIMIT: Duration = Duration::from_secs(10);
