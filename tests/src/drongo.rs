//! A drongo server of its own: Google Secret Manager as far as tests need it, in memory.
//!
//! It asks nobody for a token, keeps no checksums, has one page for everything and takes values of any length. The first
//! is what [`GoogleDoor`](crate::GoogleDoor) is for, the last is seen to here, and what else is different is put to the
//! backend by a fake beside it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::port::free_port;
use crate::process::Process;
use crate::{http, place};

/// A running server. Stopped, and everything forgotten, on drop.
#[derive(Debug)]
pub struct Drongo {
    // Dropped first, so that the server ends before its directory goes.
    process: Process,
    directory: TempDir,
    address: SocketAddr,
}

impl Drongo {
    /// Starts a server.
    ///
    /// # Errors
    /// There is no `drongo`, or it does not come up; with the last lines it wrote.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bursar-drongo-").tempdir()?;
        let address = free_port()?;
        let mut command = Command::new(place::venv("drongo")?);
        command
            .env_clear()
            .env("HOME", directory.path())
            .env("TMPDIR", directory.path())
            .current_dir(directory.path())
            .args(["server", "--host", &address.ip().to_string(), "--port", &address.port().to_string()]);
        let mut process = Process::start("drongo", command, directory.path())?;
        process.wait_for(START, "drongo to answer", |_| {
            let answer = http::request(address, "GET", "/drongo/health", &[], &[]).ok();
            Ok(answer.filter(|answer| answer.status == 200).map(drop))
        })?;
        Ok(Self { process, directory, address })
    }

    /// Where it listens, in plain text.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id of the server.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The directory of everything that it writes.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Makes a secret of [`PROJECT`], or another version of it; answers the version's number. As Google, and not as
    /// drongo, it refuses what is longer than [`LONGEST_PAYLOAD`].
    ///
    /// # Errors
    /// It refuses.
    pub fn put_secret(&self, id: &str, value: &[u8]) -> Result<String> {
        ensure!(value.len() <= LONGEST_PAYLOAD, "Google takes {LONGEST_PAYLOAD} bytes and no more");
        let payload = json!({ "payload": { "data": BASE64.encode(value) } });
        let add = || self.call(&format!("secrets/{id}:addVersion"), &payload);
        let added = match add() {
            Ok(added) => added,
            Err(_) => {
                self.call(&format!("secrets?secretId={id}"), &json!({ "replication": { "automatic": {} } }))?;
                add()?
            }
        };
        let name = added.get("name").and_then(Value::as_str);
        let number = name.and_then(|name| name.rsplit('/').next());
        Ok(number.context("a version without a name")?.to_owned())
    }

    /// Disables, destroys or enables a version: `disable`, `destroy`, `enable`.
    ///
    /// # Errors
    /// It refuses.
    pub fn change(&self, id: &str, version: &str, verb: &str) -> Result<()> {
        self.call(&format!("secrets/{id}/versions/{version}:{verb}"), &json!({})).map(drop)
    }

    fn call(&self, path: &str, body: &Value) -> Result<Value> {
        let path = format!("/v1/projects/{PROJECT}/{path}");
        let headers = [("Content-Type", "application/json")];
        let reply = http::request(self.address, "POST", &path, &headers, body.to_string().as_bytes())?;
        let excerpt: String = String::from_utf8_lossy(&reply.body).chars().take(200).collect();
        ensure!(reply.status == 200, "drongo answered {} to a call of `{path}`: {excerpt}", reply.status);
        Ok(serde_json::from_slice(&reply.body)?)
    }
}

/// The project that everything is in.
pub const PROJECT: &str = "bursar-test";
/// The longest secret in bytes.
pub const LONGEST_PAYLOAD: usize = 65_536;

const START: Duration = Duration::from_secs(60);
