//! The configured stores under their names, and the one cache in front of them.
//!
//! A static secret is read from its store at most once per `max_stale`, however many callers ask: concurrent readers of
//! one secret wait for one call (single-flight) and share its failure, and nodes never poll a store. The cache is bounded in bytes and drops
//! the least useful entries first. Leased credentials never enter it: each belongs to one lease.

mod failures;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::backend::{Backend, BackendError, Leasing, Operation};
use bursar_core::retry::Transient;
use bursar_core::secret::SecretData;
use bursar_core::{BackendName, Reference, SecretPath, Version};
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::config::{CacheContract, OnOutage};
use crate::telemetry::Metrics;
use failures::Failures;

/// All stores.
pub struct Mounts {
    mounts: BTreeMap<BackendName, Mount>,
    cache: Cache<Key, Arc<Cached>, ByBytes>,
    failures: Failures,
    metrics: Metrics,
}

/// One store and its contract.
pub struct Mount {
    pub backend: Arc<dyn Backend>,
    pub contract: CacheContract,
}

/// A static secret as it was read.
pub struct Cached {
    pub data: SecretData,
    pub version: Option<Version>,
    read_at: Instant,
}

impl Mounts {
    /// Mounts `stores`; the cache holds at most `cache_bytes` of values.
    pub fn new(
        stores: impl IntoIterator<Item = (BackendName, Mount)>,
        cache_bytes: u64,
        metrics: Metrics,
    ) -> Self {
        let expected = usize::try_from(cache_bytes / EXPECTED_ENTRY).unwrap_or(usize::MAX);
        Self {
            mounts: stores.into_iter().collect(),
            cache: Cache::with_weighter(expected, cache_bytes, ByBytes),
            failures: Failures::new(),
            metrics,
        }
    }

    /// The store called `name`.
    pub fn mount(&self, name: &BackendName) -> Option<&Mount> {
        self.mounts.get(name)
    }

    /// Every store by name.
    pub fn iter(&self) -> impl Iterator<Item = (&BackendName, &Mount)> {
        self.mounts.iter()
    }

    /// Reads a static secret, from the cache where it is younger than the contract and `max_age` ask.
    ///
    /// # Errors
    /// That of the store; when the store is out of reach and the contract says so, the last value is served instead.
    pub async fn fetch(
        &self,
        mount: &Mount,
        reference: &Reference,
        max_age: Option<Duration>,
    ) -> Result<Arc<Cached>, BackendError> {
        let key = Key::of(reference);
        let fresh_for = max_age.unwrap_or(Duration::MAX).min(mount.contract.max_stale);
        let old = match self.cache.get(&key) {
            Some(cached) if cached.age() <= fresh_for => {
                self.metrics.cache("hit");
                return Ok(cached);
            }
            old => old,
        };
        if let Some(old) = &old {
            // Only the entry that was found old is dropped: another caller may have replaced it since.
            self.cache.remove_if(&key, |cached| Arc::ptr_eq(cached, old));
        }
        let waits_since = self.failures.mark();
        let read = async {
            match self.failures.since(waits_since, &key) {
                Some(failure) => Err(failure),
                None => self.read(mount, reference).await,
            }
        };
        let read = self.cache.get_or_insert_async(&key, read).await;
        match (read, old) {
            (Err(error), Some(old))
                if error.is_transient() && mount.contract.on_outage == OnOutage::Serve =>
            {
                self.metrics.cache("stale");
                self.cache.insert(key, Arc::clone(&old));
                Ok(old)
            }
            (read, _) => read,
        }
    }

    /// Forgets every cached version of a secret, since it was written.
    pub fn forget(&self, backend: &BackendName, path: &SecretPath) {
        self.cache.retain(|key, _| key.backend != *backend || key.path != *path);
    }

    /// Counts a call to a store by how it ended.
    pub fn observe<T>(&self, backend: &BackendName, operation: Operation, result: &Result<T, BackendError>) {
        let outcome = result.as_ref().map_or_else(|error| error.kind.as_str(), |_| "ok");
        self.metrics.backend_call(backend.as_str(), operation.as_str(), outcome);
    }

    async fn read(&self, mount: &Mount, reference: &Reference) -> Result<Arc<Cached>, BackendError> {
        self.metrics.cache("miss");
        let read = mount.backend.read(&reference.path, reference.version.as_ref()).await;
        self.observe(&reference.backend, Operation::Read, &read);
        let fetched = read.inspect_err(|error| self.failures.insert(Key::of(reference), error.clone()))?;
        Ok(Arc::new(Cached { data: fetched.data, version: fetched.version, read_at: Instant::now() }))
    }
}

impl Mount {
    /// The power to create credentials for `path`, where reading it creates one.
    pub fn leasing(&self, path: &SecretPath) -> Option<&dyn Leasing> {
        self.backend.leasing().filter(|leasing| leasing.is_leased(path))
    }
}

impl Cached {
    /// How long ago the store was asked.
    pub fn age(&self) -> Duration {
        self.read_at.elapsed()
    }
}

impl std::fmt::Debug for Mounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.mounts.keys()).finish()
    }
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mount").field("contract", &self.contract).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Cached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cached").field("version", &self.version).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    backend: BackendName,
    path: SecretPath,
    version: Option<Version>,
}

impl Key {
    fn of(reference: &Reference) -> Self {
        Self {
            backend: reference.backend.clone(),
            path: reference.path.clone(),
            version: reference.version.clone(),
        }
    }
}

#[derive(Debug, Clone)]
struct ByBytes;

impl quick_cache::Weighter<Key, Arc<Cached>> for ByBytes {
    fn weight(&self, key: &Key, cached: &Arc<Cached>) -> u64 {
        let bytes = key.path.as_str().len() + cached.data.size() + OVERHEAD;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// What an entry costs beside its bytes.
const OVERHEAD: usize = 256;
/// For sizing the cache's table.
const EXPECTED_ENTRY: u64 = 1024;
