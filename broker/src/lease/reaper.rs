//! Ends leases whose time ran out.
//!
//! Reads only what is due, oldest first, by index; a broker with a million leases does no more work at a tick than the
//! leases that ended since the last.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::{Action, Actor};
use bursar_core::lease::LeaseEvent;
use bursar_core::{Lease, LeaseId};
use jiff::Timestamp;

use super::Leases;
use crate::call::own_record;
use crate::failure::Failure;
use crate::kill::{self, Point};
use crate::ledger::{Change, Entry, LedgerError};

impl Leases {
    /// Runs until the process stops.
    pub async fn reap(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = self.tasks.stopping() => return,
            }
            if let Err(error) = self.reap_due().await {
                tracing::warn!(%error, "leases that are due could not be ended; they are next time");
            }
        }
    }

    pub(super) async fn reap_due(&self) -> Result<(), Failure> {
        loop {
            let now = self.clock.now();
            let due = self.ledger.due(now, BATCH).await?;
            let full = due.len() == BATCH;
            for id in due {
                self.expire(id, now).await?;
            }
            if !full {
                return Ok(());
            }
        }
    }

    async fn expire(&self, id: LeaseId, now: Timestamp) -> Result<(), Failure> {
        let Some(lease) = self.ledger.lease(id).await? else { return Ok(()) };
        if !lease.state.is_live() || lease.expires_at > now {
            return Ok(());
        }
        let event = LeaseEvent::Expire;
        let change = Change::Apply { id, event, at: now, error: None, next_attempt_at: Some(now) };
        let record = self.own(&lease, Action::Expire, now);
        kill::at(Point::ExpireBegun);
        match self.ledger.commit(Entry { changes: vec![change], records: vec![record] }).await {
            // Extended or ended since it was due.
            Err(LedgerError::IllegalTransition { .. }) => return Ok(()),
            other => drop(other?),
        }
        kill::at(Point::ExpiryDurable);
        if lease.dynamic {
            self.due.notify_one();
        }
        Ok(())
    }

    /// A record of what the broker does to a lease by itself.
    pub(super) fn own(
        &self,
        lease: &Lease,
        action: Action,
        at: Timestamp,
    ) -> bursar_core::audit::AuditRecord {
        let actor = Actor {
            principal: lease.principal.to_string(),
            method: crate::identity::Method::Broker.as_str().to_owned(),
            credential: None,
            node: lease.node.as_ref().map(ToString::to_string),
            selectors: Vec::new(),
            peer: None,
        };
        let mut record = own_record(actor, at, lease.id.to_string(), action, lease.reference.to_string());
        record.lease_id = Some(lease.id.to_string());
        record.environment = lease.environment.clone();
        record
    }
}

const TICK: Duration = Duration::from_secs(1);
const BATCH: usize = 256;
