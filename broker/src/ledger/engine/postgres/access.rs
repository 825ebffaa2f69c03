//! The way in: the URL, read anew for each session, TLS, and what a session must be before anything is written by it.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::Secret;
use bursar_core::settings::SecretSource;
use bursar_postgres::{ClientFiles, ConfigError, Server, Session, Transport, Trust};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::failure::Fault;
use crate::source::{self, SourceError};

/// How a ledger in a PostgreSQL is reached.
#[derive(Debug, Clone)]
pub struct PostgresAccess {
    /// Has `postgres://USER@HOST:PORT/DATABASE`; several hosts are tried in order.
    pub url: SecretSource,
    /// The password, where the URL has none.
    pub password: Option<SecretSource>,
    pub transport: Transport,
    /// The broker's certificate, where the server asks for one.
    pub client: Option<ClientFiles>,
    /// The longest that one transaction may take, a login included.
    pub timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Access {
    how: PostgresAccess,
    pub(super) timeout: Duration,
}

/// What the URL says.
struct Address {
    servers: Vec<(String, u16)>,
    database: String,
    user: String,
    password: Option<Secret>,
}

impl Access {
    pub(super) fn new(how: PostgresAccess) -> Self {
        let timeout = how.timeout;
        Self { how, timeout }
    }

    /// Where it leads, without what it takes to get in.
    pub(super) fn place(&self) -> Result<String, UrlFault> {
        let address = self.address()?;
        let servers: Vec<_> = address.servers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        Ok(format!("postgres://{}/{}", servers.join(","), address.database))
    }

    /// A session with the first server that takes writes, of those that the URL names.
    pub(super) async fn log_in(&self) -> Result<Session, Fault> {
        let address = self.address().map_err(Fault::Url)?;
        let mut met = Fault::lost();
        for (host, port) in &address.servers {
            match self.log_in_at(host, *port, &address).await {
                Ok(session) => return Ok(session),
                Err(fault) => met = fault,
            }
        }
        Err(met)
    }

    async fn log_in_at(&self, host: &str, port: u16, address: &Address) -> Result<Session, Fault> {
        let trust = match &self.how.transport {
            Transport::Tls { ca_file } => {
                let trust = Trust::new(host, ca_file.clone(), self.how.client.clone());
                Some(Arc::new(trust.map_err(|fault| Fault::Url(fault.into()))?))
            }
            Transport::Plaintext => None,
        };
        let milliseconds = self.timeout.as_millis();
        let server = Server {
            host: host.to_owned(),
            port,
            database: address.database.clone(),
            user: address.user.clone(),
            trust,
            // Without statistics of a table that is new, a plan that reads all of it would be kept while it grows.
            options: format!(
                "-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={milliseconds} \
                 -c enable_seqscan=off -c client_min_messages=error"
            ),
        };
        let mut session = server.log_in(address.password.as_ref()).await?;
        let rows = session.drive(async |client| client.query(SETTINGS, &[]).await).await?;
        let row = rows.first().ok_or_else(Fault::lost)?;
        let setting = |column| row.try_get::<_, Option<String>>(column);
        for (column, name, bad) in [(0, "fsync", "off"), (1, "synchronous_commit", "off")] {
            if setting(column)?.as_deref() == Some(bad) {
                return Err(Fault::Volatile { setting: name });
            }
        }
        if setting(2)?.as_deref() == Some("on") {
            return Err(Fault::ReadOnly);
        }
        Ok(session)
    }

    fn address(&self) -> Result<Address, UrlFault> {
        let text = source::fetch(&self.how.url)?;
        let parsed = std::str::from_utf8(text.expose()).ok().and_then(|text| Config::from_str(text).ok());
        let parsed = parsed.ok_or(UrlFault::Form)?;
        let names = parsed.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => Ok(name.clone()),
            Host::Unix(_) => Err(UrlFault::Form),
        });
        let names: Vec<_> = names.collect::<Result<_, _>>()?;
        let ports = parsed.get_ports();
        let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
        let servers: Vec<_> = names.into_iter().enumerate().map(|(at, name)| (name, port(at))).collect();
        if servers.is_empty() {
            return Err(UrlFault::Form);
        }
        if parsed.get_ssl_mode() == SslMode::Disable && self.how.transport != Transport::Plaintext {
            return Err(UrlFault::Plaintext);
        }
        if parsed.get_options().is_some() {
            return Err(UrlFault::Options);
        }
        let own = parsed.get_password().map(|password| Secret::new(password.to_vec()));
        let password = match (&self.how.password, own) {
            (Some(source), _) => Some(source::fetch(source)?),
            (None, own) => own,
        };
        Ok(Address {
            servers,
            database: parsed.get_dbname().ok_or(UrlFault::Form)?.to_owned(),
            user: parsed.get_user().ok_or(UrlFault::Form)?.to_owned(),
            password,
        })
    }
}

/// What is wrong with the way in, before a server was asked. The URL may have a password, so no message shows it.
#[derive(Debug, thiserror::Error)]
pub enum UrlFault {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("`ledger.url` is no URL of a database; write `postgres://USER:PASSWORD@HOST:PORT/DATABASE`")]
    Form,
    #[error("`ledger.url` says `sslmode=disable`; take that out, or set `ledger.allow_plaintext`")]
    Plaintext,
    #[error("`ledger.url` has `options`, which the broker sets itself; take them out")]
    Options,
    #[error("`ledger.ca_file`, `client_certificate`, `client_key` or the host in `ledger.url` cannot be used: {}", told(.0))]
    Tls(#[from] ConfigError),
    #[error("`{}` cannot be used", path.display())]
    Home {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

fn told(error: &ConfigError) -> String {
    error.to_string()
}

/// Absent where an engine does not know a setting.
const SETTINGS: &str = "SELECT current_setting('fsync', true), current_setting('synchronous_commit', true), \
     current_setting('transaction_read_only', true)";

const DEFAULT_PORT: u16 = 5432;
