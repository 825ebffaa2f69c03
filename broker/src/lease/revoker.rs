//! Takes credentials back at their stores, until the stores say that they are gone.
//!
//! A failed attempt is put off by the one retry policy and counted in the ledger, so a restart goes on where it was.
//! After the attempts that the backend's configuration gives it, the lease is stuck: visible, counted, and tried again at
//! long intervals and when its store is well again, never forgotten. [`super::queue`] says when an attempt is made, and
//! an administrator may give a lease up.

use std::time::Duration;

use bursar_core::audit::{Action, Outcome};
use bursar_core::backend::{BackendError, ErrorKind, Leasing, Operation, StoreHandle};
use bursar_core::lease::LeaseEvent;
use bursar_core::retry::Retry;
use bursar_core::{Lease, LeaseState};

use super::Leases;
use crate::failure::Failure;
use crate::ledger::{Change, Entry, LedgerError};
use crate::mounts::Mount;

impl Leases {
    /// Asks the store of one lease to take it back and commits what came of it.
    pub(super) async fn attempt(&self, lease: &Lease) {
        let mount = self.mounts.mount(&lease.reference.backend);
        let most = mount.map_or(1, |mount| mount.revocation.attempts);
        let settled = match self.ledger.handle(lease.id).await {
            Ok(handle) => self.attempt_with(lease, handle, most).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = settled {
            tracing::warn!(lease = %lease.id, %error, "a revocation could not be recorded; it is tried again");
        }
    }

    /// The same with the handle known. The attempt after which the lease is stuck is number `most`.
    pub(super) async fn attempt_with(
        &self,
        lease: &Lease,
        handle: Option<StoreHandle>,
        most: u32,
    ) -> Result<(), Failure> {
        let removed = match self.remove_at_store(lease, handle).await {
            Ok(()) => Ok(()),
            Err(Unremoved::Failed(error)) => Err(error),
            Err(Unremoved::NotAsked) => return Ok(()),
        };
        let now = self.clock.now();
        let attempts = lease.attempts.saturating_add(1);
        let apply = |event, error: Option<&BackendError>, wait: Option<Duration>| {
            let next_attempt_at = wait.and_then(|wait| now.checked_add(wait).ok());
            let error = error.map(|error| error.kind.as_str().to_owned());
            Change::Apply { id: lease.id, event, at: now, error, next_attempt_at }
        };
        let (changes, record) = match removed {
            Ok(()) => {
                let changes =
                    vec![apply(LeaseEvent::Attempt, None, None), apply(LeaseEvent::Removed, None, None)];
                (changes, Some(self.own(lease, Action::Gone, now)))
            }
            Err(error) if attempts < most => {
                let wait = Retry::BACKGROUND.delay(attempts).max(error.retry_after.unwrap_or_default());
                (vec![apply(LeaseEvent::Attempt, Some(&error), Some(wait))], None)
            }
            Err(error) => {
                let changes = vec![
                    apply(LeaseEvent::Attempt, Some(&error), None),
                    apply(LeaseEvent::GaveUp, Some(&error), Some(Retry::STUCK.delay(1))),
                ];
                let mut record = self.own(lease, Action::Stuck, now);
                (record.outcome, record.error_kind) = (Outcome::Failed, Some(error.kind.as_str().to_owned()));
                let newly = lease.state != LeaseState::Stuck;
                (changes, newly.then_some(record))
            }
        };
        match self.ledger.commit(Entry { changes, records: record.into_iter().collect() }).await {
            // Somebody else got there first: the caller's own attempt and the queue's can meet.
            Err(LedgerError::IllegalTransition { .. }) => Ok(()),
            other => other.map(|_| ()).map_err(Failure::from),
        }
    }

    /// Asks the store to remove what it made for a lease.
    pub(super) async fn remove_at_store(
        &self,
        lease: &Lease,
        handle: Option<StoreHandle>,
    ) -> Result<(), Unremoved> {
        if handle.is_none() && self.clock.now().duration_since(lease.issued_at).unsigned_abs() < SETTLED {
            // Its issuance may be under way: whoever has the handle then takes the credential back.
            return Err(Unremoved::NotAsked);
        }
        let backend = &lease.reference.backend;
        let mount = self.mounts.mount(backend);
        let power = mount.and_then(|mount| Some((mount, mount.leasing(&lease.reference.path)?)));
        let Some((mount, leasing)) = power else {
            return Err(BackendError::new(ErrorKind::Misconfigured, backend, Operation::Revoke).into());
        };
        let handles = match handle {
            Some(handle) => vec![handle],
            None => self.orphans_of(mount, leasing, lease).await?,
        };
        for handle in handles {
            let admitted = mount.admit(Operation::Revoke).map_err(|_| Unremoved::NotAsked)?;
            admitted.make(leasing.revoke(&handle)).await?;
        }
        Ok(())
    }

    /// What the store made for a lease whose outcome was lost: everything under its path from the time of its issuance
    /// that no lease holds. Issuances of others in that time are over by now, so what they made is held.
    async fn orphans_of(
        &self,
        mount: &Mount,
        leasing: &dyn Leasing,
        lease: &Lease,
    ) -> Result<Vec<StoreHandle>, Unremoved> {
        let reference = &lease.reference;
        let fault = |kind| BackendError::new(kind, &reference.backend, Operation::FindOrphans);
        let from = lease.issued_at.saturating_sub(CLOCK_SKEW);
        let until = lease.issued_at.saturating_add(ISSUANCE);
        let (Ok(from), Ok(until)) = (from, until) else {
            return Err(fault(ErrorKind::Malformed).into());
        };
        let admitted = mount.admit(Operation::FindOrphans).map_err(|_| Unremoved::NotAsked)?;
        let mut orphans = Vec::new();
        for handle in admitted.make(leasing.find_orphans(&reference.path, from..until)).await? {
            let holder = self.ledger.lease_of_handle(reference.backend.clone(), handle.clone()).await;
            if holder.map_err(|_| fault(ErrorKind::Unavailable))?.is_none() {
                tracing::warn!(lease = %lease.id, "a credential without a lease is taken back");
                orphans.push(handle);
            }
        }
        Ok(orphans)
    }
}

/// Why a credential may still be at its store.
pub(super) enum Unremoved {
    /// The store was not asked: its circuit is open, or an issuance is under way.
    NotAsked,
    Failed(BackendError),
}

impl From<BackendError> for Unremoved {
    fn from(error: BackendError) -> Self {
        Self::Failed(error)
    }
}

/// An issuance is over within this, one way or the other: no call to a store takes longer.
const ISSUANCE: Duration = crate::mounts::CALL_LIMIT;
/// When every issuance that could have begun beside a lease's own is over too.
pub(super) const SETTLED: Duration = Duration::from_secs(150);
/// The store's clock may be this far from ours.
const CLOCK_SKEW: Duration = Duration::from_secs(5);
