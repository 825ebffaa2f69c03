//! What happens to a lease that is in force: renewal and revocation. Whether the caller may is decided before.

use std::time::Duration;

use bursar_core::audit::AuditRecord;
use bursar_core::backend::{ErrorKind, Operation, Removal};
use bursar_core::lease::{LeaseEvent, TtlBound, spread};
use bursar_core::{Lease, LeaseId, LeaseState};
use jiff::Timestamp;

use super::revoker::Unremoved;
use super::{Leases, until};
use crate::call::Draft;
use crate::failure::Failure;
use crate::identity::Caller;
use crate::kill::{self, Point};
use crate::ledger::{Change, Entry, LedgerError};
use crate::mounts::Content;

impl Leases {
    /// The lease, whoever owns it.
    ///
    /// # Errors
    /// [`Failure::LeaseNotFound`].
    pub async fn find(&self, id: LeaseId) -> Result<Lease, Failure> {
        self.ledger.lease(id).await?.ok_or(Failure::LeaseNotFound(id))
    }

    /// Extends a lease from now. A store that leases is asked first; when it refuses, the lease stays as it was and no
    /// new credential is made (promise 6).
    ///
    /// # Errors
    /// [`Failure::NotRenewable`], or that of store or ledger.
    pub async fn renew(
        &self,
        caller: &Caller,
        mut lease: Lease,
        asked: Option<Duration>,
        draft: Draft,
    ) -> Result<Lease, Failure> {
        let now = self.clock.now();
        let (end, bound) = self.extension(caller, &lease, asked, now).await?;
        (lease.renewed_at, lease.expires_at, lease.ttl_bound) = (now, end, bound);
        let change = Change::Renew { id: lease.id, expires_at: lease.expires_at, ttl_bound: bound, at: now };
        self.ledger
            .commit(Entry { changes: vec![change], records: vec![draft.lease(lease.id).ok()] })
            .await?;
        kill::at(Point::RenewalDurable);
        if !lease.dynamic {
            let held = lease.reference.version.clone().map(Content::Version);
            self.note(&lease, held.as_ref());
        }
        Ok(lease)
    }

    /// The end that a renewal from `now` gives a lease, and what bound it. A store that leases has granted it.
    ///
    /// # Errors
    /// [`Failure::NotRenewable`], or that of ledger or store: [`Failure::SecretNotFound`] where the store does not know
    /// the credential.
    pub(super) async fn extension(
        &self,
        caller: &Caller,
        lease: &Lease,
        asked: Option<Duration>,
        now: Timestamp,
    ) -> Result<(Timestamp, TtlBound), Failure> {
        let refuse = |why| Err(Failure::NotRenewable { id: lease.id, why });
        if !lease.state.is_live() || lease.expires_at <= now {
            return refuse("it has ended; read the secret again");
        }
        if !lease.renewable {
            return refuse("its store does not renew it");
        }
        let (mut ttl, mut bound) = self.longest(caller, asked, None, now);
        if let Some(end) = lease.max_expires_at.map(|end| until(now, end)).filter(|end| *end < ttl) {
            (ttl, bound) = (end, TtlBound::Policy);
        }
        if lease.dynamic {
            kill::at(Point::RenewBegun);
            // Apart, so that a renewal that asks no store does not carry the room for it.
            let granted = Box::pin(self.renew_at_store(lease, ttl)).await?;
            kill::at(Point::StoreRenewed);
            if granted < ttl {
                (ttl, bound) = (granted, TtlBound::Backend);
            }
        }
        // Spread, and never so that a renewal takes time away.
        let left = until(now, lease.expires_at).min(ttl);
        let ttl = spread(ttl, bound).max(left);
        // What is answered is what the ledger keeps.
        Ok((Timestamp::from_microsecond(now.saturating_add(ttl)?.as_microsecond())?, bound))
    }

    /// Takes a lease back: marks it, durably, then asks its store at once. When the store does not answer, the revoker
    /// goes on.
    ///
    /// # Errors
    /// That of the ledger. A lease that is over already is no error.
    pub async fn revoke(&self, lease: Lease, draft: Draft) -> Result<Lease, Failure> {
        let now = self.clock.now();
        let id = lease.id;
        if !matches!(lease.state, LeaseState::Intent | LeaseState::Active) {
            // It is over, or about to be: what was asked for is so.
            self.ledger.commit(Entry { changes: Vec::new(), records: vec![draft.lease(id).ok()] }).await?;
            if lease.state != LeaseState::Stuck {
                return Ok(lease);
            }
            // Whoever asks for a stuck one may have mended what kept it.
            self.attempt(&lease).await;
            return self.find(id).await;
        }
        // A static secret leaves nothing at its store: its lease is gone with this commit.
        let event = if lease.dynamic { LeaseEvent::Revoke } else { LeaseEvent::Removed };
        let next_attempt_at = Some(now.saturating_add(INLINE_ATTEMPT)?);
        let change = Change::Apply { id, event, at: now, error: None, next_attempt_at };
        kill::at(Point::RevokeBegun);
        self.ledger.commit(Entry { changes: vec![change], records: vec![draft.lease(id).ok()] }).await?;
        kill::at(Point::RevocationDurable);
        self.announce(&lease);
        if lease.dynamic {
            let revoked = Lease { state: LeaseState::Revoked, ..lease };
            self.attempt(&revoked).await;
        }
        self.find(id).await
    }

    /// Takes a lease back even where its store does not. The store is asked once more, for a few seconds; when it does
    /// not take the credential back, the lease is gone here all the same, and the record says how the store failed. One
    /// that is in force is revoked before that, durably: nobody may be given a credential that is about to go.
    ///
    /// # Errors
    /// That of the ledger. A lease that is gone already is no error.
    pub async fn give_up(&self, lease: Lease, draft: Draft) -> Result<Lease, Failure> {
        let id = lease.id;
        kill::at(Point::GiveUpBegun);
        if lease.dynamic && matches!(lease.state, LeaseState::Intent | LeaseState::Active) {
            self.revoke_before_giving_up(&lease, draft.clone().lease(id).asked()).await?;
            kill::at(Point::GiveUpMarked);
        }
        let left_behind = match lease.dynamic && lease.state != LeaseState::Gone {
            true => self.remove_once(&lease).await?,
            false => None,
        };
        kill::at(Point::GiveUpTried);
        let mut record = draft.lease(id).ok();
        record.error_kind = left_behind.map(str::to_owned);
        let error = record.error_kind.clone();
        let (event, at) = (LeaseEvent::Abandoned, self.clock.now());
        let change = Change::Apply { id, event, at, error, next_attempt_at: None };
        let entry = Entry { changes: vec![change], records: vec![record.clone()] };
        match self.ledger.commit(entry).await {
            // It is gone already: what was asked for is so.
            Err(LedgerError::IllegalTransition { state: LeaseState::Gone, .. }) => {
                self.ledger.commit(Entry { changes: Vec::new(), records: vec![record] }).await?;
            }
            other => drop(other?),
        }
        kill::at(Point::GiveUpDurable);
        self.announce(&lease);
        self.find(id).await
    }

    async fn revoke_before_giving_up(&self, lease: &Lease, record: AuditRecord) -> Result<(), Failure> {
        let (event, at) = (LeaseEvent::Revoke, self.clock.now());
        let next_attempt_at = Some(at.saturating_add(INLINE_ATTEMPT)?);
        let change = Change::Apply { id: lease.id, event, at, error: None, next_attempt_at };
        match self.ledger.commit(Entry { changes: vec![change], records: vec![record] }).await {
            // It is over already, or somebody took it back.
            Err(LedgerError::IllegalTransition { .. }) => Ok(()),
            other => other.map(drop).map_err(Failure::from),
        }
    }

    /// Asks a store to take a lease's credential back; answers how it failed to.
    async fn remove_once(&self, lease: &Lease) -> Result<Option<&'static str>, Failure> {
        let handle = self.ledger.handle(lease.id).await?;
        // A search that finds nothing while the store may be at work on the request proves nothing.
        let too_early = handle.is_none() && self.store_is_done(lease) > self.clock.now();
        let removed = tokio::time::timeout(LAST_TRY, self.remove_at_store(lease, handle)).await;
        Ok(match removed {
            Ok(Ok(Removal::Gone)) if !too_early => None,
            // It lives on until its end.
            Ok(Ok(Removal::EndsAt(_))) => Some(ErrorKind::Misconfigured.as_str()),
            Ok(Err(Unremoved::Failed(error))) => Some(error.kind.as_str()),
            Ok(Ok(Removal::Gone) | Err(Unremoved::NotAsked)) => Some(ErrorKind::Unavailable.as_str()),
            Err(_) => Some(ErrorKind::Timeout.as_str()),
        })
    }

    async fn renew_at_store(&self, lease: &Lease, ttl: Duration) -> Result<Duration, Failure> {
        let refuse = |why| Failure::NotRenewable { id: lease.id, why };
        let handle =
            self.ledger.handle(lease.id).await?.ok_or_else(|| refuse("its store gave no name for it"))?;
        let mount = self.mounts.mount(&lease.reference.backend);
        let (mount, leasing) = mount
            .and_then(|mount| Some((mount, mount.leasing(&lease.reference.path)?)))
            .ok_or_else(|| refuse("its backend is not configured any more"))?;
        let renewed = mount.call(Operation::Renew, leasing.renew(&handle, ttl)).await;
        renewed.map_err(|error| Failure::of_store(&lease.reference, error))
    }
}

/// While the caller's own request asks the store, the revoker leaves the lease alone.
const INLINE_ATTEMPT: Duration = Duration::from_secs(30);
/// How long a store has before its lease is given up: well within the deadline of a request.
const LAST_TRY: Duration = Duration::from_secs(3);
