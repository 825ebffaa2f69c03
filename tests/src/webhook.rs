//! A real admission webhook, and a caller that is to it what the API server is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

use crate::certificate::ServerFiles;
use crate::http::{self, Reply};
use crate::place::binary;
use crate::port::free_port;
use crate::process::Process;
use crate::wait::wait_for;

/// A running webhook. Stopped, and its files removed, on drop.
#[derive(Debug)]
pub struct Webhook {
    process: Process,
    listen: SocketAddr,
    http: SocketAddr,
    directory: TempDir,
}

impl Webhook {
    /// Starts one that sends pods to a broker which `ca` vouches for, with the lines `more` of configuration, and waits for
    /// nothing. `more` begins with keys of no table.
    ///
    /// # Errors
    /// It was not built, or cannot be started.
    pub fn launch(broker: &str, ca: &Path, more: &str) -> Result<Self> {
        Self::launch_from(&binary("bursar-agent")?, broker, ca, more)
    }

    /// The same, by this program.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn launch_from(program: &Path, broker: &str, ca: &Path, more: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-webhook-").tempdir()?;
        let (listen, http) = (free_port()?, free_port()?);
        let config = format!(
            "listen = '{listen}'\nimage = 'registry.example.org/bursar:1'\nbroker = '{broker}'\nca_file = '{}'\n{more}\n\
             [http]\nlisten = '{http}'\n",
            ca.display()
        );
        let path = directory.path().join("webhook.toml");
        std::fs::write(&path, config)?;
        let mut command = Command::new(program);
        command.env_clear().arg("webhook").arg("--config").arg(path);
        let process = Process::start("webhook", command, directory.path())?;
        Ok(Self { process, listen, http, directory })
    }

    /// The same, served with a certificate by an authority of its own, and ready.
    ///
    /// # Errors
    /// As [`Webhook::launch`], or it does not get ready; with the last lines it wrote.
    pub fn start(broker: &str, ca: &Path, files: &ServedFiles, more: &str) -> Result<Self> {
        let mut webhook = Self::launch(broker, ca, &format!("{more}\n{}", files.table()))?;
        webhook.wait_ready()?;
        Ok(webhook)
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It does not get ready; with the last lines it wrote.
    pub fn wait_ready(&mut self) -> Result<()> {
        let http = self.http;
        self.process.wait_for(START, "a webhook that is ready", |_| {
            Ok(http::request(http, "GET", "/readyz", &[], &[])
                .ok()
                .filter(|answer| answer.status == 200)
                .map(drop))
        })
    }

    /// Sends a request that `roots` (PEM) are to vouch for the answer to, as the API server does for a Service.
    ///
    /// # Errors
    /// The webhook cannot be reached, or shows another certificate.
    pub fn send(&self, roots: &str, name: &str, method: &str, path: &str, body: &[u8]) -> Result<Reply> {
        let mut stream = self.connect(roots, name)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        // Whoever refuses early does not read the rest.
        let sent = stream.write_all(body).and_then(|()| stream.flush());
        let answer = read(&mut stream);
        if answer.is_err() {
            sent?;
        }
        answer
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// As [`Webhook::send`].
    pub fn connect(&self, roots: &str, name: &str) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut known = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
            known.add(root?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(known).with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), name.to_owned().try_into()?)?;
        let stream = TcpStream::connect(self.listen)?;
        stream.set_read_timeout(Some(START))?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    /// Whether it is ready, and what its metrics say.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn look(&self, path: &str) -> Result<Reply> {
        http::request(self.http, "GET", path, &[], &[])
    }

    /// The value of a metric with its labels, as it stands in the text.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn metric(&self, named: &str) -> Result<Option<f64>> {
        let text = String::from_utf8(self.look("/metrics")?.body)?;
        Ok(text.lines().find_map(|line| line.strip_prefix(named)?.trim().parse().ok()))
    }

    /// The process, to be stopped or waited for.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Where it writes what it says.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// Reads an answer to its end.
///
/// # Errors
/// There is none.
pub fn read(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> Result<Reply> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if answer.is_empty() => Err(error.into()),
        // One that closes without a farewell has said all that it wanted.
        Ok(_) | Err(_) => http::parse(&answer),
    }
}

/// The `response` of a review.
///
/// # Errors
/// It is none.
pub fn response(reply: &Reply) -> Result<Value> {
    ensure!(reply.status == 200, "status {}: {}", reply.status, String::from_utf8_lossy(&reply.body));
    let review: Value = serde_json::from_slice(&reply.body)?;
    Ok(review.get("response").context("no response")?.clone())
}

/// A certificate for the webhook, by an authority of its own, in files.
#[derive(Debug)]
pub struct ServedFiles {
    files: ServerFiles,
    directory: TempDir,
}

impl ServedFiles {
    /// Makes them, for `localhost`.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn make() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-served-").tempdir()?;
        Ok(Self { files: ServerFiles::make(directory.path())?, directory })
    }

    /// Makes them anew, by another authority, in place.
    ///
    /// # Errors
    /// As [`ServedFiles::make`].
    pub fn replace(&self) -> Result<()> {
        ServerFiles::make(self.directory.path()).map(drop)
    }

    /// The authority, PEM.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn authority(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.files.authority)?)
    }

    /// Its file, which is as good as any for a broker that nobody asks.
    pub fn authority_file(&self) -> PathBuf {
        self.files.authority.clone()
    }

    /// The table of a configuration that names them.
    pub fn table(&self) -> String {
        format!(
            "[certificate]\ncert = '{}'\nkey = '{}'\n",
            self.files.certificate.display(),
            self.files.key.display()
        )
    }
}

/// Waits until `attempt` answers, with what it said last where it never does.
///
/// # Errors
/// It never did.
pub fn patiently<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = None;
    let waited = wait_for(START, what, || match attempt() {
        Ok(found) => Ok(Some(found)),
        Err(error) => {
            last = Some(error);
            Ok(None)
        }
    });
    waited.map_err(|error| last.map_or(error, |last| last.context(format!("waited in vain for {what}"))))
}

const START: Duration = Duration::from_secs(40);
