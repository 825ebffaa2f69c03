//! An OpenBao server of its own: a real configuration, a real seal, an audit file.
//!
//! Not `-dev`: that keeps everything in memory, unseals itself and has a token known beforehand, so nothing about a
//! restart, a seal or an audit device could be tested. Storage is raft, the one of OpenBao's own that survives
//! a restart, with one node unless others join. It listens twice on loopback: in plain text, for the harness, and by
//! TLS, for what is tested.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::canary::Canary;
use crate::certificate::ServerFiles;
use crate::port::free_port;
use crate::process::Process;
use crate::wait::wait_until;
use crate::{http, place};

pub use engines::AppRole;

mod engines;

/// A running server, initialised and unsealed. Stopped, and its data removed, on drop.
#[derive(Debug)]
pub struct OpenBao {
    // Dropped first, so that the server ends before its directory goes.
    process: Process,
    place: Place,
    root_token: Canary,
    unseal_key: Canary,
    /// What it says of its health when it serves: one that joined others need not lead them.
    serving: &'static [u16],
}

/// Where a server has its data, and where it listens.
#[derive(Debug)]
struct Place {
    directory: TempDir,
    plain: SocketAddr,
    tls: SocketAddr,
    files: ServerFiles,
    environment: Vec<(String, String)>,
}

impl OpenBao {
    /// Starts a server, initialises and unseals it.
    ///
    /// # Errors
    /// There is no `bao`, or it does not come up; with the last lines it wrote.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same, with these variables in its environment.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(environment: &[(&str, &str)]) -> Result<Self> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let directory = directory()?;
        let files = ServerFiles::make(directory.path())?;
        let place = Place::make(directory, files, environment.collect())?;
        let process = place.launch()?;
        let request = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let keys = call(place.plain, None, "PUT", "sys/init", &request)?;
        let key = |pointer: &str, name: &str| {
            let value = keys.pointer(pointer).and_then(Value::as_str);
            Canary::known(name, value.with_context(|| format!("OpenBao gave no {name}"))?)
        };
        let root_token = key("/root_token", "OpenBao root token")?;
        let unseal_key = key("/keys_base64/0", "OpenBao unseal key")?;
        let bao = Self { process, place, root_token, unseal_key, serving: &[ACTIVE] };
        bao.unseal()?;
        Ok(bao)
    }

    /// Starts another node of the cluster of this one, which has the same certificate.
    ///
    /// # Errors
    /// It does not come up, or is not let in; with the last lines it wrote.
    pub fn join(&self) -> Result<Self> {
        let place = Place::make(directory()?, self.place.files.clone(), self.place.environment.clone())?;
        let process = place.launch()?;
        let request = json!({ "leader_api_addr": self.url() });
        // Who has just joined has no vote for ten seconds otherwise, and a leader that is lost is not followed.
        let soon = json!({ "server_stabilization_time": "1s" });
        self.api("POST", "sys/storage/raft/autopilot/configuration", &soon)?;
        call(place.plain, None, "POST", "sys/storage/raft/join", &request)?;
        let (root_token, unseal_key) = (self.root_token.clone(), self.unseal_key.clone());
        let node = Self { process, place, root_token, unseal_key, serving: &[ACTIVE, STANDBY] };
        node.unseal()?;
        self.wait_for_voters()?;
        Ok(node)
    }

    /// Base URL in plain text.
    pub fn url(&self) -> String {
        format!("http://{}", self.place.plain)
    }

    /// Base URL by TLS, with a certificate for 127.0.0.1 by the authority of [`authority`](Self::authority).
    pub fn tls_url(&self) -> String {
        format!("https://{}", self.place.tls)
    }

    /// PEM file of the authority that clients are to trust.
    pub fn authority(&self) -> &Path {
        &self.place.files.authority
    }

    /// The root token.
    pub fn root_token(&self) -> &Canary {
        &self.root_token
    }

    /// The directory of everything it writes: storage, audit file, logs.
    pub fn directory(&self) -> &Path {
        self.place.directory.path()
    }

    /// The file of the audit device, JSON Lines.
    pub fn audit_file(&self) -> PathBuf {
        self.place.directory.path().join(AUDIT)
    }

    /// The `bao` command of a client that reaches this server by TLS and trusts its authority. It has no token.
    ///
    /// # Errors
    /// There is no `bao`.
    pub fn client(&self) -> Result<Command> {
        let mut client = clean(self.place.directory.path())?;
        client.env("BAO_ADDR", self.tls_url()).env("BAO_CACERT", self.authority());
        Ok(client)
    }

    /// Calls the API as root: `path` is what follows `/v1/`, `body` is [`Value::Null`] for none. An answer without a
    /// body is [`Value::Null`].
    ///
    /// # Errors
    /// No answer, or one that is not a success; with what OpenBao said.
    pub fn api(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        self.api_as(self.root_token.value(), method, path, body)
    }

    /// As [`api`](Self::api), with another token.
    ///
    /// # Errors
    /// As [`api`](Self::api).
    pub fn api_as(&self, token: &str, method: &str, path: &str, body: &Value) -> Result<Value> {
        call(self.place.plain, Some(token), method, path, body)
    }

    /// What the API answers to a `POST` of nothing to `path` as root, wrapped: a token by which it is had once, within
    /// `life`.
    ///
    /// # Errors
    /// As [`api`](Self::api).
    pub fn wrapped(&self, path: &str, life: &str) -> Result<Canary> {
        let headers = [("X-Vault-Token", self.root_token.value()), ("X-Vault-Wrap-TTL", life)];
        let reply = http::request(self.place.plain, "POST", &format!("/v1/{path}"), &headers, b"{}")?;
        let answer: Value = serde_json::from_slice(&reply.body).context("the answer is no JSON")?;
        let token = answer.pointer("/wrap_info/token").and_then(Value::as_str);
        Canary::known("wrapping token", token.with_context(|| format!("`{path}` was not wrapped"))?)
    }

    /// Seals it, and waits until it says so: every call but unsealing now fails with status 503.
    ///
    /// # Errors
    /// It refuses, or does not get there.
    pub fn seal(&self) -> Result<()> {
        self.api("PUT", "sys/seal", &Value::Null)?;
        self.wait_for_health(&[SEALED])
    }

    /// Unseals it, and waits until it serves.
    ///
    /// # Errors
    /// It refuses, or does not get there.
    pub fn unseal(&self) -> Result<()> {
        call(self.place.plain, None, "PUT", "sys/unseal", &json!({ "key": self.unseal_key.value() }))?;
        self.wait_for_health(self.serving)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Stops the server; its data stays.
    ///
    /// # Errors
    /// It did not end by itself.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop().map(drop)
    }

    /// Starts it after [`stop`](Self::stop), at the same addresses, and unseals it.
    ///
    /// # Errors
    /// It does not come up; with the last lines it wrote.
    pub fn start_again(&mut self) -> Result<()> {
        self.start_sealed()?;
        self.unseal()
    }

    /// The same, and leaves it sealed.
    ///
    /// # Errors
    /// As [`start_again`](Self::start_again).
    pub fn start_sealed(&mut self) -> Result<()> {
        self.process = self.place.launch()?;
        Ok(())
    }

    /// Whether it leads its cluster.
    pub fn leads(&self) -> bool {
        self.health().is_some_and(|status| status == ACTIVE)
    }

    /// Waits until it has logged a line that holds `part`, since its last start.
    ///
    /// # Errors
    /// It ended first, or no such line came within `limit`; with the last lines it wrote.
    pub fn wait_for_line(&mut self, limit: Duration, part: &str) -> Result<String> {
        self.process.wait_for_line(limit, part)
    }

    fn wait_for_voters(&self) -> Result<()> {
        wait_until(LIMIT, "each node to have a vote", || {
            let raft = self.api("GET", "sys/storage/raft/configuration", &Value::Null).unwrap_or_default();
            let servers = raft.pointer("/data/config/servers").and_then(Value::as_array);
            let votes = |server: &Value| server.get("voter") == Some(&Value::Bool(true));
            servers.is_some_and(|servers| servers.len() > 1 && servers.iter().all(votes))
        })
    }

    fn wait_for_health(&self, wanted: &[u16]) -> Result<()> {
        wait_until(LIMIT, &format!("OpenBao to answer one of {wanted:?} about its health"), || {
            self.health().is_some_and(|status| wanted.contains(&status))
        })
    }

    fn health(&self) -> Option<u16> {
        http::request(self.place.plain, "GET", "/v1/sys/health", &[], &[]).ok().map(|reply| reply.status)
    }
}

impl Place {
    fn make(directory: TempDir, files: ServerFiles, environment: Vec<(String, String)>) -> Result<Self> {
        let (plain, tls) = (free_port()?, free_port()?);
        let here = directory.path();
        fs::create_dir(here.join("data"))?;
        fs::write(here.join(CONFIG), config(here, &files, plain, tls)?)?;
        Ok(Self { directory, plain, tls, files, environment })
    }

    /// Starts the server and waits until it listens.
    fn launch(&self) -> Result<Process> {
        let here = self.directory.path();
        let mut bao = clean(here)?;
        bao.envs(self.environment.iter().map(|(name, value)| (name, value)));
        bao.args(["server", "-config", CONFIG]).current_dir(here);
        let mut process = Process::start("bao", bao, here)?;
        process.wait_for(LIMIT, &format!("an answer on {}", self.plain), |_| {
            Ok(http::request(self.plain, "GET", "/v1/sys/seal-status", &[], &[]).ok().map(drop))
        })?;
        Ok(process)
    }
}

fn directory() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("bursar-bao-").tempdir()?)
}

/// The `bao` program in a clean environment: it would obey the `BAO_*` and `VAULT_*` of whoever runs the tests.
fn clean(home: &Path) -> Result<Command> {
    let mut bao = Command::new(place::bao()?);
    bao.env_clear().env("HOME", home);
    Ok(bao)
}

fn call(address: SocketAddr, token: Option<&str>, method: &str, path: &str, body: &Value) -> Result<Value> {
    let header = token.map(|token| ("X-Vault-Token", token));
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
    let reply = http::request(address, method, &format!("/v1/{path}"), header.as_slice(), &body)?;
    let answer: Value = if reply.body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&reply.body).with_context(|| format!("`{method} {path}` got no JSON"))?
    };
    let said = answer.get("errors").unwrap_or(&Value::Null);
    ensure!(
        (200..300).contains(&reply.status),
        "OpenBao answered {} to `{method} {path}`: {said}",
        reply.status
    );
    Ok(answer)
}

/// The server's configuration. Audit devices can be declared here only: its API no longer makes them. The file's path is
/// within the directory that the server runs in, since a node does not lead whose audit device is another than before.
fn config(directory: &Path, files: &ServerFiles, plain: SocketAddr, tls: SocketAddr) -> Result<String> {
    let data = directory.join("data");
    let (cluster, tls_cluster) = (free_port()?, free_port()?);
    Ok(format!(
        r#"
api_addr     = "http://{plain}"
cluster_addr = "https://{cluster}"

storage "raft" {{
  path                   = {data:?}
  node_id                = "{}"
  performance_multiplier = "1"
}}

listener "tcp" {{
  address         = "{plain}"
  cluster_address = "{cluster}"
  tls_disable     = true
}}

listener "tcp" {{
  address         = "{tls}"
  cluster_address = "{tls_cluster}"
  tls_cert_file   = {:?}
  tls_key_file    = {:?}
}}

audit "file" "file" {{
  options {{
    file_path = {AUDIT:?}
  }}
}}
"#,
        plain.port(),
        files.certificate,
        files.key
    ))
}

/// Statuses of `sys/health`.
const ACTIVE: u16 = 200;
const STANDBY: u16 = 429;
const SEALED: u16 = 503;

const LIMIT: Duration = Duration::from_secs(60);
const CONFIG: &str = "bao.hcl";
const AUDIT: &str = "audit.jsonl";
