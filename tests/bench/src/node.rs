//! An agent beside the broker, as a node would have it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use bursar_sdk::{Address, Client};
use bursar_tests::{Process, free_port, http};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::bursar::{Bursar, Programs};

/// A running agent, for whom this process is the workload `bench`. Stopped, and its data removed, on drop.
pub(crate) struct Node {
    // Dropped first, so that the agent ends before its directory goes.
    process: Process,
    directory: TempDir,
}

impl Node {
    /// Starts an agent that joins `bursar`, with `sections` in its configuration. `sets` are the names of its sets of
    /// files, which are the same workload.
    ///
    /// # Errors
    /// It refuses, or does not get ready; with what it said.
    pub(crate) fn start(
        runtime: &Runtime,
        bursar: &Bursar,
        programs: &Programs,
        sets: &[String],
        sections: &str,
    ) -> Result<Self> {
        let uid = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
        let selectors = sets.iter().map(|set| format!("files:set:{set}")).chain([uid]);
        let registrations: String = selectors.map(|selector| registration(&selector)).collect();
        let token = runtime.block_on(bursar.admit_node(NODE, &registrations))?;
        let directory = tempfile::Builder::new().prefix("node-").tempdir()?;
        let here = directory.path();
        fs::write(here.join("token"), token.expose())?;
        fs::set_permissions(here.join("token"), PermissionsExt::from_mode(0o600))?;
        let http = free_port()?;
        let config = format!(
            "broker = '{}'\nca_file = '{}'\nnode = '{NODE}'\njoin_token = {{ file = 'token' }}\ndata_dir = 'data'\n\
             socket = '{}'\n[http]\nlisten = '{http}'\n{sections}",
            bursar.address(),
            bursar.bootstrap("ca.pem").display(),
            here.join("run/agent.sock").display(),
        );
        fs::write(here.join("agent.toml"), config)?;
        let mut command = Command::new(&programs.agent);
        command.env_clear().current_dir(here).args(["--config", "agent.toml"]);
        let mut process = Process::start("agent", command, here)?;
        process.wait_for(READY, "the agent to be ready", |_| {
            // Before it listens there is no answer at all.
            let answer = http::request(http, "GET", "/readyz", &[], &[]).ok();
            Ok(answer.filter(|answer| answer.status == 200).map(drop))
        })?;
        Ok(Self { process, directory })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// `unix:///…`.
    pub(crate) fn address(&self) -> String {
        Address::unix(self.socket()).to_string()
    }

    /// A connection of its own.
    ///
    /// # Errors
    /// The agent cannot be reached.
    pub(crate) async fn connect(&self) -> Result<Client> {
        Ok(Client::connect(&Address::unix(self.socket()), None).await?)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("run/agent.sock")
    }
}

fn registration(selector: &str) -> String {
    format!(
        "[[registration]]\nprincipal = 'spiffe://bench.test/workload/bench'\nnode = '{NODE}'\nselectors = ['{selector}']\n"
    )
}

const NODE: &str = "bench";
const READY: Duration = Duration::from_secs(30);
