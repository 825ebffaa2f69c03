//! A queue for each store, of leases whose credentials have to be taken back there.
//!
//! The queues know nothing of each other: a store that hangs, or has a hundred thousand leases due, delays nobody else's.
//! The ledger is the queue; what is due is read from it in small batches, the longest due first. A store gets at most so
//! many calls at a time and so many a second as its configuration says. While its circuit is open its queue rests and no
//! attempt is used up; when it is well again, its stuck leases are due at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bursar_core::audit::Action;
use bursar_core::lease::LeaseEvent;
use bursar_core::retry::Retry;
use bursar_core::{BackendName, Explained};
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::Leases;
use crate::config::RevocationLimits;
use crate::failure::Failure;
use crate::kill::{self, Point};
use crate::ledger::{Change, Entry, LedgerError};
use crate::mounts::Mount;

impl Leases {
    /// Serves every queue until the process stops. Calls that are under way then are cut off: a store that took the
    /// credential back says so again after the restart.
    pub async fn revoke_due(self: Arc<Self>) {
        let stores = self.mounts.iter().map(|(name, mount)| self.serve_store(name, mount));
        let queues = async { tokio::join!(join_all(stores), self.serve_strays(), self.settle_intents()) };
        self.tasks.until_stopping(queues).await;
    }

    async fn serve_store(&self, name: &BackendName, mount: &Mount) {
        let pace = Pace::of(mount.revocation);
        let (mut due, mut came_back) = (self.due.subscribe(), mount.came_back());
        let (mut tick, mut failed) = (every(TICK), 0_u32);
        loop {
            let returned = tokio::select! {
                _ = tick.tick() => false,
                _ = due.changed() => false,
                _ = came_back.changed() => true,
            };
            let served = async {
                if returned {
                    self.hasten(name).await?;
                }
                self.drain(name, mount, &pace).await
            };
            failed = match served.await {
                Ok(()) => 0,
                Err(error) => {
                    tracing::warn!(backend = %name, error = %Explained(&error), "leases to revoke wait for the ledger");
                    failed.saturating_add(1)
                }
            };
            if failed > 0 {
                // What cannot be recorded is not asked of the store again and again.
                tokio::time::sleep(Retry::BACKGROUND.delay(failed)).await;
            }
        }
    }

    pub(super) async fn drain(&self, name: &BackendName, mount: &Mount, pace: &Pace) -> Result<(), Failure> {
        while !mount.is_away() {
            let now = self.clock.now();
            let due = self.ledger.to_revoke(name, now, BATCH).await?;
            let full = due.len() == BATCH;
            let attempts = stream::iter(due).map(|revocable| async move {
                pace.turn().await;
                self.attempt_with(&revocable.lease, revocable.handle, mount.revocation.attempts).await
            });
            let mut attempts = attempts.buffer_unordered(mount.revocation.concurrency);
            while let Some(attempted) = attempts.next().await {
                attempted?;
            }
            if !full {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Leases of backends that are not configured any more: nobody can take them back, so they are stuck at once.
    async fn serve_strays(&self) {
        let mut tick = every(STRAYS_TICK);
        loop {
            tick.tick().await;
            if let Err(error) = self.strand_strays().await {
                tracing::warn!(error = %Explained(&error), "leases of backends that are not configured could not be read");
            }
        }
    }

    async fn strand_strays(&self) -> Result<(), Failure> {
        for name in self.ledger.waiting_backends().await? {
            if self.mounts.mount(&name).is_some() {
                continue;
            }
            loop {
                let now = self.clock.now();
                let due = self.ledger.to_revoke(&name, now, BATCH).await?;
                let attempts =
                    due.iter().map(|stray| self.attempt_with(&stray.lease, stray.handle.clone(), 1));
                join_all(attempts).await.into_iter().collect::<Result<(), _>>()?;
                if due.len() < BATCH {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Stuck leases of a store that is well again are due now.
    async fn hasten(&self, backend: &BackendName) -> Result<(), Failure> {
        loop {
            let change = Change::Hasten { backend: backend.clone(), at: self.clock.now(), limit: HASTENED };
            let committed = self.ledger.commit(Entry { changes: vec![change], records: Vec::new() }).await?;
            if committed.count() > 0 {
                tracing::info!(%backend, leases = committed.count(), "a store is back; stuck leases are tried again");
            }
            if committed.count() < HASTENED as u64 {
                return Ok(());
            }
        }
    }

    async fn settle_intents(&self) {
        let mut tick = every(TICK);
        loop {
            tick.tick().await;
            if let Err(error) = self.give_up_old_intents().await {
                tracing::warn!(error = %Explained(&error), "intents without an outcome could not be settled; they are next time");
            }
        }
    }

    /// From here on, an intent that lost its outcome is a revocation without a handle, with the attempts and waits of
    /// any other.
    pub(super) async fn give_up_old_intents(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        for intent in self.ledger.intents(self.outcome_lost_before(now), BATCH).await? {
            let event = LeaseEvent::Revoke;
            let change = Change::Apply { id: intent.id, event, at: now, error: None, next_attempt_at: None };
            let record = self.own(&intent, Action::Revoke, now);
            match self.ledger.commit(Entry { changes: vec![change], records: vec![record] }).await {
                // Its outcome came after all, or somebody took it back.
                Err(LedgerError::IllegalTransition { .. }) => continue,
                other => drop(other?),
            }
            kill::at(Point::IntentGivenUp);
            self.hurry();
        }
        Ok(())
    }
}

/// Spreads the calls to one store over time.
#[derive(Debug)]
pub(super) struct Pace {
    period: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    pub(super) fn of(limits: RevocationLimits) -> Self {
        let period = Duration::from_secs(1) / limits.per_second.get();
        Self { period, next: Mutex::new(Instant::now()) }
    }

    /// Waits until the next call may be made.
    async fn turn(&self) {
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(Instant::now());
            *next = at + self.period;
            at
        };
        tokio::time::sleep_until(at).await;
    }
}

fn every(period: Duration) -> Interval {
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

const TICK: Duration = Duration::from_secs(1);
const STRAYS_TICK: Duration = Duration::from_secs(60);
const BATCH: usize = 64;
/// Leases that one commit makes due: other commits wait for it, some milliseconds.
const HASTENED: usize = 500;
