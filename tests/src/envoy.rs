//! A real Envoy, as its release is published for Python.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::place;
use crate::process::Process;

/// A running Envoy. Stopped, and its directory removed, on drop.
#[derive(Debug)]
pub struct Envoy {
    // Dropped first, so that Envoy ends before its directory goes.
    process: Process,
    directory: TempDir,
    admin: SocketAddr,
}

impl Envoy {
    /// Starts Envoy with this bootstrap, and waits until it answers for itself. Listeners may wait for their secrets then.
    ///
    /// # Errors
    /// There is no Envoy, or it does not take the bootstrap; with the last lines it wrote.
    pub fn start(bootstrap: &Value) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-envoy-").tempdir()?;
        let (config, address) = (directory.path().join("envoy.json"), directory.path().join("admin"));
        fs::write(&config, serde_json::to_vec_pretty(bootstrap)?)?;
        let mut command = Command::new(Self::program()?);
        command
            .env_clear()
            .current_dir(directory.path())
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "info"])
            .arg("--admin-address-path")
            .arg(&address)
            .arg("--config-path")
            .arg(&config);
        let mut process = Process::start("envoy", command, directory.path())?;
        let admin = process.wait_for(START, "Envoy to answer for itself", |_| {
            let Some(admin) = fs::read_to_string(&address).ok().and_then(|text| text.parse().ok()) else {
                return Ok(None);
            };
            Ok(ask(admin, "/ready").is_ok().then_some(admin))
        })?;
        Ok(Self { process, directory, admin })
    }

    /// The program, by the path that an agent sees.
    ///
    /// # Errors
    /// It is not there.
    pub fn program() -> Result<PathBuf> {
        let path = place::package("envoy")?.join("_bin/envoy");
        fs::canonicalize(&path).with_context(|| format!("there is no `{}`", path.display()))
    }

    /// The answer of its administration to `GET path`, as text.
    ///
    /// # Errors
    /// No answer.
    pub fn admin(&self, path: &str) -> Result<String> {
        ask(self.admin, path).with_context(|| format!("Envoy did not answer to `{path}`"))
    }

    /// Everything that it writes.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// By HTTP/1.1, since Envoy speaks of itself by nothing older. The answer is whole, since an injected value may lie across the
/// pieces that it comes in.
fn ask(admin: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, START)?;
    stream.set_read_timeout(Some(START))?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, mut rest) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Ok(rest.to_owned());
    }
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).context("a piece has no size")?;
        let (piece, after) = after.split_at_checked(size).context("a piece is cut off")?;
        body.push_str(piece);
        rest = after.strip_prefix("\r\n").unwrap_or(after);
    }
    Ok(body)
}

const START: Duration = Duration::from_secs(60);
