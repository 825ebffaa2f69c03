//! Takes credentials back at their stores, until the stores say that they are gone.
//!
//! A failed attempt is put off by the one retry policy and counted in the ledger, so a restart goes on where it was.
//! After the attempts that the backend's configuration gives it, the lease is stuck: visible, counted, and tried again at
//! long intervals and when its store is well again, never forgotten. [`super::queue`] says when an attempt is made, and
//! an administrator may give a lease up.

use std::time::Duration;

use bursar_core::audit::{Action, Outcome};
use bursar_core::backend::{BackendError, ErrorKind, Operation, Removal, StoreHandle};
use bursar_core::lease::LeaseEvent;
use bursar_core::retry::Retry;
use bursar_core::{Explained, Lease, LeaseState};

use super::{Leases, until};
use crate::failure::Failure;
use crate::kill::{self, Point};
use crate::ledger::{Change, Entry, LedgerError};

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
            tracing::warn!(lease = %lease.id, error = %Explained(&error), "a revocation could not be recorded; it is tried again");
        }
    }

    /// The same with the handle known. The attempt after which the lease is stuck is number `most`.
    pub(super) async fn attempt_with(
        &self,
        lease: &Lease,
        handle: Option<StoreHandle>,
        most: u32,
    ) -> Result<(), Failure> {
        // Without a handle this is a search, and one that finds nothing may be too early.
        let done = handle.is_none().then(|| self.store_is_done(lease));
        let early = done.filter(|done| *done > self.clock.now());
        // When to look again, where it is not known to be gone.
        let removed = match self.remove_at_store(lease, handle).await {
            Ok(Removal::Gone) => Ok(early),
            Ok(Removal::EndsAt(end)) => Ok(Some(end)),
            Err(Unremoved::Failed(error)) => Err(error),
            Err(Unremoved::NotAsked) => return Ok(()),
        };
        kill::at(Point::StoreRemoved);
        let now = self.clock.now();
        let attempts = lease.attempts.saturating_add(1);
        let apply = |event, error: Option<&BackendError>, wait: Option<Duration>| {
            let next_attempt_at = wait.and_then(|wait| now.checked_add(wait).ok());
            let error = error.map(|error| error.kind.as_str().to_owned());
            Change::Apply { id: lease.id, event, at: now, error, next_attempt_at }
        };
        let (changes, record) = match removed {
            Ok(Some(later)) => (vec![apply(LeaseEvent::Attempt, None, Some(until(now, later)))], None),
            Ok(None) => {
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
        let committed = self.ledger.commit(Entry { changes, records: record.into_iter().collect() }).await;
        kill::at(Point::AttemptDurable);
        match committed {
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
    ) -> Result<Removal, Unremoved> {
        let backend = &lease.reference.backend;
        let mount = self.mounts.mount(backend);
        let power = mount.and_then(|mount| Some((mount, mount.leasing(&lease.reference.path)?)));
        let Some((mount, leasing)) = power else {
            return Err(BackendError::new(ErrorKind::Misconfigured, backend, Operation::Revoke).into());
        };
        match handle {
            Some(handle) => {
                let admitted = mount.admit(Operation::Revoke).map_err(|_| Unremoved::NotAsked)?;
                Ok(admitted.make(leasing.revoke(&handle)).await?)
            }
            None => self.search(mount, leasing, lease).await.map(|()| Removal::Gone),
        }
    }
}

/// Why a credential may still be at its store.
pub(super) enum Unremoved {
    /// The store was not asked: its circuit is open.
    NotAsked,
    Failed(BackendError),
}

impl From<BackendError> for Unremoved {
    fn from(error: BackendError) -> Self {
        Self::Failed(error)
    }
}
