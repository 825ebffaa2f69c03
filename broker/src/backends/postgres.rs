//! Opens a PostgreSQL, and finds the password of the broker's own login there.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bursar_backend_postgres::{Keeper, Kept, PostgresBackend, PostgresConfig, RootPassword, Standing};
use bursar_core::audit::{Action, AuditRecord};
use bursar_core::backend::{
    BackendError, ErrorKind, Fetched, Operation, PutTerms, VersionInfo, VersionState,
};
use bursar_core::secret::SecretData;
use bursar_core::settings::{KeptSecret, SecretSource};
use bursar_core::{BackendName, Reference, Secret, SecretPath, Version};

use jiff::Timestamp;

use super::{Ground, Opened, Surroundings, Upkeep, fault};
use crate::call::{own_actor, own_record};
use crate::config::{PostgresSettings, StandingSettings};
use crate::ledger::Entry;
use crate::mounts::Mount;
use crate::source;
use crate::start::StartError;

pub(super) fn open(
    name: &BackendName,
    settings: &PostgresSettings,
    ground: &Ground<'_>,
) -> Result<Opened, StartError> {
    let opened = ground.opened;
    let password: Arc<dyn RootPassword> = match &settings.password {
        KeptSecret::Outside(source) => Arc::new(Outside { backend: name.clone(), source: source.clone() }),
        KeptSecret::Backend(reference) => Arc::new(Inside::new(name, reference, opened)?),
    };
    let standing = settings
        .standing
        .iter()
        .map(|(role, settings)| Ok::<_, StartError>((role.clone(), standing(name, settings, opened)?)));
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
        scram_iterations: settings.scram_iterations,
        roles: settings.roles.clone(),
        standing: standing.collect::<Result<_, _>>()?,
    };
    let backend =
        PostgresBackend::new(config, Arc::clone(ground.clock)).map_err(|error| fault(name, &error))?;
    let backend = Arc::new(backend);
    if settings.standing.is_empty() {
        return Ok(Opened { backend, upkeep: None });
    }
    let (kept, name) = (Arc::clone(&backend), name.clone());
    let upkeep: Upkeep = Box::new(move |around| {
        Box::pin(async move {
            let around = &around;
            let name = &name;
            kept.keep_rotating(|path, result| async move { rotated(around, name, path, result).await }).await;
        })
    });
    Ok(Opened { backend, upkeep: Some(upkeep) })
}

fn standing(
    backend: &BackendName,
    settings: &StandingSettings,
    opened: &BTreeMap<BackendName, Arc<Mount>>,
) -> Result<Standing, StartError> {
    let keeper = |place: &Reference| Ok::<_, StartError>(Arc::new(Inside::new(backend, place, opened)?));
    Ok(Standing {
        user: settings.user.clone(),
        rotation: settings.rotation,
        current: keeper(&settings.current)?,
        next: keeper(&settings.next)?,
    })
}

/// A standing role has another password: what is cached is good for nothing, and the log says when that was. Or it has
/// none.
async fn rotated(
    around: &Surroundings,
    backend: &BackendName,
    path: SecretPath,
    result: Result<Version, BackendError>,
) {
    if let Some(mount) = around.mounts.mount(backend) {
        mount.count(Operation::Rotate, &result);
    }
    let Ok(version) = result else { return };
    around.mounts.forget(backend, &path);
    let actor = own_actor(&around.broker);
    let resource = Reference { backend: backend.clone(), path, field: None, version: None }.to_string();
    let record = own_record(actor, around.clock.now(), "rotation".to_owned(), Action::Rotate, resource);
    let record = AuditRecord { version: Some(version.to_string()), ..record };
    if let Err(error) = around.ledger.commit(Entry { changes: Vec::new(), records: vec![record] }).await {
        tracing::error!(%backend, %error, "a rotation is not in the audit log");
    }
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
        let fetched = self.fetch(version.as_ref()).await.map_err(|error| self.unread(error))?;
        self.kept(fetched).map(Some)
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

    async fn newest(&self) -> Result<Option<Kept>, BackendError> {
        match self.fetch(None).await {
            Ok(fetched) => self.kept(fetched).map(Some),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unread(error)),
        }
    }

    async fn kept_at(&self) -> Result<Option<Timestamp>, BackendError> {
        Ok(self.versions().await?.into_iter().next().and_then(|info| info.created_at))
    }

    /// What else is kept beside it stays.
    async fn keep(&self, password: Arc<Secret>, over: Option<&Version>) -> Result<Version, BackendError> {
        let beside = match over {
            Some(over) => match self.fetch(Some(over)).await.map_err(|error| self.unread(error))?.data {
                SecretData::Fields(fields) => fields,
                SecretData::Opaque(_) => BTreeMap::new(),
            },
            None => BTreeMap::new(),
        };
        let data = match &self.place.field {
            Some(field) => {
                SecretData::Fields(beside.into_iter().chain([(field.clone(), password)]).collect())
            }
            None => SecretData::Opaque(password),
        };
        let misconfigured = || BackendError::new(ErrorKind::Misconfigured, &self.backend, Operation::Put);
        let writing = self.mount.backend.writing().ok_or_else(misconfigured)?;
        let over = over.map_or(Ok(0), |over| over.as_str().parse()).map_err(|_| misconfigured())?;
        let put = writing.put(&self.place.path, data, PutTerms::over(over));
        self.mount.call(Operation::Put, put).await.map_err(|error| self.unread(error))
    }
}

impl Inside {
    fn new(
        backend: &BackendName,
        place: &Reference,
        opened: &BTreeMap<BackendName, Arc<Mount>>,
    ) -> Result<Self, StartError> {
        let mount = opened.get(&place.backend).ok_or_else(|| StartError::Backend {
            name: backend.clone(),
            message: format!("a password is kept in `{}`, which is not open", place.backend),
        })?;
        Ok(Self { backend: backend.clone(), mount: Arc::clone(mount), place: place.clone() })
    }

    async fn fetch(&self, version: Option<&Version>) -> Result<Fetched, BackendError> {
        let read = self.mount.backend.read(&self.place.path, version);
        self.mount.call(Operation::Read, read).await
    }

    fn kept(&self, Fetched { data, version, .. }: Fetched) -> Result<Kept, BackendError> {
        let password = data.select(self.place.field.as_ref()).map_err(|error| self.unreadable(&error))?;
        Ok(Kept { password, version })
    }

    /// Those that are not deleted, newest first.
    async fn versions(&self) -> Result<Vec<VersionInfo>, BackendError> {
        let versions = self.mount.backend.versions(&self.place.path);
        let versions = self.mount.call(Operation::Versions, versions).await;
        let versions = versions.map_err(|error| self.unread(error))?;
        Ok(versions.into_iter().filter(|info| info.state == VersionState::Kept).collect())
    }

    /// The version that was the newest `back` changes ago, of a backend that has versions.
    async fn version(&self, back: usize) -> Result<Option<Version>, BackendError> {
        if !self.mount.backend.capabilities().versions {
            return Ok(None);
        }
        Ok(self.versions().await?.into_iter().map(|info| info.version).nth(back))
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
