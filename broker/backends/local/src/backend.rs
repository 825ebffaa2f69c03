//! The store as a backend: each call is a closure for the pool, and each failure a `BackendError`.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bursar_core::backend::{
    Backend, BackendError, Capabilities, Fetched, LabelChange, Labels, Operation, PutTerms, VersionInfo,
    Writing,
};
use bursar_core::secret::SecretData;
use bursar_core::{BackendName, Clock, Secret, SecretPath, Version};
use ring::aead::AES_256_GCM;
use rusqlite::Connection;
use tracing::instrument;

use crate::error::{Fault, OpenError};
use crate::keys::DataKey;
use crate::number::Number;
use crate::pool::Pool;
use crate::write::NewVersion;
use crate::{file, label, list, open, read, write};

/// Where a store is and how it is opened.
pub struct LocalConfig {
    /// The name that it is mounted under.
    pub name: BackendName,
    /// The database file; made with mode 0600 when absent, and directories above it with 0700.
    pub path: PathBuf,
    /// Tells when a version was made.
    pub clock: Arc<dyn Clock>,
    /// The key-encryption key, 32 bytes. A new store is bound to it; an existing one must have been.
    pub key: Secret,
    /// The key that it may still be bound to: it is then bound to `key` instead. No value is encrypted anew, and an older
    /// copy of the file still opens with this one.
    pub previous: Option<Secret>,
    /// How many versions of each secret are kept; [`DEFAULT_MAX_VERSIONS`] unless there is a reason. A lower number
    /// than before destroys older versions of a secret when it is next written.
    pub max_versions: NonZeroU32,
}

/// Bursar's own store, open.
pub struct LocalBackend {
    name: BackendName,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    max_versions: NonZeroU32,
    key: Arc<DataKey>,
    readers: Pool,
    writer: Pool,
}

impl LocalBackend {
    /// Opens the store, or makes it. Waits for the disk: for the start of a program, not for a task.
    ///
    /// # Errors
    /// [`OpenError`]; the file is then as it was.
    pub fn open(config: LocalConfig) -> Result<Self, OpenError> {
        let LocalConfig { name, path, clock, key, previous, max_versions } = config;
        let (writer, key) = open::open(&path, &key, previous.as_ref())?;
        let readers: Result<_, _> = (0..READERS).map(|_| file::connect_reader(&path)).collect();
        let readers = Pool::new(readers.map_err(|source| OpenError::database(&path, source))?);
        let writer = Pool::new(vec![writer]);
        Ok(Self { name, path, clock, max_versions, key: Arc::new(key), readers, writer })
    }

    async fn reading<T, F>(&self, operation: Operation, work: F) -> Result<T, BackendError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection, &DataKey) -> Result<T, Fault> + Send + 'static,
    {
        let key = Arc::clone(&self.key);
        self.readers
            .run(move |connection| work(connection, &key))
            .await
            .or_else(|it| self.refuse(operation, &it))
    }

    async fn writing<T, F>(&self, operation: Operation, work: F) -> Result<T, BackendError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection, &DataKey) -> Result<T, Fault> + Send + 'static,
    {
        let key = Arc::clone(&self.key);
        self.writer
            .run(move |connection| work(connection, &key))
            .await
            .or_else(|it| self.refuse(operation, &it))
    }

    /// The only place where a fault becomes an error, so also where one that an operator must see is logged.
    fn refuse<T>(&self, operation: Operation, fault: &Fault) -> Result<T, BackendError> {
        let (kind, code) = fault.classify();
        if !matches!(fault, Fault::NotFound | Fault::Conflict | Fault::TooLarge) {
            tracing::warn!(backend = %self.name, operation = operation.as_str(), ?fault, "the local store failed");
        }
        let error = BackendError::new(kind, &self.name, operation);
        Err(BackendError { code, ..error })
    }
}

#[async_trait]
impl Backend for LocalBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities { kind: "local", versions: true, list: true, leasing: false, writing: true }
    }

    #[instrument(skip_all, fields(backend = %self.name))]
    async fn read(&self, path: &SecretPath, version: Option<&Version>) -> Result<Fetched, BackendError> {
        let number = match version.map(Number::parse) {
            Some(None) => return self.refuse(Operation::Read, &Fault::NotFound),
            number => number.flatten(),
        };
        let (path, now) = (path.clone(), self.clock.now());
        self.reading(Operation::Read, move |connection, key| read::value(connection, key, &path, number, now))
            .await
    }

    #[instrument(skip_all, fields(backend = %self.name))]
    async fn list(
        &self,
        folder: Option<&SecretPath>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, BackendError> {
        let (folder, after) = (folder.cloned(), after.map(str::to_owned));
        self.reading(Operation::List, move |connection, _| {
            list::entries(connection, folder.as_ref(), after.as_deref(), limit)
        })
        .await
    }

    #[instrument(skip_all, fields(backend = %self.name))]
    async fn versions(&self, path: &SecretPath) -> Result<Vec<VersionInfo>, BackendError> {
        let path = path.clone();
        self.reading(Operation::Versions, move |connection, _| read::versions(connection, &path)).await
    }

    /// What cannot be read hides what is older.
    async fn newest(&self, path: &SecretPath) -> Result<Option<Version>, BackendError> {
        let (path, now) = (path.clone(), self.clock.now());
        let newest = move |connection: &mut Connection, _: &DataKey| read::newest(connection, &path);
        let newest = self.reading(Operation::Newest, newest).await?;
        match newest.is_readable(now) {
            true => Ok(Some(newest.version)),
            false => self.refuse(Operation::Newest, &Fault::NotFound),
        }
    }

    async fn labels(&self, path: &SecretPath) -> Result<Labels, BackendError> {
        let path = path.clone();
        self.reading(Operation::Labels, move |connection, key| label::read(connection, key, &path)).await
    }

    #[instrument(skip_all, fields(backend = %self.name))]
    async fn health(&self) -> Result<(), BackendError> {
        self.reading(Operation::Health, |connection, key| open::prove(connection, key)).await
    }

    fn writing(&self) -> Option<&dyn Writing> {
        Some(self)
    }
}

#[async_trait]
impl Writing for LocalBackend {
    #[instrument(skip_all, fields(backend = %self.name))]
    async fn put(
        &self,
        path: &SecretPath,
        data: SecretData,
        terms: PutTerms,
    ) -> Result<Version, BackendError> {
        let plain = data.to_bytes(AES_256_GCM.tag_len());
        let plain = plain.or_else(|fault| self.refuse(Operation::Put, &fault.into()))?;
        let (path, created_at, kept) = (path.clone(), self.clock.now(), self.max_versions.get());
        let new = NewVersion { path, plain, terms, created_at, kept };
        self.writing(Operation::Put, move |connection, key| write::put(connection, key, new)).await
    }

    #[instrument(skip_all, fields(backend = %self.name))]
    async fn delete(&self, path: &SecretPath, versions: &[Version]) -> Result<(), BackendError> {
        let (path, versions) = (path.clone(), versions.to_vec());
        self.writing(Operation::Delete, move |connection, _| write::delete(connection, &path, &versions))
            .await
    }

    #[instrument(skip_all, fields(backend = %self.name))]
    async fn undelete(&self, path: &SecretPath, versions: &[Version]) -> Result<(), BackendError> {
        let (path, versions) = (path.clone(), versions.to_vec());
        self.writing(Operation::Undelete, move |connection, _| write::undelete(connection, &path, &versions))
            .await
    }

    #[instrument(skip_all, fields(backend = %self.name))]
    async fn destroy(&self, path: &SecretPath, versions: &[Version]) -> Result<(), BackendError> {
        let (path, versions) = (path.clone(), versions.to_vec());
        self.writing(Operation::Destroy, move |connection, _| write::destroy(connection, &path, &versions))
            .await
    }

    #[instrument(skip_all, fields(backend = %self.name))]
    async fn label(&self, path: &SecretPath, change: LabelChange) -> Result<Labels, BackendError> {
        let path = path.clone();
        self.writing(Operation::Label, move |connection, key| label::change(connection, key, &path, change))
            .await
    }
}

impl fmt::Debug for LocalConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, path, max_versions, .. } = self;
        f.debug_struct("LocalConfig")
            .field("name", name)
            .field("path", path)
            .field("max_versions", max_versions)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LocalBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, path, max_versions, .. } = self;
        f.debug_struct("LocalBackend")
            .field("name", name)
            .field("path", path)
            .field("max_versions", max_versions)
            .finish_non_exhaustive()
    }
}

/// How many versions of each secret are kept where nobody says otherwise.
pub const DEFAULT_MAX_VERSIONS: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// Connections for reading. The broker caches what it reads, so this bounds cold reads and lists only.
const READERS: usize = 4;
