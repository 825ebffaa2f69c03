//! Leases through their whole life: granted, renewed, expired, revoked, gone.
//!
//! The ledger holds every lease; nothing here does. [`grant`] is the way in: it has secrets by [`obtain`], and ends in one
//! durable commit; [`reaper`]
//! finds what is due by index; [`marker`] carries out what was ordered for many at once; [`queue`] and [`revoker`] take
//! credentials back at the store until the store says that they are gone.
//!
//! Promise 2, no orphan credentials: before a store is asked to create a credential, an intent is committed. Whatever
//! stops the broker after that, the intent is found again, and [`settle`] has what the store made of it taken back.

mod again;
pub mod change;
mod changes;
pub mod grant;
pub mod marker;
mod obtain;
pub mod queue;
pub mod reaper;
pub mod revoker;
mod settle;
mod turns;
mod under_way;
mod watchers;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::lease::{TtlBound, TtlLimits, spread};
use bursar_core::tasks::Tasks;
use bursar_core::{Clock, Lease, LeaseId, Reference, SpiffeId, Version};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use crate::config::LeaseLimits;
use crate::identity::Caller;
use crate::ids::Ids;
use crate::ledger::Ledger;
use crate::mounts::{Content, Mounts};
use crate::seal::Seal;
use crate::telemetry::Metrics;
use again::Fruitless;
use grant::Terms;
use settle::Searches;
use turns::Turns;
use under_way::UnderWay;
use watchers::Watchers;
pub use watchers::{Next, Opened, Told};

/// Grants leases and takes them back.
pub struct Leases {
    ledger: Ledger,
    mounts: Arc<Mounts>,
    seal: Arc<Seal>,
    limits: LeaseLimits,
    clock: Arc<dyn Clock>,
    ids: Ids,
    tasks: Tasks,
    metrics: Metrics,
    watchers: Arc<Watchers>,
    /// Intents from before are those of a process that has ended.
    started: Timestamp,
    under_way: UnderWay,
    turns: Arc<Turns>,
    fruitless: Fruitless,
    searches: Searches,
    /// Changes when leases became due to be revoked.
    due: watch::Sender<u64>,
    /// Told of a new bulk revocation.
    ordered: Notify,
    /// Changes when all leases of a bulk revocation are marked.
    marked: watch::Sender<u64>,
}

/// What those who watch hear.
#[derive(Debug, Clone)]
pub enum Heard {
    /// One lease was revoked.
    Ended { id: LeaseId, reference: Reference, principal: SpiffeId, node: Option<SpiffeId> },
    /// Many were: whoever holds leases looks at his own.
    ManyEnded,
    /// A secret has another content, which `holders` do not have.
    Changed { reference: Reference, version: Option<Version>, holders: Arc<HashSet<SpiffeId>> },
}

impl Leases {
    /// Leases kept in `ledger`, of secrets in `mounts`. Credentials that are kept with them are sealed by `seal`.
    pub fn new(
        ledger: Ledger,
        mounts: Arc<Mounts>,
        seal: Arc<Seal>,
        limits: LeaseLimits,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
        metrics: Metrics,
    ) -> Self {
        Self {
            started: clock.now(),
            under_way: UnderWay::new(),
            turns: Arc::default(),
            fruitless: Fruitless::default(),
            searches: Searches::default(),
            watchers: Watchers::new(Arc::clone(&clock), metrics.watched()),
            ledger,
            mounts,
            seal,
            limits,
            clock,
            ids: Ids::default(),
            tasks,
            metrics,
            due: watch::Sender::new(0),
            ordered: Notify::new(),
            marked: watch::Sender::new(0),
        }
    }

    /// What happens to what `listener` holds after the event at `after`, or from now on. Holders know by themselves when a
    /// lease expires.
    pub fn watch(&self, listener: SpiffeId, after: Option<u64>) -> Opened {
        self.watchers.open(listener, after)
    }

    /// Has a static secret looked at for its holder. `content` is what he was given, where it was the newest.
    fn note(&self, lease: &Lease, content: Option<&Content>) {
        if self.watchers.any()
            && let Some(mount) = self.mounts.mount(&lease.reference.backend)
        {
            self.watchers.note(lease, content, mount.contracts.of(&lease.reference.path).poll);
        }
    }

    /// How long a lease is to live from `now`, and what bounds that. Ends that nobody asked for are spread, so that a mass
    /// start does not become a mass expiry.
    fn effective(
        &self,
        caller: &Caller,
        terms: &Terms,
        backend: Option<Duration>,
        now: Timestamp,
    ) -> (Duration, TtlBound) {
        let limits = self.ttl_limits(caller, terms.ttl, backend, now);
        let credential = limits.credential.filter(|_| !terms.kept);
        let (ttl, bound) = TtlLimits { credential, ..limits }.effective();
        (spread(ttl, bound), bound)
    }

    /// How long it may live, which is what a store is asked for: an end is spread once.
    fn longest(
        &self,
        caller: &Caller,
        asked: Option<Duration>,
        backend: Option<Duration>,
        now: Timestamp,
    ) -> (Duration, TtlBound) {
        self.ttl_limits(caller, asked, backend, now).effective()
    }

    fn ttl_limits(
        &self,
        caller: &Caller,
        asked: Option<Duration>,
        backend: Option<Duration>,
        now: Timestamp,
    ) -> TtlLimits {
        let policy = match asked {
            Some(_) => self.limits.max_ttl,
            None => self.limits.default_ttl,
        };
        TtlLimits {
            asked,
            policy: caller.ttl.map_or(policy, |cap| cap.min(policy)),
            backend,
            credential: Some(until(now, caller.credential_expires)),
        }
    }

    fn announce(&self, lease: &Lease) {
        self.watchers.tell(Heard::Ended {
            id: lease.id,
            reference: lease.reference.clone(),
            principal: lease.principal.clone(),
            node: lease.node.clone(),
        });
    }

    /// Tells those who watch that many leases were taken back.
    fn announce_many(&self) {
        self.watchers.tell(Heard::ManyEnded);
    }

    /// Wakes the queues of the stores.
    fn hurry(&self) {
        self.due.send_modify(|times| *times = times.wrapping_add(1));
    }
}

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leases").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The time from `now` to `then`; nothing when that is past.
fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
