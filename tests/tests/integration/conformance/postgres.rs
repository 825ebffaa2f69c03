//! A real PostgreSQL, reached by TLS, as a role that may make roles and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use bursar_backend_postgres::{
    Kept, PostgresBackend, PostgresConfig, Purpose, Role, RoleName, RootPassword, Statements, Transport,
};
use bursar_core::backend::{Backend, BackendError};
use bursar_core::conformance::{Fault, Site, Trouble};
use bursar_core::secret::SecretData;
use bursar_core::{BackendName, Secret, SecretPath, SystemClock};
use bursar_tests::{Canary, Postgres, Release};
use rustix::process::Signal;

use super::conforms;
use crate::vault_backend::logs_in;

#[test]
fn postgres_does_what_a_backend_has_to_do() -> Result<()> {
    conforms(&Server::start(Release::System)?, "`postgres`")
}

#[test]
fn a_server_that_lets_nobody_make_members_of_a_role_unasked_does_so_too() -> Result<()> {
    conforms(&Server::start(Release::Sixteen)?, "`postgres`")
}

#[test]
fn the_newest_server_does_so_too() -> Result<()> {
    conforms(&Server::start(Release::Eighteen)?, "`postgres`")
}

struct Server {
    backend: PostgresBackend,
    postgres: Mutex<Postgres>,
}

impl Server {
    fn start(release: Release) -> Result<Self> {
        let postgres = Postgres::start_release(release, &[])?;
        let password = postgres.role_maker(USER)?;
        postgres.psql("CREATE ROLE readers NOLOGIN")?;
        if release != Release::System {
            postgres.psql(&format!("GRANT readers TO {USER} WITH ADMIN OPTION"))?;
        }
        let backend = backend(&postgres, release, &password)?;
        Ok(Self { backend, postgres: Mutex::new(postgres) })
    }

    fn postgres(&self) -> MutexGuard<'_, Postgres> {
        self.postgres.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::Down => self.postgres().stop(),
            Trouble::Hung => self.postgres().signal_all(Signal::STOP),
            Trouble::Denied => self.postgres().psql(&format!("ALTER ROLE {USER} NOCREATEROLE")).map(drop),
            other => Err(anyhow!("{other:?} does not befall it")),
        }
    }

    fn end(&self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::Down => self.postgres().start_again(),
            Trouble::Hung => self.postgres().signal_all(Signal::CONT),
            Trouble::Denied => self.postgres().psql(&format!("ALTER ROLE {USER} CREATEROLE")).map(drop),
            other => Err(anyhow!("{other:?} does not befall it")),
        }
    }
}

/// A backend with one role, `app`, a member of `readers`.
fn backend(postgres: &Postgres, release: Release, password: &Canary) -> Result<PostgresBackend> {
    let creation =
        "CREATE ROLE {{name}} LOGIN PASSWORD {{password}} VALID UNTIL {{expiration}} IN ROLE readers";
    let role = Role {
        creation: statements(Purpose::Creation, &[creation])?,
        renewal: Statements::default_for(Purpose::Renewal).ok_or_else(|| anyhow!("no default"))?,
        revocation: Statements::default_for(Purpose::Revocation).ok_or_else(|| anyhow!("no default"))?,
        ttl: Duration::from_secs(600),
        max_ttl: Duration::from_secs(3600),
    };
    let config = PostgresConfig {
        name: BackendName::parse("pg")?,
        owner: "example.org/conformance".to_owned(),
        host: postgres.address().ip().to_string(),
        port: postgres.address().port(),
        database: Postgres::DATABASE.to_owned(),
        user: USER.to_owned(),
        password: Arc::new(Fixed(password.value().to_owned())),
        transport: match release.has_tls() {
            true => Transport::Tls { ca_file: Some(postgres.authority().to_owned()) },
            false => Transport::Plaintext,
        },
        connections: 4,
        timeout: Duration::from_secs(3),
        roles: BTreeMap::from([(RoleName::parse("app")?, role)]),
        scram_iterations: PostgresConfig::DEFAULT_SCRAM_ITERATIONS,
        standing: BTreeMap::new(),
    };
    Ok(PostgresBackend::new(config, Arc::new(SystemClock))?)
}

fn statements(purpose: Purpose, texts: &[&str]) -> Result<Statements> {
    let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
    Statements::parse(&texts, purpose).map_err(|faults| anyhow!("{faults:?}"))
}

struct Fixed(String);

#[async_trait]
impl RootPassword for Fixed {
    async fn before(&self, back: usize) -> Result<Option<Kept>, BackendError> {
        let password = || Arc::new(Secret::from(self.0.clone()));
        Ok((back == 0).then(|| Kept { password: password(), version: None }))
    }
}

#[async_trait]
impl Site for Server {
    fn backend(&self) -> &dyn Backend {
        &self.backend
    }

    fn path(&self, name: &str) -> String {
        format!("creds/{name}")
    }

    fn keeps_secrets(&self) -> bool {
        false
    }

    async fn write(&self, _: &SecretPath, _: &SecretData) -> Result<(), Fault> {
        Err("it keeps no secrets".into())
    }

    fn takes_bytes(&self) -> bool {
        false
    }

    fn longest(&self) -> usize {
        0
    }

    fn beyond(&self) -> usize {
        0
    }

    fn leased(&self) -> Option<String> {
        Some("creds/app".to_owned())
    }

    async fn opens(&self, credential: &SecretData) -> Result<bool, Fault> {
        tokio::task::block_in_place(|| Ok(logs_in(&self.postgres(), credential)?))
    }

    fn troubles(&self) -> &[Trouble] {
        &[Trouble::Down, Trouble::Hung, Trouble::Denied]
    }

    async fn befall(&self, trouble: Trouble) -> Result<(), Fault> {
        tokio::task::block_in_place(|| Ok(self.begin(trouble)?))
    }

    async fn mend(&self, trouble: Trouble) -> Result<(), Fault> {
        tokio::task::block_in_place(|| Ok(self.end(trouble)?))
    }
}

const USER: &str = "bursar";
