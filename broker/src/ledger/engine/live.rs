//! The live lease that a read repeats, and whether it will do.

use bursar_core::LeaseId;
use bursar_core::lease::{Lease, TtlBound};
use jiff::Timestamp;

use super::codes::micros;
use crate::ledger::entry::Outcome;

pub(super) struct Live {
    pub(super) id: LeaseId,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) ttl_bound: TtlBound,
    pub(super) renewable: bool,
    pub(super) reason: Option<String>,
}

impl Live {
    /// Whether it is as good as `lease`: has at least nine tenths of the life that a new one would have, and says the
    /// same of itself. Ends are spread over a tenth, so one that was short is extended sooner, to another end.
    pub(super) fn serves(&self, lease: &Lease) -> bool {
        let life = |until: Timestamp| micros(until) - micros(lease.issued_at);
        let (left, proposed) = (life(self.expires_at), life(lease.expires_at));
        left >= proposed - proposed / 10
            && self.renewable == lease.renewable
            && (lease.reason.is_none() || lease.reason == self.reason)
    }

    /// It with the end that `lease` asks for, and what bound it, where that is later. All else that a read says of a lease
    /// (its limits on renewal, its reason if it has one) is of the newest read: it was decided anew.
    pub(super) fn extended(self, lease: &Lease) -> Self {
        match lease.expires_at > self.expires_at {
            true => Self { expires_at: lease.expires_at, ttl_bound: lease.ttl_bound, ..self },
            false => self,
        }
    }

    /// What is told of it to whoever repeated a read.
    pub(super) fn granted(&self) -> Outcome {
        Outcome::Granted {
            id: self.id,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            ttl_bound: self.ttl_bound,
            renewed: true,
        }
    }
}

/// What is told of a lease that is new.
pub(super) fn granted_anew(lease: &Lease) -> Outcome {
    Outcome::Granted {
        id: lease.id,
        issued_at: lease.issued_at,
        expires_at: lease.expires_at,
        ttl_bound: lease.ttl_bound,
        renewed: false,
    }
}
