//! Ends leases whose time ran out, and forgets those that went long ago.
//!
//! Reads only what is due, oldest first, by index; a broker with a million leases does no more work at a tick than the
//! leases that ended since the last.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::{Action, Actor};
use bursar_core::lease::LeaseEvent;
use bursar_core::{Explained, Lease};
use futures_util::future::join_all;
use jiff::Timestamp;

use super::Leases;
use crate::call::{own_actor, own_record};
use crate::failure::Failure;
use crate::kill::{self, Point};
use crate::ledger::{Change, Entry, LedgerError};

impl Leases {
    /// Runs until the process stops.
    pub async fn reap(self: Arc<Self>) {
        let mut ticks = self.tasks.ticks(TICK);
        while ticks.next().await {
            if let Err(error) = self.reap_due().await {
                tracing::warn!(error = %Explained(&error), "leases that are due could not be ended; they are next time");
            }
        }
    }

    pub(super) async fn reap_due(&self) -> Result<(), Failure> {
        loop {
            let now = self.clock.now();
            let due = self.ledger.due(now, BATCH).await?;
            // Beside each other, so that they share the ledger's transactions.
            let expired = join_all(due.iter().map(|lease| self.expire(lease, now))).await;
            if due.iter().any(|lease| lease.dynamic) {
                self.hurry();
            }
            expired.into_iter().collect::<Result<(), _>>()?;
            if due.len() < BATCH {
                return Ok(());
            }
        }
    }

    async fn expire(&self, lease: &Lease, now: Timestamp) -> Result<(), Failure> {
        let event = LeaseEvent::Expire;
        let change = Change::Apply { id: lease.id, event, at: now, error: None, next_attempt_at: Some(now) };
        let record = self.own(lease, Action::Expire, now);
        kill::at(Point::ExpireBegun);
        match self.ledger.commit(Entry { changes: vec![change], records: vec![record] }).await {
            // Extended or ended since it was due.
            Err(LedgerError::IllegalTransition { .. }) => return Ok(()),
            other => drop(other?),
        }
        kill::at(Point::ExpiryDurable);
        Ok(())
    }

    /// Forgets what went long ago, until the process stops.
    pub async fn forget(self: Arc<Self>) {
        let mut ticks = self.tasks.ticks(FORGET_TICK);
        while ticks.next().await {
            if let Some(Err(error)) = self.tasks.until_stopping(self.forget_old()).await {
                tracing::warn!(error = %Explained(&error), "leases that went long ago could not be forgotten; they are next time");
            }
        }
    }

    async fn forget_old(&self) -> Result<(), Failure> {
        let before = self.clock.now().saturating_sub(self.limits.keep_gone)?;
        loop {
            let change = Change::Forget { before, limit: FORGOTTEN };
            kill::at(Point::ForgetBegun);
            let committed = self.ledger.commit(Entry { changes: vec![change], records: Vec::new() }).await?;
            kill::at(Point::ForgetDurable);
            if committed.count() < FORGOTTEN as u64 {
                return Ok(());
            }
        }
    }

    /// Shows how many leases end soon, until the process stops.
    pub async fn foresee(self: Arc<Self>) {
        let mut ticks = self.tasks.ticks(FORESEE_TICK);
        while ticks.next().await {
            let now = self.clock.now();
            let times = HORIZONS.iter().filter_map(|(_, ahead)| now.checked_add(*ahead).ok()).collect();
            match self.ledger.ending(times).await {
                Ok(counts) => HORIZONS
                    .iter()
                    .zip(counts)
                    .for_each(|((within, _), count)| self.metrics.leases_ending(within, count)),
                Err(error) => {
                    tracing::warn!(error = %Explained(&error), "leases that end soon could not be counted");
                }
            }
        }
    }

    /// A record of what the broker does to a lease by itself.
    pub(super) fn own(
        &self,
        lease: &Lease,
        action: Action,
        at: Timestamp,
    ) -> bursar_core::audit::AuditRecord {
        let node = lease.node.as_ref().map(ToString::to_string);
        let actor = Actor { node, ..own_actor(&lease.principal) };
        let mut record = own_record(actor, at, lease.id.to_string(), action, lease.reference.to_string());
        record.lease_id = Some(lease.id.to_string());
        record.environment = lease.environment.clone();
        record
    }
}

const TICK: Duration = Duration::from_secs(1);
const BATCH: usize = 256;
const FORGET_TICK: Duration = Duration::from_secs(60);
/// Leases that one commit forgets: other commits wait for it, some milliseconds.
const FORGOTTEN: usize = 500;
const FORESEE_TICK: Duration = Duration::from_secs(15);
const HORIZONS: [(&str, Duration); 3] =
    [("1m", Duration::from_secs(60)), ("10m", Duration::from_secs(600)), ("1h", Duration::from_secs(3600))];
