//! OpenBao doing the same work: KV version 2, read by TLS with an application's token, each read in the audit file.

use anyhow::{Context, Result};
use bursar_tests::OpenBao;
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::bursar::FIELDS;
use crate::cpu;
use crate::load::Caller;
use connection::Connection;

mod connection;

/// A running OpenBao with secrets in it. Stopped, and its data removed, on drop.
pub(crate) struct Peer {
    bao: OpenBao,
    pid: u32,
    secrets: usize,
    token: String,
}

impl Peer {
    /// Starts OpenBao and stores `secrets` secrets of two fields.
    ///
    /// # Errors
    /// There is no `bao`, or it refuses.
    pub(crate) fn start(secrets: usize) -> Result<Self> {
        let bao = OpenBao::start()?;
        let pid = cpu::process_in(bao.directory())?;
        bao.enable_kv(MOUNT)?;
        let fields = FIELDS.into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
        let body = json!({ "data": Value::Object(fields.collect()) });
        for number in 0..secrets {
            bao.api("POST", &path(number), &body)?;
        }
        let policy = format!("path \"{MOUNT}/data/*\" {{ capabilities = [\"read\"] }}");
        let role = bao.approle("bench", &policy)?;
        let login = json!({ "role_id": role.role_id, "secret_id": role.secret_id.value() });
        let login = bao.api("POST", "auth/approle/login", &login)?;
        let token = login.pointer("/auth/client_token").and_then(Value::as_str);
        let token = token.context("OpenBao gave no token")?.to_owned();
        Ok(Self { bao, pid, secrets, token })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// A connection that is kept, for reads from secret number `first` on.
    ///
    /// # Errors
    /// OpenBao cannot be reached.
    pub(crate) async fn reader(&self, first: usize) -> Result<Reader> {
        let authority = CertificateDer::from_pem_file(self.bao.authority())?;
        let url = self.bao.tls_url();
        let address = url.strip_prefix("https://").context("OpenBao has no TLS address")?.parse()?;
        let connection = Connection::open(address, authority).await?;
        let next = first % self.secrets;
        Ok(Reader { connection, token: self.token.clone(), next, secrets: self.secrets })
    }
}

/// Reads one secret after the other.
pub(crate) struct Reader {
    connection: Connection,
    token: String,
    next: usize,
    secrets: usize,
}

impl Caller for Reader {
    async fn call(&mut self) -> Result<()> {
        let path = path(self.next);
        self.next = (self.next + 1) % self.secrets;
        let status = self.connection.get(&format!("/v1/{path}"), ("X-Vault-Token", &self.token)).await?;
        anyhow::ensure!(status == 200, "OpenBao answered {status} to a read of `{path}`");
        Ok(())
    }
}

fn path(number: usize) -> String {
    format!("{MOUNT}/data/bench/{number:04}")
}

const MOUNT: &str = "kv";
