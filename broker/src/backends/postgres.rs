//! Opens a PostgreSQL, and finds the password of the broker's own login there.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bursar_backend_postgres::{PostgresBackend, PostgresConfig, RootPassword};
use bursar_core::backend::{BackendError, ErrorKind, Operation};
use bursar_core::settings::{KeptSecret, SecretSource};
use bursar_core::{BackendName, Reference, Secret, Version};

use super::{Ground, Opened, fault};
use crate::config::PostgresSettings;
use crate::mounts::Mount;
use crate::source;
use crate::start::StartError;

pub(super) fn open(
    name: &BackendName,
    settings: &PostgresSettings,
    ground: &Ground<'_>,
    opened: &BTreeMap<BackendName, Arc<Mount>>,
) -> Result<Opened, StartError> {
    let password: Arc<dyn RootPassword> = match &settings.password {
        KeptSecret::Outside(source) => Arc::new(Outside { backend: name.clone(), source: source.clone() }),
        KeptSecret::Backend(reference) => {
            let keeper = opened.get(&reference.backend).ok_or_else(|| StartError::Backend {
                name: name.clone(),
                message: format!("its password is in `{}`, which is not open", reference.backend),
            })?;
            Arc::new(Kept { backend: name.clone(), keeper: Arc::clone(keeper), reference: reference.clone() })
        }
    };
    let config = PostgresConfig {
        name: name.clone(),
        owner: ground.origin.to_owned(),
        host: settings.host.clone(),
        port: settings.port,
        database: settings.database.clone(),
        user: settings.user.clone(),
        password,
        transport: settings.transport.clone(),
        connections: settings.connections,
        timeout: settings.timeout,
        roles: settings.roles.clone(),
    };
    let backend =
        PostgresBackend::new(config, Arc::clone(ground.clock)).map_err(|error| fault(name, &error))?;
    Ok(Opened { backend: Arc::new(backend), upkeep: None })
}

/// A password that somebody else puts where it is.
struct Outside {
    backend: BackendName,
    source: SecretSource,
}

#[async_trait]
impl RootPassword for Outside {
    async fn before(&self, back: usize) -> Result<Option<Arc<Secret>>, BackendError> {
        if back > 0 {
            return Ok(None);
        }
        let source = self.source.clone();
        let read = tokio::task::spawn_blocking(move || source::fetch(&source)).await;
        let read =
            read.map_err(|_| BackendError::new(ErrorKind::Unavailable, &self.backend, Operation::Login))?;
        let read = read.map_err(|error| {
            tracing::warn!(backend = %self.backend, %error, "the password cannot be read");
            BackendError::new(ErrorKind::Misconfigured, &self.backend, Operation::Login)
        });
        read.map(|password| Some(Arc::new(password)))
    }
}

/// A password that another backend keeps.
struct Kept {
    backend: BackendName,
    keeper: Arc<Mount>,
    reference: Reference,
}

#[async_trait]
impl RootPassword for Kept {
    async fn before(&self, back: usize) -> Result<Option<Arc<Secret>>, BackendError> {
        let version = match back {
            0 => None,
            back => match self.version(back).await? {
                Some(version) => Some(version),
                None => return Ok(None),
            },
        };
        let read = self.keeper.backend.read(&self.reference.path, version.as_ref());
        let fetched = self.keeper.call(Operation::Read, read).await.map_err(|error| self.unread(error))?;
        let password = fetched.data.select(self.reference.field.as_ref()).map_err(|error| {
            tracing::warn!(backend = %self.backend, reference = %self.reference, %error, "the password cannot be read");
            BackendError::new(ErrorKind::Misconfigured, &self.backend, Operation::Login)
        })?;
        Ok(Some(password))
    }
}

impl Kept {
    /// The version that was the newest `back` changes ago, of a backend that has versions.
    async fn version(&self, back: usize) -> Result<Option<Version>, BackendError> {
        if !self.keeper.backend.capabilities().versions {
            return Ok(None);
        }
        let versions = self.keeper.backend.versions(&self.reference.path);
        let versions =
            self.keeper.call(Operation::Versions, versions).await.map_err(|error| self.unread(error))?;
        let there = versions.into_iter().filter(|version| !version.deleted);
        Ok(there.map(|version| version.version).nth(back))
    }

    /// A failure of the keeper is one of the login here, and the keeper's own call has been counted as its.
    fn unread(&self, error: BackendError) -> BackendError {
        tracing::warn!(backend = %self.backend, reference = %self.reference, %error, "the password cannot be read");
        let kind = match error.kind {
            ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Malformed => ErrorKind::Misconfigured,
            kind => kind,
        };
        BackendError { kind, backend: self.backend.clone(), operation: Operation::Login, code: None, ..error }
    }
}
