//! The store as its callers see it, and its file as an attacker does.

mod concurrency;
mod ends;
mod files;
mod keys;
mod labels;
mod listing;
mod round_trip;
mod tampering;
mod versions;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bursar_core::backend::{
    Backend, BackendError, ErrorKind, Fetched, PutTerms, VersionState, Writing, fields_from,
};
use bursar_core::clock::TestClock;
use bursar_core::secret::SecretData;
use bursar_core::{BackendName, FieldName, Secret, SecretPath, Version};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::{LocalBackend, LocalConfig, OpenError};

/// A store in a directory of its own. The directory goes with the value, the backend before it.
struct Store {
    backend: LocalBackend,
    clock: Arc<TestClock>,
    directory: TempDir,
}

impl Store {
    fn new() -> Self {
        Self::keeping(10)
    }

    fn keeping(max_versions: u32) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let clock = Arc::new(TestClock::new());
        let mut config = config(&directory.path().join("store.db"), KEY);
        config.clock = Arc::clone(&clock) as Arc<_>;
        config.max_versions = NonZeroU32::new(max_versions).expect("above zero");
        Self { backend: LocalBackend::open(config).expect("open"), clock, directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("store.db")
    }

    /// Closes the backend and keeps the directory.
    fn close(self) -> TempDir {
        self.directory
    }

    /// The database as somebody without the key sees it.
    fn raw(&self) -> Connection {
        Connection::open(self.file()).expect("raw connection")
    }

    async fn put(&self, at: &str, value: &str) -> Version {
        self.backend.put(&path(at), opaque(value.as_bytes()), PutTerms::default()).await.expect("put")
    }

    async fn put_over(&self, at: &str, expected: u64) -> Result<Version, ErrorKind> {
        self.backend.put(&path(at), opaque(b"value"), PutTerms::over(expected)).await.map_err(kind)
    }

    async fn read(&self, at: &str) -> Result<Fetched, ErrorKind> {
        self.backend.read(&path(at), None).await.map_err(kind)
    }

    async fn read_version(&self, at: &str, number: u64) -> Result<Fetched, ErrorKind> {
        self.backend.read(&path(at), Some(&Version::number(number))).await.map_err(kind)
    }

    async fn list(&self, folder: Option<&str>, after: Option<&str>, limit: usize) -> Vec<String> {
        self.backend.list(folder.map(path).as_ref(), after, limit).await.expect("listed")
    }
}

fn config(file: &Path, key: u8) -> LocalConfig {
    LocalConfig {
        name: BackendName::parse("local").expect("name"),
        path: file.to_owned(),
        clock: Arc::new(TestClock::new()),
        key: kek(key),
        previous: None,
        max_versions: crate::DEFAULT_MAX_VERSIONS,
    }
}

fn open(file: &Path, key: u8) -> Result<LocalBackend, OpenError> {
    LocalBackend::open(config(file, key))
}

fn rebound(file: &Path, from: u8, to: u8) -> Result<LocalBackend, OpenError> {
    LocalBackend::open(LocalConfig { previous: Some(kek(from)), ..config(file, to) })
}

fn kek(byte: u8) -> Secret {
    Secret::new(vec![byte; 32])
}

fn path(text: &str) -> SecretPath {
    SecretPath::from_store(text).expect("path")
}

fn opaque(value: &[u8]) -> SecretData {
    SecretData::Opaque(Arc::new(Secret::new(value.to_vec())))
}

fn fields(entries: &[(&str, &[u8])]) -> SecretData {
    fields_from(entries.iter().map(|(name, value)| (*name, Secret::new(value.to_vec())))).expect("fields")
}

fn is(read: &Result<Fetched, ErrorKind>, value: &[u8]) -> bool {
    read.as_ref().is_ok_and(|fetched| whole_is(&fetched.data, None, value))
}

fn field_is(read: &Result<Fetched, ErrorKind>, name: &str, value: &[u8]) -> bool {
    let field = FieldName::parse(name).expect("field");
    read.as_ref().is_ok_and(|fetched| whole_is(&fetched.data, Some(&field), value))
}

fn whole_is(data: &SecretData, field: Option<&FieldName>, value: &[u8]) -> bool {
    data.select(field).is_ok_and(|selected| selected.ct_eq(value))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn kind(error: BackendError) -> ErrorKind {
    error.kind
}

/// What a read failed with; a success is a failure of the test, and its value is not shown.
fn refusal(read: Result<Fetched, ErrorKind>) -> Option<ErrorKind> {
    read.err()
}

const KEY: u8 = 7;
