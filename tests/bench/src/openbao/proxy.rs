//! What OpenBao puts on a machine: `bao proxy`, which keeps leased secrets in its memory, and `bao agent`, which starts
//! a program with secrets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use bursar_tests::{OpenBao, Postgres, Process};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::UnixStream;

use super::connection::Connection;
use super::{MOUNT as KV, Setting, start};
use crate::bursar::{FIELDS, PATH};
use crate::load::Caller;

/// A running `bao proxy`. Stopped, and its data removed, on drop.
pub(crate) struct Proxy {
    // Dropped first, so that each ends before what it stands on.
    process: Process,
    socket: PathBuf,
    _site: Site,
    _postgres: Postgres,
}

/// Whether the proxy keeps what is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kept {
    /// It has a lease: a user of a PostgreSQL.
    Yes,
    /// It has none: KV version 2.
    No,
}

impl Proxy {
    /// Starts OpenBao, and a proxy before it that logs in by itself and listens at a Unix socket.
    ///
    /// # Errors
    /// There is no `bao`, or one does not come up; with what it said.
    pub(crate) fn start() -> Result<Self> {
        let postgres = Postgres::start()?;
        let site = Site::start()?;
        site.bao.enable_database(DATABASE, &postgres)?;
        site.bao.database_role(DATABASE, "bench", Duration::from_secs(3600))?;
        let socket = site.path("proxy.sock");
        let config = format!(
            "{}\napi_proxy {{ use_auto_auth_token = true }}\ncache {{}}\n\
             listener \"unix\" {{\n address = \"{}\"\n tls_disable = true\n}}\n",
            site.login(),
            socket.display()
        );
        let mut process = site.launch("proxy", &config)?;
        // It listens before that, and passes calls on without a token.
        process.wait_for_line(READY, "authentication successful")?;
        Ok(Self { process, socket, _site: site, _postgres: postgres })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Connections that are kept, each of which reads one secret again and again.
    ///
    /// # Errors
    /// The proxy cannot be reached.
    pub(crate) async fn readers(&self, count: usize, kept: Kept) -> Result<Vec<Reader>> {
        let mut readers = Vec::new();
        for _ in 0..count {
            readers.push(Reader { connection: Connection::at(&self.socket).await?, kept });
        }
        Ok(readers)
    }
}

/// Reads one secret again and again.
pub(crate) struct Reader {
    connection: Connection<UnixStream>,
    kept: Kept,
}

impl Caller for Reader {
    async fn call(&mut self) -> Result<()> {
        let path = match self.kept {
            Kept::Yes => format!("/v1/{DATABASE}/creds/bench"),
            Kept::No => format!("/v1/{KV}/data/{SECRET}"),
        };
        let status = self.connection.get(&path, ("X-Vault-Request", "true")).await?;
        ensure!(status == 200, "`bao proxy` answered {status} to a read of `{path}`");
        Ok(())
    }
}

/// `bao agent` in exec mode: logs in, reads a secret and runs a program with it.
pub(crate) struct Supervisor {
    site: Site,
}

impl Supervisor {
    /// One that runs `program`.
    ///
    /// # Errors
    /// There is no `bao`.
    pub(crate) fn new(program: &str) -> Result<Self> {
        let site = Site::start()?;
        let config = format!(
            "{}\nenv_template \"PASSWORD\" {{\n contents = \"{{{{ with secret \\\"{KV}/data/{SECRET}\\\" }}}}{{{{ \
             .Data.data.password }}}}{{{{ end }}}}\"\n}}\nexec {{ command = [\"{program}\"] }}\n",
            site.login()
        );
        fs::write(site.path("agent.hcl"), config)?;
        Ok(Self { site })
    }

    /// Its command line.
    ///
    /// # Errors
    /// There is no `bao`.
    pub(crate) fn command(&self) -> Result<Command> {
        let mut command = self.site.command("agent")?;
        command.env("PATH", PATH);
        Ok(command)
    }
}

/// An OpenBao with a secret, and the files of whoever logs in there.
struct Site {
    bao: OpenBao,
    directory: TempDir,
}

impl Site {
    fn start() -> Result<Self> {
        let (bao, _) = start(Setting::AsItComes)?;
        bao.enable_kv(KV)?;
        let [(user, name), (password, value)] = FIELDS;
        bao.api("POST", &format!("{KV}/data/{SECRET}"), &json!({ "data": { user: name, password: value } }))?;
        let policy = format!(
            "path \"{KV}/data/*\" {{ capabilities = [\"read\"] }}\npath \"{DATABASE}/*\" {{ capabilities = [\"read\"] }}"
        );
        let role = bao.approle("node", &policy)?;
        let directory = tempfile::Builder::new().prefix("bao-node-").tempdir()?;
        fs::write(directory.path().join("role-id"), &role.role_id)?;
        fs::write(directory.path().join("secret-id"), role.secret_id.value())?;
        Ok(Self { bao, directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What both are configured with: where OpenBao is, and how to log in.
    fn login(&self) -> String {
        let quoted = |path: &Path| format!("\"{}\"", path.display());
        format!(
            "vault {{\n address = \"{}\"\n ca_cert = {}\n}}\nauto_auth {{\n method \"approle\" {{\n config = {{\n \
             role_id_file_path = {}\n secret_id_file_path = {}\n remove_secret_id_file_after_reading = false\n }}\n \
             }}\n}}\n",
            self.bao.tls_url(),
            quoted(self.bao.authority()),
            quoted(&self.path("role-id")),
            quoted(&self.path("secret-id")),
        )
    }

    fn launch(&self, verb: &str, config: &str) -> Result<Process> {
        fs::write(self.path(&format!("{verb}.hcl")), config)?;
        Process::start("bao", self.command(verb)?, self.directory.path())
    }

    fn command(&self, verb: &str) -> Result<Command> {
        let mut command = self.bao.client()?;
        command.arg(verb).arg("-config").arg(self.path(&format!("{verb}.hcl")));
        Ok(command)
    }
}

const DATABASE: &str = "database";
const SECRET: &str = "bench/0000";
const READY: Duration = Duration::from_secs(30);
