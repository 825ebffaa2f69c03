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
use bursar_core::backend::{BackendError, ErrorKind, Operation, StoreHandle};
use bursar_core::lease::LeaseEvent;
use bursar_core::retry::Retry;
use bursar_core::{BackendName, Lease, LeaseState};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;

use super::{Leases, until};
use crate::failure::Failure;
use crate::kill::{self, Point};
use crate::ledger::{Change, Entry, LedgerError, Revocable};

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

    pub(super) async fn drain(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        let mut queues: BTreeMap<BackendName, Vec<Revocable>> = BTreeMap::new();
        for revocable in self.ledger.to_revoke(now, BATCH).await? {
            queues.entry(revocable.lease.reference.backend.clone()).or_default().push(revocable);
        }
        join_all(queues.into_values().map(|queue| self.drain_store(queue))).await;
        self.give_up_old_intents().await
    }

    /// From here on, an intent that lost its outcome is a revocation without a handle, with the attempts and waits of
    /// any other.
    async fn give_up_old_intents(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        for intent in self.ledger.intents(self.outcome_lost_before(now), BATCH).await? {
            let event = LeaseEvent::Revoke;
            let change = Change::Apply { id: intent.id, event, at: now, error: None, next_attempt_at: None };
            let record = self.own(&intent, Action::Revoke, now);
            match self.ledger.commit(Entry { changes: vec![change], records: vec![record] }).await {
                // The store's answer came after all.
                Err(LedgerError::IllegalTransition { .. }) => continue,
                other => drop(other?),
            }
            kill::at(Point::IntentGivenUp);
            self.due.notify_one();
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
        // Without a handle this is a search, and one that finds nothing may be too early.
        let look_again = (handle.is_none()).then(|| until(now, self.store_is_done(lease)));
        let removed = self.remove_at_store(lease, handle).await;
        kill::at(Point::StoreRemoved);
        let attempts = lease.attempts.saturating_add(1);
        let apply = |event, error: Option<&BackendError>, wait: Option<Duration>| {
            let next_attempt_at = wait.and_then(|wait| now.checked_add(wait).ok());
            let error = error.map(|error| error.kind.as_str().to_owned());
            Change::Apply { id: lease.id, event, at: now, error, next_attempt_at }
        };
        let (changes, record) = match removed {
            Ok(()) if look_again.is_some_and(|wait| !wait.is_zero()) => {
                (vec![apply(LeaseEvent::Attempt, None, look_again)], None)
            }
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
        let committed = self.ledger.commit(Entry { changes, records: record.into_iter().collect() }).await;
        kill::at(Point::AttemptDurable);
        match committed {
            // Somebody else got there first: the caller's own attempt and the queue's can meet.
            Err(LedgerError::IllegalTransition { .. }) => Ok(()),
            other => other.map(|_| ()).map_err(Failure::from),
        }
    }

    async fn remove_at_store(&self, lease: &Lease, handle: Option<StoreHandle>) -> Result<(), BackendError> {
        let backend = &lease.reference.backend;
        let mount = self.mounts.mount(backend);
        let Some(leasing) = mount.and_then(|mount| mount.leasing(&lease.reference.path)) else {
            return Err(BackendError::new(ErrorKind::Misconfigured, backend, Operation::Revoke));
        };
        let Some(handle) = handle else { return self.search(leasing, lease).await };
        let removed = leasing.revoke(&handle).await;
        self.mounts.observe(backend, Operation::Revoke, &removed);
        removed
    }
}

const TICK: Duration = Duration::from_secs(1);
const BATCH: usize = 256;
const CALLS_PER_STORE: usize = 8;
const MAX_ATTEMPTS: u32 = 12;
const STUCK_INTERVAL: Duration = Duration::from_secs(600);
