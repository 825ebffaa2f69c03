//! A real Envoy, as its release is published for Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::{http, place};

/// A running Envoy. Stopped, and its directory removed, on drop.
#[derive(Debug)]
pub struct Envoy {
    // Dropped first, so that Envoy ends before its directory goes.
    process: Process,
    directory: TempDir,
    admin: std::net::SocketAddr,
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
            let answer = http::request(admin, "GET", "/server_info", &[], &[]).ok();
            Ok(answer.filter(|answer| answer.status == 200).map(|_| admin))
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
        let answer = http::request(self.admin, "GET", path, &[], &[])?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
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

const START: Duration = Duration::from_secs(60);
