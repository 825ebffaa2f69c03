//! Disclosures that agents made from their caches: into the ledger, under the leases that covered them.

use std::sync::Arc;

use bursar_core::LeaseId;
use bursar_core::audit::{Action, Decision};
use bursar_core::spiffe::PrincipalKind;
use bursar_proto::v1::WorkloadContext;
use jiff::Timestamp;

use crate::broker::Broker;
use crate::call::Call;
use crate::failure::Failure;
use crate::ledger::Entry;

/// Reads of one secret by one local caller.
#[derive(Debug)]
pub struct LocalRead {
    pub lease: LeaseId,
    pub workload: WorkloadContext,
    pub count: u64,
    pub first: Timestamp,
    pub last: Timestamp,
}

impl Broker {
    /// Takes down what the calling node served, all or nothing.
    ///
    /// # Errors
    /// [`Failure::Denied`] for a caller that is no node, [`Failure::LeaseNotFound`] for a lease that was not granted
    /// through it: one node cannot put words into another's mouth.
    pub async fn journal(&self, call: &Call, reads: Vec<LocalRead>) -> Result<(), Failure> {
        let node = call.caller.id();
        let draft = call.asks(Action::LocalRead, "journal");
        if !matches!(node.kind(), PrincipalKind::Node { .. }) {
            return Err(self.failed(draft, Failure::Denied).await);
        }
        let mut records = Vec::with_capacity(reads.len());
        for read in reads {
            let lease = self.settle(draft.clone(), self.leases.find(read.lease)).await?;
            if lease.node.as_ref() != Some(node) {
                return Err(self.failed(draft, Failure::LeaseNotFound(read.lease)).await);
            }
            let spoken = format!("{} reads from {} to {}", read.count, read.first, read.last);
            let mut record = call
                .asks(Action::LocalRead, lease.reference.to_string())
                .decided(Decision::Allow, Arc::default())
                .because(&spoken)
                .within(lease.environment.as_deref())
                .version(lease.reference.version.as_ref())
                .lease(lease.id)
                .ok();
            record.actor.principal = lease.principal.to_string();
            record.actor.node = Some(node.to_string());
            record.actor.selectors = read.workload.selectors;
            records.push(record);
        }
        self.ledger.commit(Entry { changes: Vec::new(), records }).await?;
        Ok(())
    }
}
