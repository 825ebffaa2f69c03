//! The contract of a backend, kept by a PostgreSQL.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;
use bursar_core::backend::{
    Backend, BackendError, Capabilities, ErrorKind, Fetched, Leasing, Operation, Rotating, VersionInfo,
};
use bursar_core::{BackendName, Clock, SecretPath, Version};
use bursar_postgres::{ConfigError, Server, Transport, Trust};
use ring::error::Unspecified;
use ring::rand::SystemRandom;
use tokio::sync::Mutex;

use crate::batch::Batch;
use crate::config::{PostgresConfig, Role, Standing};
use crate::name::{Names, RoleName};
use crate::pool::Pool;
use crate::run::{Column, Stopped};
use crate::standing;

/// One PostgreSQL.
pub struct PostgresBackend {
    pub(crate) name: BackendName,
    pub(crate) pool: Pool,
    pub(crate) names: Names,
    pub(crate) roles: BTreeMap<RoleName, Role>,
    pub(crate) standing: BTreeMap<RoleName, Standing>,
    pub(crate) random: SystemRandom,
    pub(crate) scram_iterations: NonZeroU32,
    pub(crate) clock: Arc<dyn Clock>,
    /// One rotation at a time.
    pub(crate) rotation: Mutex<()>,
}

impl PostgresBackend {
    /// Reads the CA file. Calls nothing: the server may be down when the broker starts.
    ///
    /// # Errors
    /// [`ConfigError`], for configurations that can never work.
    pub fn new(config: PostgresConfig, clock: Arc<dyn Clock>) -> Result<Self, ConfigError> {
        let trust = match config.transport {
            Transport::Tls { ca_file } => Some(Arc::new(Trust::new(&config.host, ca_file, None)?)),
            Transport::Plaintext => None,
        };
        let server = Server {
            host: config.host,
            port: config.port,
            database: config.database,
            user: config.user,
            trust,
            options: format!("-c statement_timeout={}", config.timeout.as_millis()),
        };
        let name = config.name;
        Ok(Self {
            pool: Pool::new(name.clone(), server, config.password, config.connections, config.timeout),
            names: Names::new(config.owner, name.clone()),
            name,
            roles: config.roles,
            standing: config.standing,
            random: SystemRandom::new(),
            scram_iterations: config.scram_iterations,
            clock,
            rotation: Mutex::default(),
        })
    }

    pub(crate) fn error(&self, kind: ErrorKind, operation: Operation) -> BackendError {
        self.pool.error(kind, operation)
    }

    /// Makes a password or verifier, where that holds up no other request.
    pub(crate) async fn made<T: Send + 'static>(
        &self,
        operation: Operation,
        make: impl FnOnce(&SystemRandom) -> Result<T, Unspecified> + Send + 'static,
    ) -> Result<T, BackendError> {
        let random = self.random.clone();
        let made = tokio::task::spawn_blocking(move || make(&random)).await;
        let unavailable = || self.error(ErrorKind::Unavailable, operation);
        made.map_err(|_| unavailable())?.map_err(|_| unavailable())
    }

    /// Runs one batch of the broker's own.
    pub(crate) async fn ask(&self, operation: Operation, statement: &str) -> Result<Column, BackendError> {
        let batch = Batch::default().own([statement]);
        let answers = self.pool.run(operation, std::slice::from_ref(&batch)).await?;
        let answer = answers.into_iter().next().unwrap_or_else(|| Ok(Column::new()));
        answer.map_err(|stopped| self.told(operation, None, &batch, &stopped))
    }

    /// Says in the log which statement was refused, by numbers, and makes an error of it.
    pub(crate) fn told(
        &self,
        operation: Operation,
        role: Option<&RoleName>,
        batch: &Batch,
        stopped: &Stopped,
    ) -> BackendError {
        let refusal = &stopped.refusal;
        tracing::warn!(
            backend = %self.name,
            %operation,
            kind = %refusal.kind,
            role = role.map(RoleName::as_str),
            statement = batch.failed(stopped.done, refusal.position),
            sqlstate = refusal.sqlstate,
            cause = refusal.cause,
            "statement not done"
        );
        self.error(refusal.kind, operation)
    }
}

#[async_trait]
impl Backend for PostgresBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "postgres",
            versions: !self.standing.is_empty(),
            list: true,
            leasing: true,
            writing: false,
        }
    }

    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn read(&self, path: &SecretPath, version: Option<&Version>) -> Result<Fetched, BackendError> {
        self.read_standing(path, version).await
    }

    /// The roles of the configuration, under `creds` and `static`. Asks nobody.
    async fn list(
        &self,
        folder: Option<&SecretPath>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, BackendError> {
        let entries: Vec<String> = match folder.map(SecretPath::as_str) {
            None if self.standing.is_empty() => vec![format!("{FOLDER}/")],
            None => vec![format!("{FOLDER}/"), format!("{}/", standing::FOLDER)],
            Some(standing::FOLDER) => self.standing.keys().map(ToString::to_string).collect(),
            Some(FOLDER) => self.roles.keys().map(ToString::to_string).collect(),
            Some(_) => Vec::new(),
        };
        let later = entries.into_iter().filter(|entry| after.is_none_or(|after| entry.as_str() > after));
        Ok(later.take(limit).collect())
    }

    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn versions(&self, path: &SecretPath) -> Result<Vec<VersionInfo>, BackendError> {
        self.standing_versions(path).await
    }

    /// Whether a role could be made now, as far as that can be told without making one.
    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn health(&self) -> Result<(), BackendError> {
        let answer = self.ask(Operation::Health, ABLE).await?;
        match answer.first().and_then(Option::as_deref) {
            Some("able") => Ok(()),
            // A standby, which becomes able when it is promoted.
            Some("standby") => Err(self.error(ErrorKind::Unavailable, Operation::Health)),
            _ => Err(self.error(ErrorKind::Denied, Operation::Health)),
        }
    }

    fn leasing(&self) -> Option<&dyn Leasing> {
        Some(self)
    }

    fn rotating(&self) -> Option<&dyn Rotating> {
        self.pool.keeper().map(|_| self as &dyn Rotating)
    }
}

impl fmt::Debug for PostgresBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBackend")
            .field("name", &self.name)
            .field("roles", &self.roles.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// What the paths of credentials begin with.
pub(crate) const FOLDER: &str = "creds";
const ABLE: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'standby' \
                    WHEN rolsuper OR rolcreaterole THEN 'able' ELSE 'denied' END \
                    FROM pg_catalog.pg_roles WHERE rolname = current_user";
