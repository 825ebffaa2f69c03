//! Bulk revocations: ordered in one commit, carried out in steps.
//!
//! The order is durable before anybody hears of it, and takes every lease that was granted before. Its leases are marked
//! some hundreds at a time, so that reads go on meanwhile; a restart goes on where the last step ended. A read that was
//! under way when the order came may be taken or not; leases that are granted later are not. Several orders take turns,
//! so that a small one does not wait for a large one.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::Explained;
use bursar_core::audit::AuditRecord;
use tokio::time::Instant;

use super::Leases;
use crate::failure::Failure;
use crate::kill::{self, Point};
use crate::ledger::{Change, Entry, Revocation, RevocationId, RevokeSelector, Walked};

impl Leases {
    /// Orders that every lease that `selector` means be taken back, and gives the marking some time. `asked` is the
    /// record of the order, `record` that of each lease.
    ///
    /// # Errors
    /// That of the ledger.
    pub async fn revoke_many(
        &self,
        selector: RevokeSelector,
        asked: AuditRecord,
        record: AuditRecord,
    ) -> Result<Revocation, Failure> {
        let order = Change::OrderRevocation { selector, record: Box::new(record), at: self.clock.now() };
        kill::at(Point::OrderBegun);
        let committed = self.ledger.commit(Entry { changes: vec![order], records: vec![asked] }).await?;
        kill::at(Point::OrderDurable);
        self.carried_out(committed.revocation()).await
    }

    /// How far a bulk revocation got, as soon as all its leases are marked, or after a while. Not all of them may be
    /// then: the broker goes on by itself.
    ///
    /// # Errors
    /// That of the ledger.
    pub async fn carried_out(&self, revocation: Option<RevocationId>) -> Result<Revocation, Failure> {
        let revocation = revocation.ok_or(Failure::Kept("a bulk revocation"))?;
        let end = Instant::now() + PATIENCE;
        let mut marked = self.marked.subscribe();
        self.ordered.notify_one();
        loop {
            let found = self.ledger.revocations(Some(revocation), 1).await?;
            let found = found.into_iter().next().ok_or(Failure::Kept("a bulk revocation"))?;
            if found.marked_at.is_some() || Instant::now() >= end {
                return Ok(found);
            }
            drop(tokio::time::timeout_at(end, marked.changed()).await);
        }
    }

    /// Carries orders out until the process stops.
    pub async fn mark_ordered(self: Arc<Self>) {
        let mut ticks = self.tasks.ticks(TICK);
        loop {
            tokio::select! {
                ticked = ticks.next() => if !ticked { return },
                () = self.ordered.notified() => {}
            }
            if let Some(Err(error)) = self.tasks.until_stopping(self.mark_open()).await {
                tracing::warn!(error = %Explained(&error), "a bulk revocation could not go on; it does in a moment");
            }
        }
    }

    async fn mark_open(&self) -> Result<(), Failure> {
        loop {
            let open = self.ledger.open_revocations().await?;
            if open.is_empty() {
                return Ok(());
            }
            for revocation in open {
                self.mark_some(revocation).await?;
            }
        }
    }

    /// Some steps of one order. While one is written, the leases of the next are looked for: the writer does not wait for
    /// the walk.
    async fn mark_some(&self, revocation: RevocationId) -> Result<(), Failure> {
        let mut walked = self.ledger.walk(revocation, None, STEP).await?;
        for _ in 1..TURN {
            let Some(place) = walked.place.clone() else { break };
            let (marked, next) = tokio::join!(
                self.mark_walked(revocation, walked),
                self.ledger.walk(revocation, Some(place), STEP)
            );
            marked?;
            walked = next?;
        }
        self.mark_walked(revocation, walked).await
    }

    /// One step of one order.
    async fn mark_walked(&self, revocation: RevocationId, walked: Walked) -> Result<(), Failure> {
        let (ended, some) = (walked.place.is_none(), !walked.ids.is_empty());
        let change = Change::Mark { revocation, ids: walked.ids, place: walked.place, at: self.clock.now() };
        kill::at(Point::MarkBegun);
        self.ledger.commit(Entry { changes: vec![change], records: Vec::new() }).await?;
        kill::at(Point::MarkDurable);
        if some {
            self.hurry();
        }
        if ended {
            self.announce_many();
            self.marked.send_modify(|times| *times += 1);
        }
        Ok(())
    }
}

/// Leases that one step marks: other commits wait for it, some milliseconds.
const STEP: usize = 250;
/// Steps of one order before the others have their turn.
const TURN: usize = 8;
/// Orders are looked for so often without anybody giving one: after a restart, or when the ledger failed.
const TICK: Duration = Duration::from_secs(1);
/// Whoever ordered waits for the marking at most so long: well within the deadline of a request.
const PATIENCE: Duration = Duration::from_secs(5);
