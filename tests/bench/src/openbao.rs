//! OpenBao doing the same work: KV version 2, read by TLS with an application's token, each read in the audit file.

use std::time::Duration;

use anyhow::{Context, Result};
use bursar_tests::{OpenBao, wait_for};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::bursar::FIELDS;
use crate::cpu;
use crate::load::{Caller, Figures};
use crate::report::{Figure, shown};
use connection::Connection;

pub(crate) use database::Database;
pub(crate) use proxy::{Kept, Proxy, Supervisor};
pub(crate) use tokens::Tokens;

mod connection;
mod database;
mod proxy;
mod tokens;

/// How OpenBao is run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Setting {
    AsItComes,
    /// With a heap that may grow four times as far before it is collected, for nobody to say that it was left untuned.
    LargerHeap,
}

impl Setting {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AsItComes => "as it comes",
            Self::LargerHeap => "GOGC=400",
        }
    }

    fn environment(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::AsItComes => &[],
            Self::LargerHeap => &[("GOGC", "400")],
        }
    }
}

/// What OpenBao does under the same load either way.
pub(crate) struct Compared<'run> {
    pub(crate) plain: &'run Figures,
    pub(crate) tuned: &'run Figures,
}

impl Compared<'_> {
    /// `figure` beside that of the faster one, with the other in a note.
    pub(crate) fn beside(&self, figure: Figure, value: fn(&Figures) -> f64) -> Figure {
        let (plain, tuned) = ((Setting::AsItComes, self.plain), (Setting::LargerHeap, self.tuned));
        let (faster, slower) = if self.tuned.rps > self.plain.rps { (tuned, plain) } else { (plain, tuned) };
        let note = format!("OpenBao {}; {}: {}", faster.0.name(), slower.0.name(), shown(value(slower.1)));
        figure.beside_openbao(value(faster.1)).noted(&note)
    }
}

/// A running OpenBao, and its process.
fn start(setting: Setting) -> Result<(OpenBao, u32)> {
    let bao = OpenBao::start_with(setting.environment())?;
    let pid = cpu::process_in(bao.directory())?;
    Ok((bao, pid))
}

/// Revokes all leases under `prefix` by one order. Answers how long it took until none was left.
fn revoke_all(bao: &OpenBao, prefix: &str) -> Result<Duration> {
    let start = Instant::now();
    // Without `sync` it answers once all are queued, and is done in half the time.
    bao.api("POST", &format!("sys/leases/revoke-prefix/{prefix}"), &json!({ "sync": false }))?;
    wait_for(
        REVOKED,
        "OpenBao to have revoked all leases",
        || Ok((list(bao, prefix)?.0 == 0).then_some(())),
    )?;
    Ok(start.elapsed())
}

/// Lists the leases under `prefix`. Answers how many there are, and how long the answer took.
fn list(bao: &OpenBao, prefix: &str) -> Result<(usize, Duration)> {
    let start = Instant::now();
    // A list of nothing is an error there.
    let answer = bao.api("LIST", &format!("sys/leases/lookup/{prefix}"), &Value::Null);
    let taken = start.elapsed();
    let count = match answer {
        Ok(answer) => answer.pointer("/data/keys").and_then(Value::as_array).map(Vec::len),
        Err(error) if error.to_string().contains(" 404 ") => Some(0),
        Err(error) => return Err(error),
    };
    Ok((count.context("OpenBao's list of leases has no keys")?, taken))
}

/// A connection that is kept.
async fn connect(bao: &OpenBao) -> Result<Connection> {
    let authority = CertificateDer::from_pem_file(bao.authority())?;
    let url = bao.tls_url();
    let address = url.strip_prefix("https://").context("OpenBao has no TLS address")?.parse()?;
    Connection::open(address, authority).await
}

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
    pub(crate) fn start(setting: Setting, secrets: usize) -> Result<Self> {
        let (bao, pid) = start(setting)?;
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
        let connection = connect(&self.bao).await?;
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
/// Its HTTP/1.1 has no streams, and it answers no faster with more.
pub(crate) const CONNECTIONS: usize = 32;
const REVOKED: Duration = Duration::from_secs(300);
