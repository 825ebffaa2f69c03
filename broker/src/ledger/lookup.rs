//! What the ledger is asked: leases, quotas, and the broker's own objects.
//!
//! A question waits for the next group of lookups ([`finder`](super::finder)) where it is one of very many, and else for
//! a connection of its own.

use bursar_core::backend::StoreHandle;
use bursar_core::{BackendName, Lease, LeaseId, LeaseState};
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::finder::Question;
use super::{
    CredentialSlot, HolderKind, Kept, LeaseFilter, Ledger, LedgerError, MAX_PAGE, Object, ObjectKind, Page,
    Paged, Quotas, Revocable, Revocation, RevocationId, Walked,
};

impl Ledger {
    /// One lease.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.inner.finder.send(Question::Lease(id, reply)).await.map_err(|_| LedgerError::Closed)?;
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Leases, newest first.
    ///
    /// # Errors
    /// [`LedgerError::PageToken`], or when the ledger cannot be read.
    pub async fn leases(&self, filter: LeaseFilter, page: Page) -> Result<Paged<Lease>, LedgerError> {
        self.inner.readers.ask(move |snapshot| snapshot.leases(&filter, &page)).await
    }

    /// How many leases are in each state, all states, in the order of a life.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn lease_counts(&self) -> Result<Vec<(LeaseState, u64)>, LedgerError> {
        self.inner.readers.ask(|snapshot| snapshot.lease_counts()).await
    }

    /// Who holds the most leases that are not gone, at most [`MAX_PAGE`] of them.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn top_holders(&self, by: HolderKind, limit: usize) -> Result<Vec<(String, u64)>, LedgerError> {
        self.inner.readers.ask(move |snapshot| snapshot.top_holders(by, limit.min(MAX_PAGE))).await
    }

    /// The quotas that it goes by.
    pub fn quotas(&self) -> &Quotas {
        &self.inner.config.quotas
    }

    /// Active leases that have ended, the longest ended first, in order to about a minute.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Lease>, LedgerError> {
        self.inner.readers.ask(move |snapshot| snapshot.due(now, limit)).await
    }

    /// How many active leases end at each of `times` or before. Counts to a million.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn ending(&self, times: Vec<Timestamp>) -> Result<Vec<u64>, LedgerError> {
        self.inner.readers.ask(move |snapshot| snapshot.ending(&times)).await
    }

    /// Dynamic leases of a backend that wait to be taken back there and whose next attempt is due, the longest due
    /// first.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn to_revoke(
        &self,
        backend: &BackendName,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Revocable>, LedgerError> {
        let backend = backend.clone();
        self.inner.readers.ask(move |snapshot| snapshot.to_revoke(&backend, now, limit)).await
    }

    /// The backends that leases wait to be taken back at, due or not.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn waiting_backends(&self) -> Result<Vec<BackendName>, LedgerError> {
        self.inner.readers.ask(|snapshot| snapshot.waiting_backends()).await
    }

    /// The bulk revocations whose leases are not all marked yet, oldest first.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn open_revocations(&self) -> Result<Vec<RevocationId>, LedgerError> {
        self.inner.readers.ask(|snapshot| snapshot.open_revocations()).await
    }

    /// The next leases of a bulk revocation, at most `limit` of them, for [`Change::Mark`]: after the place `from` of a
    /// step that is not durable yet, or else after the last one that is.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn walk(
        &self,
        revocation: RevocationId,
        from: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Walked, LedgerError> {
        self.inner.readers.ask(move |snapshot| snapshot.walk(revocation, from.as_deref(), limit)).await
    }

    /// Bulk revocations, newest first, at most `limit` of them; only `id` where it is given.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn revocations(
        &self,
        id: Option<RevocationId>,
        limit: usize,
    ) -> Result<Vec<Revocation>, LedgerError> {
        self.inner.readers.ask(move |snapshot| snapshot.revocations(id, limit)).await
    }

    /// Intents written at `before` or earlier that have no outcome, oldest first: what a broker that stopped left behind.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn intents(&self, before: Timestamp, limit: usize) -> Result<Vec<Lease>, LedgerError> {
        self.inner.readers.ask(move |snapshot| snapshot.intents(before, limit)).await
    }

    /// The store's name for the credential of a lease that is not gone.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn handle(&self, id: LeaseId) -> Result<Option<StoreHandle>, LedgerError> {
        self.inner.readers.ask(move |snapshot| snapshot.handle(id)).await
    }

    /// The lease whose credential is kept in `slot`, in whatever state it is by now.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn kept(&self, slot: &CredentialSlot) -> Result<Option<Kept>, LedgerError> {
        let slot = slot.clone();
        self.inner.readers.ask(move |snapshot| snapshot.kept(&slot)).await
    }

    /// The lease that holds a credential of a store; none makes it an orphan.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn lease_of_handle(
        &self,
        backend: BackendName,
        handle: StoreHandle,
    ) -> Result<Option<LeaseId>, LedgerError> {
        self.inner.readers.ask(move |snapshot| snapshot.lease_of_handle(&backend, &handle)).await
    }

    /// An object as it is now.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn object(&self, kind: ObjectKind, name: &str) -> Result<Option<Object>, LedgerError> {
        let name = name.to_owned();
        self.inner.readers.ask(move |snapshot| snapshot.object(kind, &name)).await
    }

    /// The objects of a kind, by name.
    ///
    /// # Errors
    /// [`LedgerError`] when the ledger cannot be read.
    pub async fn objects(&self, kind: ObjectKind, page: Page) -> Result<Paged<Object>, LedgerError> {
        self.inner.readers.ask(move |snapshot| snapshot.objects(kind, &page)).await
    }

    /// The revisions of an environment or a policy that were replaced or removed, newest first.
    ///
    /// # Errors
    /// [`LedgerError::PageToken`], or when the ledger cannot be read.
    pub async fn object_history(
        &self,
        kind: ObjectKind,
        name: &str,
        page: Page,
    ) -> Result<Paged<Object>, LedgerError> {
        let name = name.to_owned();
        self.inner.readers.ask(move |snapshot| snapshot.object_history(kind, &name, &page)).await
    }
}
