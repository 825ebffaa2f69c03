//! As much of a cluster's API server as the webhook asks: objects that are made, read and replaced under their versions,
//! lists of pods, over TLS, with a clock of its own.
//!
//! It keeps what Kubernetes promises of `resourceVersion`: one who replaces an older version is refused. It validates
//! nothing and starts nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificate::ServerFiles;

/// A running server on loopback. Its thread ends on drop.
pub struct KubeApi {
    address: SocketAddr,
    files: ServerFiles,
    shared: Arc<Shared>,
    directory: TempDir,
}

struct Shared {
    objects: Mutex<BTreeMap<String, Value>>,
    /// Of the next change.
    version: AtomicU64,
    /// What its clock is ahead of this machine's, in seconds.
    ahead: AtomicI64,
    away: AtomicBool,
    /// So many further requests are answered with an error of the server.
    broken: AtomicUsize,
    /// So many further changes are refused as too late.
    conflicts: AtomicUsize,
    stop: AtomicBool,
}

impl KubeApi {
    /// Starts one without objects, which takes the token in [`token`](Self::token) and no other.
    ///
    /// # Errors
    /// No port can be had.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-kube-").tempdir()?;
        let files = ServerFiles::make(directory.path())?;
        std::fs::write(directory.path().join("token"), TOKEN)?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&files.certificate)?],
                PrivateKeyDer::from_pem_file(&files.key)?,
            )?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            objects: Mutex::default(),
            version: AtomicU64::new(1),
            ahead: AtomicI64::new(0),
            away: AtomicBool::new(false),
            broken: AtomicUsize::new(0),
            conflicts: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let (served, config) = (Arc::clone(&shared), Arc::new(config));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.stop.load(Ordering::Acquire) {
                    return;
                }
                let (served, config) = (Arc::clone(&served), Arc::clone(&config));
                // Who asks gets an error of its own when this fails.
                thread::spawn(move || drop(served.answer(stream, config)));
            }
        });
        Ok(Self { address, files, shared, directory })
    }

    /// The table of a webhook's configuration that leads here.
    pub fn table(&self) -> String {
        format!(
            "[api]\nserver = 'https://localhost:{}'\nca_file = '{}'\ntoken_file = '{}'\n",
            self.address.port(),
            self.files.authority.display(),
            self.token().display()
        )
    }

    /// The file with the token that it takes.
    pub fn token(&self) -> std::path::PathBuf {
        self.directory.path().join("token")
    }

    /// The folder with its files, which the one that it trusts is told of.
    pub fn place(&self) -> &Path {
        self.directory.path()
    }

    /// Puts an object there, whatever was there.
    pub fn put(&self, path: &str, object: Value) {
        let version = self.shared.next_version();
        self.shared.objects().insert(path.to_owned(), versioned(object, version));
    }

    /// What is at `path`.
    pub fn object(&self, path: &str) -> Option<Value> {
        self.shared.objects().get(path).cloned()
    }

    /// Deletes what is at `path`, as somebody does by hand.
    pub fn delete(&self, path: &str) {
        self.shared.objects().remove(path);
    }

    /// Moves its clock.
    pub fn advance(&self, by: Duration) {
        self.shared.ahead.fetch_add(by.as_secs().cast_signed(), Ordering::AcqRel);
    }

    /// Whether it answers nobody from now on.
    pub fn set_away(&self, away: bool) {
        self.shared.away.store(away, Ordering::Release);
    }

    /// Answers so many requests with an error of the server.
    pub fn break_for(&self, requests: usize) {
        self.shared.broken.store(requests, Ordering::Release);
    }

    /// Refuses so many changes, as if somebody else had been faster.
    pub fn conflict_for(&self, changes: usize) {
        self.shared.conflicts.store(changes, Ordering::Release);
    }

    /// Whether all that was broken or refused by order has been.
    pub fn has_recovered(&self) -> bool {
        [&self.shared.broken, &self.shared.conflicts].iter().all(|left| left.load(Ordering::Acquire) == 0)
    }
}

impl Drop for KubeApi {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Wakes whoever accepts, so that it sees.
        drop(TcpStream::connect(self.address));
    }
}

impl fmt::Debug for KubeApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeApi").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Shared {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_version(&self) -> u64 {
        self.version.fetch_add(1, Ordering::AcqRel)
    }

    fn answer(&self, stream: TcpStream, config: Arc<ServerConfig>) -> Result<()> {
        if self.away.load(Ordering::Acquire) {
            return Ok(());
        }
        stream.set_read_timeout(Some(LIMIT))?;
        let mut reader = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, stream));
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (mut length, mut is_known) = (0, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "authorization" => is_known = value.trim() == format!("Bearer {TOKEN}"),
                "content-length" => length = value.trim().parse()?,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let (status, said) = match is_known {
            true => self.decide(method, target, &body)?,
            false => (401, json!({})),
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs().cast_signed();
        let date = jiff::Timestamp::from_second(now + self.ahead.load(Ordering::Acquire))?;
        let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT");
        let said = said.to_string();
        let head = format!(
            "HTTP/1.1 {status} -\r\nDate: {date}\r\nContent-Type: application/json\r\nConnection: close"
        );
        let mut stream = reader.into_inner();
        write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{said}", said.len())?;
        stream.conn.send_close_notify();
        Ok(stream.flush()?)
    }

    fn decide(&self, method: &str, target: &str, body: &[u8]) -> Result<(u16, Value)> {
        if took_one(&self.broken) {
            return Ok((500, json!({})));
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut objects = self.objects();
        if method == "GET" && (path == PODS || path.ends_with("/pods")) {
            return Ok((200, list(&objects, path, query)));
        }
        if method != "GET" && took_one(&self.conflicts) {
            return Ok((409, json!({})));
        }
        match method {
            "GET" => Ok(objects.get(path).map_or((404, json!({})), |found| (200, found.clone()))),
            "POST" => {
                let object: Value = serde_json::from_slice(body)?;
                let name = object.pointer("/metadata/name").and_then(Value::as_str).context("no name")?;
                let path = format!("{path}/{name}");
                if objects.contains_key(&path) {
                    return Ok((409, json!({})));
                }
                let object = versioned(object, self.next_version());
                objects.insert(path, object.clone());
                Ok((201, object))
            }
            "PUT" => {
                let object: Value = serde_json::from_slice(body)?;
                let Some(there) = objects.get(path) else { return Ok((404, json!({}))) };
                if there.pointer(VERSION) != object.pointer(VERSION) {
                    return Ok((409, json!({})));
                }
                let object = versioned(object, self.next_version());
                objects.insert(path.to_owned(), object.clone());
                Ok((200, object))
            }
            _ => Ok((405, json!({}))),
        }
    }
}

/// Pods with the label or, of one namespace, those without, a page of two at a time.
fn list(objects: &BTreeMap<String, Value>, list: &str, query: &str) -> Value {
    let label = "/metadata/labels/bursar.io~1inject";
    let is_listed = |path: &str, label: Option<&Value>| match list {
        PODS => path.contains("/pods/") && label == Some(&json!("true")),
        within => path.strip_prefix(within).is_some_and(|name| name.starts_with('/')) && label.is_none(),
    };
    let wanted = objects.iter().filter(|(path, pod)| is_listed(path, pod.pointer(label)));
    let wanted: Vec<_> = wanted.map(|(_, pod)| pod.clone()).collect();
    let from =
        query.split('&').find_map(|pair| pair.strip_prefix("continue=")?.parse::<usize>().ok()).unwrap_or(0);
    let items: Vec<_> = wanted.iter().skip(from).take(2).cloned().collect();
    let more =
        if from + items.len() < wanted.len() { (from + items.len()).to_string() } else { String::new() };
    json!({ "kind": "PodList", "apiVersion": "v1", "metadata": { "continue": more }, "items": items })
}

fn versioned(mut object: Value, version: u64) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), json!(version.to_string()));
    }
    object
}

fn took_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
}

const PODS: &str = "/api/v1/pods";
const VERSION: &str = "/metadata/resourceVersion";
const TOKEN: &str = "kube-token";
const LIMIT: Duration = Duration::from_secs(10);
