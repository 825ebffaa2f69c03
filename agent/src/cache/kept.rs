//! What the cache holds, as it is kept through a restart of the agent.
//!
//! Only what an outage may be bridged with goes out: answers whose leases are in force and not unknown, and whose values
//! are as young as they have to be. Each goes as the answer that it would be now, and comes back as one that was taken then.
//!
//! What comes back is **unconfirmed**: it belongs to no epoch of the broker's events, so it is never fresh, and whoever
//! asks for it asks the broker, in whose place it stands while there is no answer. The first stream of events begins with
//! a gap, after which it counts as unknown like all that was there before one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bursar_proto::v1::{EnvironmentsResolveResponse, Lease, SecretsReadResponse};

use super::entry::{Entry, Payload};
use super::holding::{Granted, Holding};
use super::moment::Moment;
use super::{Cache, Key, OnOutage};
use crate::attest::{Identity, Workload};

/// One answer.
#[derive(Debug)]
pub struct Kept {
    pub key: Key,
    pub answer: Answer,
    /// In the order of the answer's leases.
    pub held: Vec<Held>,
}

/// What was answered, with its leases.
#[derive(Debug)]
pub enum Answer {
    Secret(Box<SecretsReadResponse>),
    Environment(EnvironmentsResolveResponse),
}

/// What is known of a lease besides.
#[derive(Debug)]
pub struct Held {
    /// The instance that it stands under.
    pub instance: String,
    /// For how long it was asked for.
    pub ttl: Option<prost_types::Duration>,
    /// How much of it is left.
    pub left: Duration,
    /// Processes that got the value.
    pub readers: Vec<Arc<Workload>>,
}

/// A name that a workload asks under.
#[derive(Debug)]
pub struct Lent {
    pub identity: Identity,
    pub instance: String,
    /// For so long.
    pub left: Duration,
}

impl Cache {
    /// Shows each answer that is to be kept, until `visit` has enough. Says how many there were.
    pub fn each_kept<E>(&self, mut visit: impl FnMut(Kept) -> Result<(), E>) -> Result<usize, E> {
        let (now, mut count) = (self.now(), 0);
        for (key, entry) in self.lasting(&now) {
            let answer = match entry.is_environment() {
                true => entry.environment(&now).map(Answer::Environment),
                false => entry.secret(&now).map(|answer| Answer::Secret(Box::new(answer))),
            };
            let Some(answer) = answer else { continue };
            let held = entry.holdings().iter().map(|holding| held(holding, &now)).collect();
            visit(Kept { key, answer, held })?;
            count += 1;
        }
        Ok(count)
    }

    /// Tells one state of what is to be kept from another, without a look at any value.
    pub fn marks(&self) -> Vec<([u8; 32], i128)> {
        let mark = |(key, entry): (Key, Arc<Entry>)| {
            let ends = entry.holdings().iter().map(|holding| holding.term().1.wall.as_nanosecond());
            (
                *key.as_bytes(),
                entry.taken.wall.as_nanosecond() ^ ends.fold(0_i128, |all, end| all.rotate_left(1) ^ end),
            )
        };
        let mut marks: Vec<_> = self.lasting(&self.now()).into_iter().map(mark).collect();
        marks.sort_unstable();
        marks
    }

    /// The names that workloads ask under.
    pub fn lent(&self) -> Vec<Lent> {
        let now = self.now();
        let lent = |(identity, instance, until): (Identity, String, Moment)| Lent {
            identity,
            instance,
            left: now.until(&until),
        };
        self.instances.all().into_iter().map(lent).filter(|lent| !lent.left.is_zero()).collect()
    }

    /// Takes up an answer that was kept `ago`, while no events of the broker have arrived yet. Says whether it is worth
    /// anything.
    pub fn take_up(&self, kept: Kept, ago: Duration) -> bool {
        let Kept { key, answer, held } = kept;
        let now = self.now();
        let Some(taken) = before(&now, ago) else { return false };
        let (payload, leases) = match answer {
            Answer::Secret(answer) => Payload::of_read(*answer),
            Answer::Environment(answer) => Payload::of_resolve(answer),
        };
        if leases.len() != held.len() {
            return false;
        }
        let holdings: Option<Vec<_>> = leases
            .into_iter()
            .zip(held)
            .map(|(lease, held)| self.take_up_lease(lease, held, &now, ago))
            .collect();
        let Some(holdings) = holdings else { return false };
        let entry = Arc::new(Entry::new(payload, holdings, taken, UNCONFIRMED));
        if !entry.is_in_force(&now) || !entry.is_young(&now, None) {
            return false;
        }
        self.insert(key, &entry, self.recent.mark());
        true
    }

    /// Takes up a name that was kept `ago`.
    pub fn lend(&self, lent: Lent, ago: Duration) {
        if let Some(until) = after(&self.now(), lent.left.saturating_sub(ago)) {
            self.instances.keep(lent.identity, lent.instance, until);
        }
    }

    fn lasting(&self, now: &Moment) -> Vec<(Key, Arc<Entry>)> {
        if self.limits.on_outage == OnOutage::Fail {
            return Vec::new();
        }
        let epoch = self.epoch.load(Ordering::Acquire);
        let lasts = |(_, entry): &(Key, Arc<Entry>)| {
            entry.is_in_force(now)
                && entry.is_young(now, None)
                && entry.holdings.iter().all(|holding| holding.is_validated(epoch))
        };
        self.entries.iter().filter(lasts).collect()
    }

    fn take_up_lease(&self, lease: Lease, held: Held, now: &Moment, ago: Duration) -> Option<Arc<Holding>> {
        let until = after(now, held.left.checked_sub(ago)?)?;
        let mut table = self.table();
        let known = table.get(&lease.id).and_then(std::sync::Weak::upgrade);
        let holding = known.unwrap_or_else(|| {
            let granted = Granted::until_then(lease, until);
            let id = granted.id().to_owned();
            let holding = Arc::new(Holding::new(granted, held.instance, held.ttl, self.epoch()));
            table.insert(id, Arc::downgrade(&holding));
            holding
        });
        drop(table);
        held.readers.iter().for_each(|reader| holding.read_by(reader));
        Some(holding)
    }
}

fn held(holding: &Arc<Holding>, now: &Moment) -> Held {
    Held {
        instance: holding.instance().to_owned(),
        ttl: holding.ttl(),
        left: now.until(&holding.term().1),
        readers: holding.living(),
    }
}

/// So long ago. On the steady clock no earlier than it goes back, which is enough: what is older was before the boot.
fn before(now: &Moment, ago: Duration) -> Option<Moment> {
    let steady = now.steady.checked_sub(ago).unwrap_or(now.steady);
    Some(Moment { steady, wall: now.wall.checked_sub(ago).ok()? })
}

fn after(now: &Moment, left: Duration) -> Option<Moment> {
    Some(Moment { steady: now.steady.checked_add(left)?, wall: now.wall.checked_add(left).ok()? })
}

/// Before every epoch of the broker's events.
const UNCONFIRMED: u64 = 0;
