//! Under which instance a workload's leases stand.
//!
//! The broker gives the same instance its live lease back, so a process that crashes and starts again must ask under the
//! name of the one before: under a name of its own it would get a lease, and from some stores a credential, for every
//! crash. So the first process of a workload lends its name to those that follow it or run beside it, for as long as a
//! lease stands under that name. Each process is still told apart by its id in every record.
//!
//! In a pod, a container that starts again is another container, which is part of what is attested. There the pod lends the
//! name ([`Workload::tenant`]).

use bursar_core::Clock;
use quick_cache::sync::Cache;

use super::moment::Moment;
use crate::attest::{Identity, Workload};

/// The names in use, a bounded number.
#[derive(Debug)]
pub(super) struct Instances(Cache<Identity, Lent>);

#[derive(Debug, Clone)]
struct Lent {
    instance: String,
    until: Moment,
}

impl Instances {
    pub(super) fn new() -> Self {
        Self(Cache::new(KEPT))
    }

    /// The name that `caller` asks under.
    pub(super) fn of(&self, caller: &Workload, clock: &dyn Clock) -> String {
        let now = Moment::now(clock);
        match self.0.get(&caller.identity()) {
            Some(lent) if now.is_before(&lent.until) => lent.instance,
            _ => caller.tenant(),
        }
    }

    /// Every name that is lent, to whom and until when.
    pub(super) fn all(&self) -> Vec<(Identity, String, Moment)> {
        self.0.iter().map(|(identity, lent)| (identity, lent.instance, lent.until)).collect()
    }

    /// A lease stands under `instance` until `until`.
    pub(super) fn keep(&self, identity: Identity, instance: String, until: Moment) {
        let later = |known: &Lent| known.instance == instance && !known.until.is_before(&until);
        if !self.0.peek(&identity).is_some_and(|known| later(&known)) {
            self.0.insert(identity, Lent { instance, until });
        }
    }
}

const KEPT: usize = 4096;
