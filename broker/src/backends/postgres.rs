//! Opens a PostgreSQL, and finds the password of the broker's own login there.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bursar_backend_postgres::{Keeper, Kept, PostgresBackend, PostgresConfig, RootPassword};
use bursar_core::backend::{BackendError, ErrorKind, Fetched, Operation};
use bursar_core::secret::SecretData;
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
            Arc::new(Inside { backend: name.clone(), mount: Arc::clone(keeper), place: reference.clone() })
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
    async fn before(&self, back: usize) -> Result<Option<Kept>, BackendError> {
        if back > 0 {
            return Ok(None);
        }
        let source = self.source.clone();
        let read = tokio::task::spawn_blocking(move || source::fetch(&source)).await;
        let read =
            read.map_err(|_| BackendError::new(ErrorKind::Unavailable, &self.backend, Operation::Login))?;
        let password = read.map_err(|error| {
            tracing::warn!(backend = %self.backend, %error, "the password cannot be read");
            BackendError::new(ErrorKind::Misconfigured, &self.backend, Operation::Login)
        })?;
        Ok(Some(Kept { password: Arc::new(password), version: None }))
    }
}

/// A password that another backend keeps.
struct Inside {
    backend: BackendName,
    mount: Arc<Mount>,
    place: Reference,
}

#[async_trait]
impl RootPassword for Inside {
    async fn before(&self, back: usize) -> Result<Option<Kept>, BackendError> {
        let version = match back {
            0 => None,
            back => match self.version(back).await? {
                Some(version) => Some(version),
                None => return Ok(None),
            },
        };
        let Fetched { data, version } = self.read(version.as_ref()).await?;
        let password = data.select(self.place.field.as_ref()).map_err(|error| self.unreadable(&error))?;
        Ok(Some(Kept { password, version }))
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        self.mount.backend.writing().map(|_| self as &dyn Keeper)
    }
}

#[async_trait]
impl Keeper for Inside {
    fn place(&self) -> &Reference {
        &self.place
    }

    /// What else is kept beside it stays.
    async fn keep(&self, password: Arc<Secret>, over: &Version) -> Result<Version, BackendError> {
        let data = match (&self.place.field, self.read(Some(over)).await?.data) {
            (Some(field), SecretData::Fields(mut fields)) => {
                fields.insert(field.clone(), password);
                SecretData::Fields(fields)
            }
            _ => SecretData::Opaque(password),
        };
        let misconfigured = || BackendError::new(ErrorKind::Misconfigured, &self.backend, Operation::Put);
        let writing = self.mount.backend.writing().ok_or_else(misconfigured)?;
        let over = over.as_str().parse().map_err(|_| misconfigured())?;
        let put = writing.put(&self.place.path, data, Some(over));
        self.mount.call(Operation::Put, put).await.map_err(|error| self.unread(error))
    }
}

impl Inside {
    async fn read(&self, version: Option<&Version>) -> Result<Fetched, BackendError> {
        let read = self.mount.backend.read(&self.place.path, version);
        self.mount.call(Operation::Read, read).await.map_err(|error| self.unread(error))
    }

    /// The version that was the newest `back` changes ago, of a backend that has versions.
    async fn version(&self, back: usize) -> Result<Option<Version>, BackendError> {
        if !self.mount.backend.capabilities().versions {
            return Ok(None);
        }
        let versions = self.mount.backend.versions(&self.place.path);
        let versions = self.mount.call(Operation::Versions, versions).await;
        let there = versions.map_err(|error| self.unread(error))?.into_iter().filter(|info| !info.deleted);
        Ok(there.map(|info| info.version).nth(back))
    }

    /// A failure of the keeper is one of the login here; the keeper's own call has been counted as its.
    fn unread(&self, error: BackendError) -> BackendError {
        let unreadable = self.unreadable(&error);
        match error.kind {
            ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Malformed | ErrorKind::Misconfigured => {
                unreadable
            }
            kind => BackendError { kind, retry_after: error.retry_after, ..unreadable },
        }
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> BackendError {
        tracing::warn!(backend = %self.backend, place = %self.place, %error, "the password cannot be read or kept");
        BackendError::new(ErrorKind::Misconfigured, &self.backend, Operation::Login)
    }
}
