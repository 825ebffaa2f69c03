//! A real broker in a directory of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::http;
use crate::place::binary;
use crate::port::free_port;
use crate::process::Process;

/// A running broker of the trust domain `example.org`. Stopped, and its data removed, on drop.
#[derive(Debug)]
pub struct Broker {
    process: Process,
    directory: TempDir,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Broker {
    /// Initialises a data directory and starts a broker on it. `backends` is what its configuration says beside the
    /// rest: tables `[backends.NAME]`.
    ///
    /// # Errors
    /// It was not built, refuses the configuration, or does not get ready; with the last lines it wrote.
    pub fn start(backends: &str) -> Result<Self> {
        Self::start_in(&std::env::temp_dir(), backends)
    }

    /// As [`Broker::start`], with its directory made in `parent`.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn start_in(parent: &Path, backends: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-broker-").tempdir_in(parent)?;
        let (grpc, http) = (free_port()?, free_port()?);
        let config = format!(
            "trust_domain = 'example.org'\ndata_dir = '{data}'\n\
             [listen]\ngrpc = '{grpc}'\nhttp = '{http}'\n\
             [seal]\nkey = {{ file = '{seal}' }}\n[log]\nfilter = 'debug'\n{backends}\n",
            data = directory.path().join("data").display(),
            seal = directory.path().join("seal.key").display(),
        );
        fs::write(directory.path().join("broker.toml"), config)?;
        let made =
            command(directory.path(), "init")?.output().context("`bursar-broker init` cannot be run")?;
        ensure!(
            made.status.success(),
            "`bursar-broker init` failed: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let process = serve(directory.path())?;
        let mut broker = Self { process, directory, grpc, http };
        broker.wait_ready()?;
        Ok(broker)
    }

    /// `https://127.0.0.1:PORT` of the gRPC port.
    pub fn address(&self) -> String {
        format!("https://{}", self.grpc)
    }

    /// A file that `init` left: `ca.pem`, `admin.crt`, `admin.key`, `audit.vkey`.
    pub fn bootstrap(&self, name: &str) -> PathBuf {
        self.directory.path().join("data/bootstrap").join(name)
    }

    /// Everything that it writes: configuration, data, logs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The ledger's file.
    pub fn ledger(&self) -> PathBuf {
        self.directory.path().join("data/ledger.db")
    }

    /// The status of `GET path` on the HTTP port, and what it says.
    ///
    /// # Errors
    /// No answer.
    pub fn http(&self, path: &str) -> Result<http::Reply> {
        http::request(self.http, "GET", path, &[], &[])
    }

    /// Runs `bursar-broker` with further arguments and its configuration, beside the one that serves.
    ///
    /// # Errors
    /// It was not built, or cannot be run.
    pub fn command(&self, arguments: &[&str]) -> Result<std::process::Output> {
        let mut command = command(self.directory.path(), arguments.first().copied().unwrap_or("serve"))?;
        command.args(arguments.get(1..).unwrap_or_default());
        command.output().context("`bursar-broker` cannot be run")
    }

    /// Stops it, changes its configuration from `from` to `to`, and starts it again.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn restart_with(&mut self, from: &str, to: &str) -> Result<()> {
        self.process.stop()?;
        let path = self.directory.path().join("broker.toml");
        let config = fs::read_to_string(&path)?;
        ensure!(config.contains(from), "the configuration has no `{from}`");
        fs::write(&path, config.replace(from, to))?;
        self.start_again()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again on the same data after its end.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.process = serve(self.directory.path())?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<()> {
        let port = self.http;
        self.process.wait_for(START, "the broker to be ready", |_| {
            // Before it listens there is no answer at all.
            let answer = http::request(port, "GET", "/readyz", &[], &[]).ok();
            Ok(answer.filter(|answer| answer.status == 200).map(drop))
        })
    }
}

fn serve(directory: &Path) -> Result<Process> {
    Process::start("broker", command(directory, "serve")?, directory)
}

fn command(directory: &Path, verb: &str) -> Result<Command> {
    let mut command = Command::new(binary("bursar-broker")?);
    command.env_clear().current_dir(directory).arg("--config").arg(directory.join("broker.toml")).arg(verb);
    Ok(command)
}

const START: Duration = Duration::from_secs(30);
