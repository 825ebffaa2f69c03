//! The demo's broker, agent and commands, and all that they print.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bursar_tests::{Canary, Finding, Process, free_port, http, scan, scan_bytes};
use serde_json::Value;
use tempfile::TempDir;

use super::READY;
use crate::workspace::Workspace;

/// Where the demo takes place. What runs is stopped when it is dropped.
pub(super) struct Stage {
    programs: PathBuf,
    directory: TempDir,
    grpc: SocketAddr,
    http: SocketAddr,
    agent_http: SocketAddr,
    agent: Option<Process>,
    broker: Option<Process>,
    printed: RefCell<Vec<u8>>,
    step: RefCell<u32>,
}

impl Stage {
    /// An empty directory and free ports.
    pub(super) fn set(workspace: &Workspace) -> Result<Self> {
        fs::create_dir_all(&workspace.target)?;
        // Short, since the path of a socket is at most 107 bytes.
        let directory = tempfile::Builder::new().prefix("demo-").tempdir_in(&workspace.target)?;
        fs::create_dir(directory.path().join("policies"))?;
        Ok(Self {
            programs: workspace.target.join("debug"),
            directory,
            grpc: free_port()?,
            http: free_port()?,
            agent_http: free_port()?,
            agent: None,
            broker: None,
            printed: RefCell::new(Vec::new()),
            step: RefCell::new(0),
        })
    }

    /// Tells what comes next.
    pub(super) fn say(&self, words: &str) {
        let mut step = self.step.borrow_mut();
        *step += 1;
        eprintln!("\n[{step}] {words}");
    }

    /// Writes a file of the demo.
    pub(super) fn write(&self, name: &str, content: &str) -> Result<()> {
        fs::write(self.path(name), content).with_context(|| format!("`{name}` cannot be written"))
    }

    /// Initialises and starts the broker, and waits until it is ready.
    pub(super) fn start_broker(&mut self) -> Result<()> {
        let config = format!(
            "trust_domain = \"demo.test\"\ndata_dir = \"broker\"\n[listen]\ngrpc = \"{}\"\nhttp = \"{}\"\n\
             [seal]\nkey = {{ file = \"seal.key\" }}\n[backends.local]\nkind = \"local\"\n",
            self.grpc, self.http
        );
        self.write("broker.toml", &config)?;
        self.show(&["bursar-broker", "--config", "broker.toml", "init"]);
        let mut init = self.program("bursar-broker");
        self.finish(init.args(["--config", "broker.toml", "init"]), None)?;
        self.show(&["bursar-broker", "--config", "broker.toml", "serve"]);
        let mut serve = self.program("bursar-broker");
        serve.args(["--config", "broker.toml", "serve"]);
        self.broker = Some(ready(Process::start("broker", serve, self.directory.path())?, self.http)?);
        Ok(())
    }

    /// Starts the agent, which joins, and waits until it is ready.
    pub(super) fn start_agent(&mut self) -> Result<()> {
        let config = format!(
            "broker = \"https://{}\"\nca_file = \"broker/bootstrap/ca.pem\"\nnode = \"demo-node\"\ndata_dir = \"agent\"\n\
             socket = \"agent.sock\"\njoin_token = {{ file = \"join-token\" }}\n[http]\nlisten = \"{}\"\n",
            self.grpc, self.agent_http
        );
        self.write("agent.toml", &config)?;
        self.show(&["bursar-agent", "--config", "agent.toml"]);
        let mut serve = self.program("bursar-agent");
        serve.args(["--config", "agent.toml"]);
        self.agent = Some(ready(Process::start("agent", serve, self.directory.path())?, self.agent_http)?);
        Ok(())
    }

    /// Runs `bursar` as the administrator, and shows what was typed and what it says.
    pub(super) fn bursar(&self, arguments: &[&str]) -> Result<String> {
        self.show(&[&["bursar"], arguments].concat());
        self.finish(self.administrator().args(arguments), None)
    }

    /// As [`Stage::bursar`], with a secret on standard input.
    pub(super) fn bursar_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        self.show(&[&["bursar"], arguments, &["< secret"]].concat());
        self.finish(self.administrator().args(arguments), Some(input))
    }

    /// Runs `bursar` as any program of this machine would: through the agent's socket.
    pub(super) fn bursar_as_workload(&self, arguments: &[&str]) -> Result<String> {
        self.show(&[&["bursar"], arguments].concat());
        let socket = format!("unix://{}", self.path("agent.sock").display());
        self.finish(self.program("bursar").env("BURSAR_ADDRESS", socket).args(arguments), None)
    }

    /// The ids of the leases in force.
    pub(super) fn leases(&self) -> Result<Vec<String>> {
        let output = self.administrator().args(["lease", "list", "--output", "json"]).output()?;
        ensure!(output.status.success(), "`bursar lease list` failed");
        let listed: Value =
            serde_json::from_slice(&output.stdout).context("`bursar lease list` wrote no JSON")?;
        let leases = listed.as_array().or_else(|| listed.get("leases").and_then(Value::as_array));
        let id = |lease: &Value| lease.get("id").and_then(Value::as_str).map(str::to_owned);
        Ok(leases.into_iter().flatten().filter_map(id).collect())
    }

    /// A file that `init` left.
    pub(super) fn bootstrap(&self, name: &str) -> PathBuf {
        self.path("broker/bootstrap").join(name)
    }

    /// Stops agent and broker.
    pub(super) fn stop(&mut self) -> Result<()> {
        for mut process in self.agent.take().into_iter().chain(self.broker.take()) {
            process.stop()?;
        }
        Ok(())
    }

    /// Looks for `secrets` in every file and in everything that was printed.
    pub(super) fn search(&self, secrets: &[&Canary]) -> Result<Vec<Finding>> {
        let mut found = scan(self.directory.path(), secrets)?;
        found.extend(scan_bytes("the demo's own output", &self.printed.borrow(), secrets)?);
        Ok(found)
    }

    fn administrator(&self) -> Command {
        let mut command = self.program("bursar");
        command
            .env("BURSAR_ADDRESS", format!("https://{}", self.grpc))
            .env("BURSAR_CA", self.bootstrap("ca.pem"))
            .env("BURSAR_CERT", self.bootstrap("admin.crt"))
            .env("BURSAR_KEY", self.bootstrap("admin.key"));
        command
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.directory.path()).env_clear().env("PATH", "/usr/bin:/bin");
        command
    }

    /// Runs a command to its end, prints what it says, and keeps it for the search.
    fn finish(&self, command: &mut Command, input: Option<&str>) -> Result<String> {
        let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_owned();
        let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            stdin.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        self.printed.borrow_mut().extend(output.stdout.iter().chain(&output.stderr));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        for line in said.lines() {
            eprintln!("    {line}");
        }
        ensure!(output.status.success(), "`{}` failed ({})", name.display(), output.status);
        Ok(said)
    }

    fn show(&self, words: &[&str]) {
        eprintln!("  $ {}", words.join(" "));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn ready(mut process: Process, address: SocketAddr) -> Result<Process> {
    process.wait_for(READY, "it to be ready", |_| {
        // Before it listens there is no answer at all.
        let answer = http::request(address, "GET", "/readyz", &[], &[]).ok();
        Ok(answer.filter(|answer| answer.status == 200).map(drop))
    })?;
    Ok(process)
}
