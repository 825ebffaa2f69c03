//! The contract of a backend, kept by a Vault or OpenBao.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bursar_core::backend::{
    Backend, BackendError, Capabilities, ErrorKind, Fetched, Labels, Leasing, Operation, VersionInfo,
    Wrapping, repeat,
};
use bursar_core::{BackendName, Clock, SecretPath, Version};

use crate::answer::Answer;
use crate::auth;
use crate::client::{Client, Request};
use crate::config::{Auth, ConfigError, MountKind, VaultConfig};
use crate::kv;
use crate::mounts::{Mounts, Place, mount_path};
use crate::session::Session;

/// One Vault or OpenBao.
pub struct VaultBackend {
    pub(crate) name: BackendName,
    pub(crate) session: Session,
    pub(crate) mounts: Mounts,
    pub(crate) parameters: BTreeMap<String, BTreeMap<String, String>>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl VaultBackend {
    /// Checks the configuration and reads its CA file. Calls nothing: the store may be down when the broker starts.
    ///
    /// # Errors
    /// [`ConfigError`], for configurations that can never work.
    pub fn new(config: VaultConfig, clock: Arc<dyn Clock>) -> Result<Self, ConfigError> {
        let client = Client::new(&config)?;
        let auth = match config.auth {
            Auth::AppRole { mount, role_id, secret_id } => {
                Auth::AppRole { mount: mount_path(&mount)?, role_id, secret_id }
            }
            Auth::Certificate { mount, role, certificate, key } => {
                Auth::Certificate { mount: mount_path(&mount)?, role, certificate, key }
            }
            Auth::Jwt { mount, role, jwt } => Auth::Jwt { mount: mount_path(&mount)?, role, jwt },
            token @ Auth::Token(_) => token,
        };
        let mounts = Mounts::new(config.mounts)?;
        let creates = |path: &str| SecretPath::from_store(path).is_ok_and(|path| mounts.creates(&path));
        if let Some(path) = config.parameters.keys().find(|path| !creates(path)) {
            return Err(ConfigError::Parameters { path: path.clone() });
        }
        Ok(Self {
            name: config.name,
            session: Session::new(client, auth),
            mounts,
            parameters: config.parameters,
            timeout: config.timeout,
            clock,
        })
    }

    /// Keeps the broker's token, and with it every lease it made, alive: renews it at two thirds of its life, and logs
    /// in anew when it cannot be renewed. Never returns; the broker runs it beside the backend and drops it to stop.
    pub async fn keep_alive(&self) {
        self.session.keep_alive().await;
    }

    /// Where a path is, refused when it is under no configured mount.
    pub(crate) fn place<'path>(
        &self,
        path: &'path SecretPath,
        operation: Operation,
    ) -> Result<Place<'path>, BackendError> {
        self.mounts.place(path).ok_or_else(|| self.error(ErrorKind::Misconfigured, operation))
    }

    pub(crate) fn error(&self, kind: ErrorKind, operation: Operation) -> BackendError {
        BackendError::new(kind, &self.name, operation)
    }

    /// Sends a call that changes nothing, again if need be.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Answer, BackendError> {
        repeat(self.timeout, || self.session.send(request)).await
    }

    /// What KV version 2 knows of an entry besides its value.
    async fn about(&self, place: &Place<'_>, operation: Operation) -> Result<Answer, BackendError> {
        self.ask(&kv::metadata_request(&self.session.client, operation, place)).await
    }

    async fn list_mount(
        &self,
        place: &Place<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<BTreeSet<String>, BackendError> {
        if place.kind.creates() {
            return Err(self.error(ErrorKind::Misconfigured, Operation::List));
        }
        match self.ask(&kv::list_request(&self.session.client, place, after, limit)).await {
            Ok(answer) => kv::keys(&answer).map(BTreeSet::from_iter),
            // The stores know folders only by what is in them.
            Err(error) if error.kind == ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Backend for VaultBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "vault",
            versions: self.mounts.any(|kind| kind == MountKind::KvV2),
            list: self.mounts.any(|kind| !kind.creates()),
            leasing: self.mounts.any(MountKind::creates),
            writing: false,
        }
    }

    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn read(&self, path: &SecretPath, version: Option<&Version>) -> Result<Fetched, BackendError> {
        let place = self.place(path, Operation::Read)?;
        if place.kind.creates() {
            return Err(self.error(ErrorKind::Misconfigured, Operation::Read));
        }
        let request = kv::read_request(&self.session.client, &place, version)
            .filter(|_| !place.rest.is_empty())
            .ok_or_else(|| self.error(ErrorKind::NotFound, Operation::Read))?;
        kv::fetched(place.kind, &self.ask(&request).await?)
    }

    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn list(
        &self,
        folder: Option<&SecretPath>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, BackendError> {
        let mut entries = self.mounts.below(folder);
        match folder.and_then(|folder| self.mounts.place(folder)) {
            Some(place) => entries.extend(self.list_mount(&place, after, limit).await?),
            None if folder.is_some() && entries.is_empty() => {
                return Err(self.error(ErrorKind::Misconfigured, Operation::List));
            }
            None => {}
        }
        let later = entries.into_iter().filter(|entry| after.is_none_or(|after| entry.as_str() > after));
        Ok(later.take(limit).collect())
    }

    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn versions(&self, path: &SecretPath) -> Result<Vec<VersionInfo>, BackendError> {
        let place = self.place(path, Operation::Versions)?;
        if place.kind != MountKind::KvV2 {
            return Err(self.error(ErrorKind::Misconfigured, Operation::Versions));
        }
        if place.rest.is_empty() {
            return Err(self.error(ErrorKind::NotFound, Operation::Versions));
        }
        kv::versions(&self.about(&place, Operation::Versions).await?, self.clock.now())
    }

    /// Asks KV version 2 for its metadata. The others have nothing that tells.
    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn newest(&self, path: &SecretPath) -> Result<Option<Version>, BackendError> {
        let place = self.place(path, Operation::Newest)?;
        if place.kind != MountKind::KvV2 || place.rest.is_empty() {
            return Ok(None);
        }
        let now = self.clock.now();
        let versions = kv::versions(&self.about(&place, Operation::Newest).await?, now)?;
        let newest = versions.into_iter().next().filter(|newest| newest.is_readable(now));
        newest
            .map(|newest| Some(newest.version))
            .ok_or_else(|| self.error(ErrorKind::NotFound, Operation::Newest))
    }

    /// The custom metadata of KV version 2.
    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn labels(&self, path: &SecretPath) -> Result<Labels, BackendError> {
        let place = self.place(path, Operation::Labels)?;
        if place.kind != MountKind::KvV2 || place.rest.is_empty() {
            return Ok(Labels::new());
        }
        kv::labels(&self.about(&place, Operation::Labels).await?)
    }

    #[tracing::instrument(skip_all, fields(backend = %self.name))]
    async fn health(&self) -> Result<(), BackendError> {
        self.session.client.health().await?;
        let request = auth::look_up_request(&self.session.client, Operation::Health);
        self.session.send(&request).await.map(drop)
    }

    fn leasing(&self) -> Option<&dyn Leasing> {
        self.mounts.any(MountKind::creates).then_some(self)
    }

    fn wrapping(&self) -> Option<&dyn Wrapping> {
        Some(self)
    }
}

impl fmt::Debug for VaultBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultBackend")
            .field("name", &self.name)
            .field("mounts", &self.mounts)
            .finish_non_exhaustive()
    }
}
