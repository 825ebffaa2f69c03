//! Leases against the log. A lease is state and no history, so that not each of its fields is in a record: that it was
//! granted, to whom, for which secret, and that it ended, are.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bursar_core::audit::{Action, AuditRecord, Outcome};
use bursar_core::{Lease, LeaseId, LeaseState, Reference};

use super::Look;
use crate::ledger::error::LedgerError;
use crate::ledger::query::HolderKind;

/// What the log says of leases.
#[derive(Debug, Default)]
pub(super) struct Known {
    leases: HashMap<LeaseId, Told>,
}

#[derive(Debug)]
struct Told {
    /// Of principal and secret.
    what: Option<u64>,
    granted: Option<u64>,
    ended: Option<u64>,
}

impl Known {
    pub(super) fn take(&mut self, seq: u64, record: &AuditRecord) {
        let Some(id) = record.lease_id.as_ref().and_then(|id| id.parse::<LeaseId>().ok()) else { return };
        if record.outcome != Outcome::Ok {
            return;
        }
        let told = self.leases.entry(id).or_insert(Told { what: None, granted: None, ended: None });
        match record.action {
            Action::Read => {
                told.granted = told.granted.or(Some(seq));
                let secret = Reference::parse(&record.resource).ok();
                told.what = secret.map(|secret| what(&record.actor.principal, &secret)).or(told.what);
            }
            Action::Revoke | Action::ForceRevoke | Action::Expire | Action::Gone => told.ended = Some(seq),
            _ => {}
        }
    }
}

impl Look<'_> {
    /// Compares each lease with what the log says; answers how many there are.
    pub(super) fn leases(&mut self, first: u64) -> Result<u64, LedgerError> {
        let snapshot = self.snapshot;
        let since = snapshot.record(first)?.map_or(i64::MAX, |(at, _)| at);
        let mut count = 0;
        snapshot.each_lease(&mut |lease| {
            count += 1;
            match lease {
                Ok(lease) => self.lease(&lease, since),
                Err(error) => self.find(format!("a lease cannot be read: {error}")),
            }
        })?;
        // One that ended may have been forgotten since.
        let lost = |(id, told): (LeaseId, Told)| Some((told.granted.filter(|_| told.ended.is_none())?, id));
        let mut lost: Vec<_> = self.known.leases.drain().filter_map(lost).collect();
        lost.sort_unstable_by_key(|(seq, _)| *seq);
        for (seq, id) in lost {
            self.find(format!("record {seq} granted the lease {id}, and there is no such lease"));
        }
        Ok(count)
    }

    fn lease(&mut self, lease: &Lease, since: i64) {
        let (id, told) = (lease.id, self.known.leases.remove(&lease.id));
        let active = lease.state == LeaseState::Active;
        let Some(told) = told.filter(|told| told.granted.is_some() || told.ended.is_some()) else {
            // What was granted before the oldest record has its record among those that were pruned.
            if active && lease.issued_at.as_microsecond() >= since {
                self.find(format!("the lease {id} is active, and no record says that it was granted"));
            }
            return;
        };
        if told.what.is_some_and(|told| told != what(lease.principal.as_str(), &lease.reference)) {
            let seq = told.granted.unwrap_or_default();
            self.find(format!("the lease {id} is of another principal or secret than record {seq} says"));
        }
        if let Some(seq) = told.ended.filter(|_| active) {
            self.find(format!("the lease {id} is active, and record {seq} says that it ended"));
        }
    }

    /// No credential is kept but of leases that are active.
    pub(super) fn credentials(&mut self) -> Result<(), LedgerError> {
        for id in self.snapshot.stray_credentials()? {
            self.find(format!("a credential of the lease {id} is kept, which is not active"));
        }
        Ok(())
    }

    /// The sums that lists and quotas go by.
    pub(super) fn sums(&mut self) -> Result<(), LedgerError> {
        for (state, count) in self.snapshot.wrong_counts()? {
            let state = state.map_or("of an unknown state", LeaseState::as_str);
            self.find(format!("{count} leases are counted as {state}, and it is not so many"));
        }
        for kind in HolderKind::ALL {
            for name in self.snapshot.wrong_holders(kind)? {
                self.find(format!("the leases of the {} `{name}` are counted wrongly", kind.as_str()));
            }
        }
        Ok(())
    }
}

fn what(principal: &str, secret: &Reference) -> u64 {
    let mut hasher = DefaultHasher::new();
    (principal, secret.backend.as_str(), secret.path.as_str()).hash(&mut hasher);
    hasher.finish()
}
