//! What a value stands on that was put where others read it.
//!
//! The leases are held here as the cache holds them, so that they are renewed although the cache may have let go of the
//! value, and the end of one is seen. Whether a secret changed is told by a count on each lease. An event between the
//! question and its answer is told by the entry: [`Cache::changed`](super::Cache::changed) marks entries first and counts
//! after, and this reads the counts first and the entry's mark after, so that one of the two is seen.

use std::sync::Arc;
use std::time::Duration;

use super::entry::Entry;
use super::holding::Holding;
use super::moment::Moment;
use super::{Cache, OnOutage};

/// The leases and limits of one answer, without its values.
#[derive(Debug)]
pub struct Standing {
    leases: Vec<(Arc<Holding>, u64)>,
    /// Whether it was out of date already when it came.
    stale: bool,
    epoch: u64,
    taken: Moment,
    /// Counted from `taken`.
    young_for: Option<Duration>,
}

/// What is to be done with a value that stands somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Good,
    /// It is to be asked for again, and may stay until there is an answer.
    Old,
    /// It must not be used any more.
    Over,
}

impl Standing {
    /// Of an answer that was just given.
    pub fn of(entry: &Entry) -> Self {
        let count = |holding: &Arc<Holding>| (Arc::clone(holding), holding.changes());
        let leases = entry.holdings.iter().map(count).collect();
        Self {
            leases,
            stale: entry.is_stale(),
            epoch: entry.epoch,
            taken: entry.taken,
            young_for: entry.young_for(),
        }
    }

    /// What is to be done at this moment. `silent_for` is how long the broker's events have not arrived.
    pub fn state(&self, cache: &Cache, silent_for: Option<Duration>) -> State {
        let now = cache.now();
        let since = now.since(&self.taken);
        let unheard = cache.limits.on_outage == OnOutage::Fail
            && silent_for.is_some_and(|silent| silent > cache.limits.fresh_for);
        let held = self.leases.iter().all(|(holding, _)| holding.is_in_force(&now));
        if unheard || !held || self.young_for.is_some_and(|limit| since > limit) {
            return State::Over;
        }
        let changed = self.leases.iter().any(|(holding, count)| holding.changes() != *count);
        // Without events it is as old as any value of the cache, and whoever is let in no more hears nothing.
        let fresh_for = cache.limits.fresh_for;
        let unsure = silent_for.is_some_and(|silent| silent > fresh_for) && since > fresh_for;
        if self.stale
            || changed
            || unsure
            || self.epoch < cache.epoch()
            || self.leases.iter().any(|(holding, _)| holding.is_ending(&now))
        {
            return State::Old;
        }
        State::Good
    }

    /// When it is over, if nothing is done for it until then; never, when it stands on nothing that ends.
    pub fn until(&self) -> Option<jiff::Timestamp> {
        let ends = self.leases.iter().map(|(holding, _)| holding.term().1.wall);
        let old = self.young_for.and_then(|limit| self.taken.wall.checked_add(limit).ok());
        ends.chain(old).min()
    }
}
