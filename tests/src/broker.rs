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
    environment: Vec<(String, String)>,
    data: PathBuf,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Broker {
    /// Initialises a data directory and starts a broker on it. `sections` is what its configuration says beside the
    /// rest, such as tables `[backends.NAME]`.
    ///
    /// # Errors
    /// It was not built, refuses the configuration, or does not get ready; with the last lines it wrote.
    pub fn start(sections: &str) -> Result<Self> {
        let directory = directory()?;
        let data = directory.path().join("data");
        Self::start_in(directory, data, sections, &[])
    }

    /// As [`start`](Self::start), with these variables in its environment, which is empty otherwise.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(sections: &str, environment: &[(&str, &str)]) -> Result<Self> {
        let directory = directory()?;
        let data = directory.path().join("data");
        Self::start_in(directory, data, sections, environment)
    }

    /// As [`start`](Self::start), with its data in `data` instead of a directory of its own.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on(data: &Path, sections: &str) -> Result<Self> {
        Self::start_in(directory()?, data.to_owned(), sections, &[])
    }

    fn start_in(
        directory: TempDir,
        data: PathBuf,
        sections: &str,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment: Vec<_> = environment.iter().map(owned).collect();
        let (grpc, http) = (free_port()?, free_port()?);
        let config = format!(
            "trust_domain = 'example.org'\ndata_dir = '{data}'\n\
             [listen]\ngrpc = '{grpc}'\nhttp = '{http}'\n\
             [seal]\nkey = {{ file = '{seal}' }}\n[log]\nfilter = 'trace'\n{sections}\n",
            data = data.display(),
            seal = directory.path().join("seal.key").display(),
        );
        fs::write(directory.path().join(CONFIG), config)?;
        let made = command(directory.path(), &environment, "init")?
            .output()
            .context("`bursar-broker init` cannot be run")?;
        ensure!(
            made.status.success(),
            "`bursar-broker init` failed: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let process = serve(directory.path(), &environment)?;
        let mut broker = Self { process, directory, environment, data, grpc, http };
        broker.wait_ready()?;
        Ok(broker)
    }

    /// `https://127.0.0.1:PORT` of the gRPC port.
    pub fn address(&self) -> String {
        format!("https://{}", self.grpc)
    }

    /// A file that `init` left: `ca.pem`, `admin.crt`, `admin.key`, `audit.vkey`.
    pub fn bootstrap(&self, name: &str) -> PathBuf {
        self.data.join("bootstrap").join(name)
    }

    /// Everything that it writes: configuration, data, logs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The ledger's file.
    pub fn ledger(&self) -> PathBuf {
        self.data.join("ledger.db")
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join(CONFIG)
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
        let mut command =
            command(self.directory.path(), &self.environment, arguments.first().copied().unwrap_or("serve"))?;
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
        self.process = serve(self.directory.path(), &self.environment)?;
        self.wait_ready()
    }

    /// Starts it again where it is expected to refuse; answers its exit code and what it wrote to standard error.
    ///
    /// # Errors
    /// It does not end by itself.
    pub fn refuse_to_start(&self) -> Result<(Option<i32>, String)> {
        let mut process = serve(self.directory.path(), &self.environment)?;
        let status = process.wait(START)?;
        Ok((status.code(), process.stderr()?))
    }

    /// Waits until it is ready again.
    ///
    /// # Errors
    /// It ended, or does not get ready; with the last lines it wrote.
    pub fn wait_ready(&mut self) -> Result<()> {
        let port = self.http;
        self.process.wait_for(START, "the broker to be ready", |_| {
            // Before it listens there is no answer at all.
            let answer = http::request(port, "GET", "/readyz", &[], &[]).ok();
            Ok(answer.filter(|answer| answer.status == 200).map(drop))
        })
    }
}

fn directory() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("bursar-broker-").tempdir()?)
}

fn serve(directory: &Path, environment: &[(String, String)]) -> Result<Process> {
    Process::start("broker", command(directory, environment, "serve")?, directory)
}

fn command(directory: &Path, environment: &[(String, String)], verb: &str) -> Result<Command> {
    let mut command = Command::new(binary("bursar-broker")?);
    command
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("TMPDIR", directory)
        .current_dir(directory)
        .arg("--config")
        .arg(directory.join(CONFIG))
        .arg(verb);
    Ok(command)
}

const CONFIG: &str = "broker.toml";
const START: Duration = Duration::from_secs(30);
