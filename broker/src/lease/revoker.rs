//! Takes credentials back at their stores, until the stores say that they are gone.
//!
//! A failed attempt is put off by the one retry policy and counted in the ledger, so a restart goes on where it was.
//! After [`MAX_ATTEMPTS`] the lease is stuck: visible, counted, and tried again at long intervals, never forgotten.
//! Stores are served beside each other, each with its own small number of calls at a time, so that one that hangs
//! holds up nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::{Action, Outcome};
use bursar_core::backend::{BackendError, ErrorKind, Leasing, Operation, StoreHandle};
use bursar_core::lease::LeaseEvent;
use bursar_core::retry::Retry;
use bursar_core::{BackendName, Lease, LeaseState};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;

use super::Leases;
use crate::failure::Failure;
use crate::ledger::{Change, Entry, LedgerError, Revocable};
use crate::mounts::Mount;

impl Leases {
    /// Runs until the process stops.
    pub async fn revoke_due(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.due.notified() => {}
                _ = self.tasks.stopping() => return,
            }
            if let Err(error) = self.drain().await {
                tracing::warn!(%error, "leases to revoke could not be read; they are next time");
            }
        }
    }

    /// Asks the store of one lease to take it back and commits what came of it.
    pub(super) async fn attempt(&self, lease: &Lease) {
        let handle = self.ledger.handle(lease.id).await;
        let settled = match handle {
            Ok(handle) => self.attempt_with(lease, handle).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = settled {
            tracing::warn!(lease = %lease.id, %error, "a revocation could not be recorded; it is tried again");
        }
    }

    async fn drain(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        let mut queues: BTreeMap<BackendName, Vec<Revocable>> = BTreeMap::new();
        for revocable in self.ledger.to_revoke(now, BATCH).await? {
            queues.entry(revocable.lease.reference.backend.clone()).or_default().push(revocable);
        }
        join_all(queues.into_values().map(|queue| self.drain_store(queue))).await;
        self.give_up_old_intents().await
    }

    /// An intent that is this old has lost its outcome: its broker stopped, or the store's answer never came. From here
    /// on it is a revocation without a handle, with the attempts and waits of any other.
    async fn give_up_old_intents(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        for intent in self.ledger.intents(now.saturating_sub(SETTLED)?, BATCH).await? {
            let event = LeaseEvent::Revoke;
            let change = Change::Apply { id: intent.id, event, at: now, error: None, next_attempt_at: None };
            let record = self.own(&intent, Action::Revoke, now);
            self.ledger.commit(Entry { changes: vec![change], records: vec![record] }).await?;
        }
        Ok(())
    }

    async fn drain_store(&self, queue: Vec<Revocable>) {
        let attempts = stream::iter(queue).map(|Revocable { lease, handle }| async move {
            if let Err(error) = self.attempt_with(&lease, handle).await {
                tracing::warn!(lease = %lease.id, %error, "a revocation could not be recorded; it is tried again");
            }
        });
        attempts.buffer_unordered(CALLS_PER_STORE).collect::<()>().await;
    }

    async fn attempt_with(&self, lease: &Lease, handle: Option<StoreHandle>) -> Result<(), Failure> {
        let now = self.clock.now();
        if handle.is_none() && now.duration_since(lease.issued_at).unsigned_abs() < SETTLED {
            // Its issuance may be under way: whoever has the handle then takes the credential back.
            return Ok(());
        }
        let removed = self.remove_at_store(lease, handle).await;
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
            Err(error) if attempts < MAX_ATTEMPTS => {
                let wait = Retry::BACKGROUND.delay(attempts);
                (vec![apply(LeaseEvent::Attempt, Some(&error), Some(wait))], None)
            }
            Err(error) => {
                let changes = vec![
                    apply(LeaseEvent::Attempt, Some(&error), None),
                    apply(LeaseEvent::GaveUp, Some(&error), Some(STUCK_INTERVAL)),
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

    async fn remove_at_store(&self, lease: &Lease, handle: Option<StoreHandle>) -> Result<(), BackendError> {
        let backend = &lease.reference.backend;
        let mount = self.mounts.mount(backend);
        let power = mount.and_then(|mount| Some((mount, mount.leasing(&lease.reference.path)?)));
        let Some((mount, leasing)) = power else {
            return Err(BackendError::new(ErrorKind::Misconfigured, backend, Operation::Revoke));
        };
        let handles = match handle {
            Some(handle) => vec![handle],
            None => self.orphans_of(mount, leasing, lease).await?,
        };
        for handle in handles {
            mount.call(Operation::Revoke, leasing.revoke(&handle)).await?;
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
    ) -> Result<Vec<StoreHandle>, BackendError> {
        let reference = &lease.reference;
        let fault = |kind| BackendError::new(kind, &reference.backend, Operation::FindOrphans);
        let from = lease.issued_at.saturating_sub(CLOCK_SKEW);
        let until = lease.issued_at.saturating_add(ISSUANCE);
        let (Ok(from), Ok(until)) = (from, until) else { return Err(fault(ErrorKind::Malformed)) };
        let find = leasing.find_orphans(&reference.path, from..until);
        let mut orphans = Vec::new();
        for handle in mount.call(Operation::FindOrphans, find).await? {
            let holder = self.ledger.lease_of_handle(reference.backend.clone(), handle.clone()).await;
            if holder.map_err(|_| fault(ErrorKind::Unavailable))?.is_none() {
                tracing::warn!(lease = %lease.id, "a credential without a lease is taken back");
                orphans.push(handle);
            }
        }
        Ok(orphans)
    }
}

const TICK: Duration = Duration::from_secs(1);
const BATCH: usize = 256;
const CALLS_PER_STORE: usize = 8;
const MAX_ATTEMPTS: u32 = 12;
const STUCK_INTERVAL: Duration = Duration::from_secs(600);
/// An issuance is over within this, one way or the other: every call to a store has a deadline far below it.
const ISSUANCE: Duration = Duration::from_secs(60);
/// When every issuance that could have begun beside a lease's own is over too.
const SETTLED: Duration = Duration::from_secs(150);
/// The store's clock may be this far from ours.
const CLOCK_SKEW: Duration = Duration::from_secs(5);
