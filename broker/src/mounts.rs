//! The configured stores under their names, and the one cache in front of them.
//!
//! Every call to a store goes through [`Mount::call`], which counts it and asks the store's circuit breaker first: a store
//! that does not answer fails its callers at once instead of holding them.
//!
//! A static secret is read from its store at most once per `max_stale`, however many callers ask: concurrent readers of
//! one secret wait for one call (single-flight) and share its failure, and nodes never poll a store. The cache is bounded
//! in bytes and drops the least useful entries first. Leased credentials never enter it: each belongs to one lease. What
//! was read together does not age together: each entry is good for a little less than `max_stale`.

mod breaker;
mod budget;
mod content;
mod failures;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::backend::{Backend, BackendError, ErrorKind, Leasing, Operation};
use bursar_core::retry::Transient;
use bursar_core::secret::SecretData;
use bursar_core::{BackendName, Reference, SecretPath, Version};
use jiff::Timestamp;
use quick_cache::sync::Cache;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::config::{CacheContracts, OnOutage, RevocationLimits};
use crate::telemetry::Metrics;
use breaker::{Admission, Breaker, Open};
use budget::Budget;
pub use content::Content;
use failures::Failures;

/// All stores.
pub struct Mounts {
    mounts: BTreeMap<BackendName, Arc<Mount>>,
    cache: Cache<Key, Arc<Cached>, ByBytes>,
    failures: Failures,
    written: broadcast::Sender<(BackendName, SecretPath)>,
    keys: RandomState,
    metrics: Metrics,
}

/// One store and its contract.
pub struct Mount {
    pub backend: Arc<dyn Backend>,
    pub contracts: CacheContracts,
    pub revocation: RevocationLimits,
    name: BackendName,
    breaker: Breaker,
    budget: Option<Budget>,
    metrics: Metrics,
}

/// Leave to make one call to a store.
#[derive(Debug)]
pub struct Admitted<'mount> {
    mount: &'mount Mount,
    operation: Operation,
    admission: Admission<'mount>,
}

/// A static secret as it was read.
pub struct Cached {
    pub data: Arc<SecretData>,
    pub version: Option<Version>,
    pub content: Content,
    /// It is not to be handed out after this.
    pub expires_at: Option<Timestamp>,
    read_at: Instant,
    /// Served for so long.
    good_for: Duration,
}

impl Mounts {
    /// Mounts `stores`; the cache holds at most `cache_bytes` of values.
    pub fn new(
        stores: impl IntoIterator<Item: Into<Arc<Mount>>>,
        cache_bytes: u64,
        metrics: Metrics,
    ) -> Self {
        let expected = usize::try_from(cache_bytes / EXPECTED_ENTRY).unwrap_or(usize::MAX);
        Self {
            mounts: stores.into_iter().map(Into::into).map(|mount| (mount.name.clone(), mount)).collect(),
            cache: Cache::with_weighter(expected, cache_bytes, ByBytes),
            failures: Failures::new(),
            written: broadcast::Sender::new(WRITES_HEARD),
            keys: RandomState::new(),
            metrics,
        }
    }

    /// The store called `name`.
    pub fn mount(&self, name: &BackendName) -> Option<&Mount> {
        self.mounts.get(name).map(Arc::as_ref)
    }

    /// Every store by name.
    pub fn iter(&self) -> impl Iterator<Item = (&BackendName, &Mount)> {
        self.mounts.iter().map(|(name, mount)| (name, mount.as_ref()))
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
        let old = match self.cache.get(&key) {
            Some(cached) if cached.age() <= max_age.unwrap_or(Duration::MAX).min(cached.good_for) => {
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
                if error.is_transient()
                    && mount.contracts.of(&reference.path).on_outage == OnOutage::Serve =>
            {
                self.metrics.cache("stale");
                self.cache.insert(key, Arc::clone(&old));
                Ok(old)
            }
            (read, _) => read,
        }
    }

    /// The store says that `version` is the newest still: what there is of it is as good as if it were read now.
    pub fn confirm(&self, reference: &Reference, version: &Version) {
        let key = Key::of(reference);
        if let Some(cached) = self.cache.get(&key).filter(|cached| cached.version.as_ref() == Some(version)) {
            let confirmed = Cached {
                data: Arc::clone(&cached.data),
                version: cached.version.clone(),
                content: cached.content.clone(),
                expires_at: cached.expires_at,
                read_at: Instant::now(),
                good_for: cached.good_for,
            };
            self.cache.insert(key, Arc::new(confirmed));
        }
    }

    /// Forgets every cached version of a secret, since it was written.
    pub fn forget(&self, backend: &BackendName, path: &SecretPath) {
        self.cache.retain(|key, _| key.backend != *backend || key.path != *path);
        // Whether somebody wants to hear of it or not.
        drop(self.written.send((backend.clone(), path.clone())));
    }

    /// The secrets that are written from now on.
    pub fn written(&self) -> broadcast::Receiver<(BackendName, SecretPath)> {
        self.written.subscribe()
    }

    async fn read(&self, mount: &Mount, reference: &Reference) -> Result<Arc<Cached>, BackendError> {
        self.metrics.cache("miss");
        let read = mount.backend.read(&reference.path, reference.version.as_ref());
        let read = mount.call(Operation::Read, read).await;
        let fetched = read.inspect_err(|error| self.failures.insert(Key::of(reference), error.clone()))?;
        Ok(Arc::new(Cached {
            content: Content::of(&fetched, &self.keys),
            data: Arc::new(fetched.data),
            version: fetched.version,
            expires_at: fetched.expires_at,
            read_at: Instant::now(),
            good_for: mount.contracts.of(&reference.path).max_stale.mul_f64(1.0 - fastrand::f64() / 10.0),
        }))
    }
}

impl Mount {
    /// `backend` under the name `name`.
    pub fn new(
        name: BackendName,
        backend: Arc<dyn Backend>,
        contracts: impl Into<CacheContracts>,
        revocation: RevocationLimits,
        metrics: Metrics,
    ) -> Self {
        let breaker = Breaker::new(metrics.circuit(name.as_str()));
        Self { backend, contracts: contracts.into(), revocation, name, breaker, budget: None, metrics }
    }

    /// The same, asked for so many calls a second at most. Revocations have a pace of their own, and looks at its health
    /// are few.
    #[must_use]
    pub fn at_most(self, calls_per_second: Option<NonZeroU32>) -> Self {
        Self { budget: calls_per_second.map(Budget::new), ..self }
    }

    /// Makes a call to the store, unless its circuit is open.
    ///
    /// # Errors
    /// That of the call, or of [`Mount::admit`].
    pub async fn call<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        self.admit(operation)?.make(call).await
    }

    /// Leave to make one call. For whoever has to write something down before it, and must not when the call would be
    /// in vain.
    ///
    /// # Errors
    /// [`ErrorKind::Sealed`] or [`ErrorKind::Unavailable`] where the circuit is open: nothing was asked of the store.
    pub fn admit(&self, operation: Operation) -> Result<Admitted<'_>, BackendError> {
        let refused = |open: Open| {
            self.metrics.backend_refusal(self.name.as_str(), "circuit");
            let kind = match open.kind {
                ErrorKind::Sealed => ErrorKind::Sealed,
                _ => ErrorKind::Unavailable,
            };
            let retry_after = Some(open.wait);
            BackendError { retry_after, ..BackendError::new(kind, &self.name, operation) }
        };
        let admission = self.breaker.admit().map_err(refused)?;
        Ok(Admitted { mount: self, operation, admission })
    }

    /// Looks whether the store is well, for at most `limit`, be its circuit open or not.
    ///
    /// # Errors
    /// What it lacks.
    pub async fn examine(&self, limit: Duration) -> Result<(), BackendError> {
        let health = tokio::time::timeout(limit, self.backend.health()).await;
        let health = health
            .unwrap_or_else(|_| Err(BackendError::new(ErrorKind::Timeout, &self.name, Operation::Health)));
        self.breaker.examined(&health);
        self.count(Operation::Health, &health);
        health
    }

    /// Whether calls fail at once now.
    pub fn is_away(&self) -> bool {
        self.breaker.is_open()
    }

    /// Changes each time that the store is well again after it was not.
    pub fn came_back(&self) -> watch::Receiver<u64> {
        self.breaker.came_back()
    }

    /// Counts a call: those that go through here, and what a store does in the background.
    pub fn count<T>(&self, operation: Operation, result: &Result<T, BackendError>) {
        let outcome = result.as_ref().map_or_else(|error| error.kind.as_str(), |_| "ok");
        self.metrics.backend_call(self.name.as_str(), operation.as_str(), outcome);
    }

    /// The power to create credentials for `path`, where reading it creates one.
    pub fn leasing(&self, path: &SecretPath) -> Option<&dyn Leasing> {
        self.backend.leasing().filter(|leasing| leasing.is_leased(path))
    }
}

impl Admitted<'_> {
    /// Makes the call, which gets [`CALL_LIMIT`].
    ///
    /// # Errors
    /// That of the call, or [`ErrorKind::Timeout`].
    pub async fn make<T>(
        self,
        call: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        self.within(CALL_LIMIT, call).await
    }

    /// The same with a limit of its own.
    ///
    /// # Errors
    /// As [`Admitted::make`].
    pub async fn within<T>(
        self,
        limit: Duration,
        call: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        let budget = self.mount.budget.as_ref().filter(|_| self.operation != Operation::Revoke);
        if let Some(budget) = budget
            && let Err(wait) = budget.turn().await
        {
            // Says nothing about the store, so the breaker does not hear of it.
            self.mount.metrics.backend_refusal(self.mount.name.as_str(), "budget");
            let error = BackendError::new(ErrorKind::Throttled, &self.mount.name, self.operation);
            return Err(BackendError { retry_after: Some(wait), ..error });
        }
        let result = tokio::time::timeout(limit, call).await;
        let timeout = || BackendError::new(ErrorKind::Timeout, &self.mount.name, self.operation);
        let result = result.unwrap_or_else(|_| Err(timeout()));
        self.admission.ended(&result);
        self.mount.count(self.operation, &result);
        result
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
        f.debug_struct("Mount").field("contracts", &self.contracts).finish_non_exhaustive()
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

/// No call to a store takes longer. Stores have limits of their own, far below it; this holds where one of them does not.
pub const CALL_LIMIT: Duration = Duration::from_secs(60);
/// What an entry costs beside its bytes.
const OVERHEAD: usize = 256;
/// Whoever is further behind misses writes.
const WRITES_HEARD: usize = 1024;
/// For sizing the cache's table.
const EXPECTED_ENTRY: u64 = 1024;
