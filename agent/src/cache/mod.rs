//! Secrets in memory, each under the lease that the broker granted for it.
//!
//! Three questions decide whether an answer may be used again, and they are kept apart:
//! - Is its **lease in force**? Until the end that the broker gave, by both clocks, and not after a word of its
//!   revocation. An answer whose lease is over is not used for anything, and is wiped within a second.
//! - Is the lease **validated**? When the broker's events had a gap, a revocation may have been missed. Every lease then
//!   counts as unknown until the broker was asked about it: by reading again, or in the background, a few at a time.
//! - Is the value **fresh**? Asked for within `fresh_for`, while events arrive, and no word of a new version since.
//!
//! All three: the answer is served. The first two: it is served only while the broker cannot be asked, if the
//! configuration allows it, with its age. A refusal by the broker removes it: what was allowed a minute ago and is not
//! now must not come back in an outage.
//!
//! Entries are found by a digest of who asks and what was asked ([`Key`]); two workloads never share one. Leases are
//! apart from entries ([`Holding`]), since several answers may stand on one lease. Nobody but the cache and whoever is
//! just answering owns an entry, so removing it wipes it.
//!
//! Whoever put a value where others read it, such as into a file, cannot ask at each use. It keeps the leases and not the
//! value ([`Standing`]), hears when something happened ([`Cache::news`]) and asks then whether that concerns it.
//!
//! Letting the lookup make the call on a miss, as caches offer, was the alternative. It cannot tell a caller that a value
//! is there but not fresh, which is the case that an outage turns on.

mod entry;
mod flight;
mod holding;
mod instances;
mod kept;
mod key;
mod moment;
mod recent;
mod standing;
#[cfg(test)]
mod tests;
mod word;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bursar_core::Clock;
use bursar_proto::v1::{self, WorkloadContext};
use quick_cache::sync::DefaultLifecycle;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

pub use entry::{Entry, Payload};
pub use flight::{Arrival, Flights};
pub use holding::Holding;
pub use kept::{Answer, Held, Kept, Lent};
pub use key::Key;
pub use moment::Moment;
pub use standing::{Standing, State};
pub use word::{What, Word};

use crate::attest::Workload;
use crate::config::{CacheLimits, OnOutage};
use holding::Granted;
use instances::Instances;
use recent::{Event, Recent};
use word::Words;

/// The secrets in memory.
pub struct Cache {
    entries: quick_cache::sync::Cache<Key, Arc<Entry>, Weight>,
    holdings: Mutex<HashMap<String, Weak<Holding>>>,
    instances: Instances,
    recent: Recent,
    words: Words,
    /// Grows with every gap in the broker's events.
    epoch: AtomicU64,
    /// Whether the broker's events arrive.
    listening: AtomicBool,
    /// Counts what may concern a value that was handed out before.
    news: watch::Sender<u64>,
    limits: CacheLimits,
    clock: Arc<dyn Clock>,
}

/// What the cache has for a question.
#[derive(Debug)]
pub enum Found {
    /// Good without asking the broker.
    Fresh(Arc<Entry>),
    /// Good while the broker cannot be asked.
    Lasting(Arc<Entry>),
    Nothing,
}

impl Found {
    /// What there is, whatever it is good for.
    pub fn entry(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Fresh(entry) | Self::Lasting(entry) => Some(entry),
            Self::Nothing => None,
        }
    }
}

/// A question to the broker, from the moment before it was asked.
#[derive(Debug)]
pub struct Question {
    asked: Moment,
    epoch: u64,
    events: u64,
    /// What the broker is told of the caller.
    pub context: WorkloadContext,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub entries: usize,
    pub bytes: u64,
    pub leases: usize,
}

impl Cache {
    /// Empty, and not fresh for anything before [`Cache::listening`].
    pub fn new(limits: CacheLimits, clock: Arc<dyn Clock>) -> Self {
        // One shard: the caps then hold for the whole, not for an eighth of it, and an answer of the largest size fits.
        let options = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(limits.entries)
            .weight_capacity(limits.bytes)
            .build();
        let weight =
            Weight { least: limits.bytes.div_ceil(u64::try_from(limits.entries).unwrap_or(u64::MAX).max(1)) };
        let entries = match options {
            Ok(options) => quick_cache::sync::Cache::with_options(
                options,
                weight,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            Err(_) => quick_cache::sync::Cache::with_weighter(limits.entries, limits.bytes, weight),
        };
        Self {
            entries,
            holdings: Mutex::default(),
            instances: Instances::new(),
            recent: Recent::default(),
            words: Words::new(),
            epoch: AtomicU64::new(1),
            listening: AtomicBool::new(false),
            news: watch::Sender::new(0),
            limits,
            clock,
        }
    }

    /// Looks an answer up. `max_age` is how old the caller lets its value be.
    pub fn find(&self, key: &Key, max_age: Option<Duration>) -> Found {
        self.find_fresh(key, max_age, |entry, now| now.since(&entry.taken) < self.limits.fresh_for)
    }

    /// The same for a value that stands where others read it, and is asked for again: it is good for so long, unless one of
    /// its leases is about to end.
    pub fn find_again(&self, key: &Key, max_age: Option<Duration>, good_for: Duration) -> Found {
        self.find_fresh(key, max_age, |entry, now| {
            now.since(&entry.taken) < good_for && !entry.holdings.iter().any(|holding| holding.is_ending(now))
        })
    }

    fn find_fresh(
        &self,
        key: &Key,
        max_age: Option<Duration>,
        fresh: impl FnOnce(&Entry, &Moment) -> bool,
    ) -> Found {
        let Some(entry) = self.entries.get(key) else { return Found::Nothing };
        let (now, epoch) = (self.now(), self.epoch.load(Ordering::Acquire));
        let validated = entry.holdings.iter().all(|holding| holding.is_validated(epoch));
        if !validated || !entry.is_in_force(&now) || !entry.is_young(&now, max_age) {
            return Found::Nothing;
        }
        let fresh = self.is_listening() && entry.epoch >= epoch && !entry.is_stale() && fresh(&entry, &now);
        match self.limits.on_outage {
            _ if fresh => Found::Fresh(entry),
            OnOutage::Serve => Found::Lasting(entry),
            OnOutage::Fail => Found::Nothing,
        }
    }

    /// Begins a question on behalf of `caller`. What happens until its answer is stored counts for the answer.
    pub fn question(&self, caller: &Workload) -> Question {
        let instance = self.instances.of(caller, &*self.clock);
        Question {
            asked: self.now(),
            epoch: self.epoch.load(Ordering::Acquire),
            events: self.recent.mark(),
            context: WorkloadContext { instance, ..WorkloadContext::clone(caller.context()) },
        }
    }

    /// Stores an answer where it can be used again, and returns it in any case. `ttl` is what the question asked for.
    pub fn store(
        &self,
        question: &Question,
        caller: &Workload,
        key: Key,
        (payload, leases): (Payload, Vec<v1::Lease>),
        ttl: Option<prost_types::Duration>,
    ) -> Arc<Entry> {
        let mut cacheable = !leases.is_empty();
        let mut holdings = Vec::with_capacity(leases.len());
        for lease in leases {
            match Granted::read(lease.clone(), &question.asked) {
                Some(granted) => holdings.push(self.hold(granted, question, caller, ttl)),
                None => {
                    // Answered all the same: whoever asked gets the lease as the broker described it.
                    cacheable = false;
                    let over = Granted::over(lease, question.asked);
                    let instance = question.context.instance.clone();
                    holdings.push(Arc::new(Holding::new(over, instance, ttl, question.epoch)));
                }
            }
        }
        let entry = Arc::new(Entry::new(payload, holdings, question.asked, question.epoch));
        if cacheable {
            self.insert(key, &entry, question.events);
        }
        entry
    }

    /// The broker refuses what it answered before.
    pub fn refused(&self, key: &Key) {
        drop(self.entries.remove(key));
    }

    /// A lease was extended by `call`, which began at the moment given.
    pub fn extended(&self, lease: v1::Lease, began: Moment) {
        let Some(holding) = self.holding(&lease.id) else { return };
        match Granted::read(lease, &began) {
            Some(granted) => {
                holding.extend(granted);
                holding.validate(self.epoch.load(Ordering::Acquire));
            }
            None => self.ended(holding.id()),
        }
    }

    /// A lease is over: nothing that stands on it is left when this returns.
    pub fn ended(&self, lease_id: &str) {
        self.recent.push(Event::Ended(lease_id.to_owned()));
        let Some(holding) = self.holding(lease_id) else { return };
        for key in holding.end() {
            drop(self.entries.remove_if(&key, |entry| entry.stands_on(lease_id)));
        }
        self.tell();
        let what = What::Ended { lease_id: lease_id.into(), secret: holding.secret().into() };
        self.words.say(what, || holding.readers());
    }

    /// A secret, `BACKEND/PATH`, has another version.
    pub fn changed(&self, secret: &str) {
        self.recent.push(Event::Changed(secret.to_owned()));
        let mut all = self.all();
        all.retain(|holding| holding.secret() == secret);
        for holding in &all {
            for key in holding.keys() {
                if let Some(entry) = self.entries.peek(&key) {
                    entry.spoil();
                }
            }
            // After the entries: see `Standing`.
            holding.change();
        }
        self.tell();
        let readers = || all.iter().flat_map(|holding| holding.readers()).collect();
        self.words.say(What::Changed { secret: secret.into() }, readers);
    }

    /// Events of the broker were missed: every value is old and every lease unknown.
    pub fn missed_events(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.tell();
        self.words.say(What::Missed, Vec::new);
    }

    /// Hears, late rather than never, that a lease ended, a secret changed or events were missed; see [`Standing`].
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Word of what happens from now on, each after the cache has let go of what it happened to.
    pub fn hear(&self) -> broadcast::Receiver<Word> {
        self.words.hear()
    }

    /// Whether the broker's events arrive from now on.
    pub fn listening(&self, listening: bool) {
        self.listening.store(listening, Ordering::Release);
    }

    /// Whether the broker's events arrive.
    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// Whether there is anything that could be served without the broker.
    pub fn can_serve(&self) -> bool {
        let (now, epoch) = (self.now(), self.epoch.load(Ordering::Acquire));
        self.limits.on_outage == OnOutage::Serve
            && self.all().iter().any(|holding| holding.is_in_force(&now) && holding.is_validated(epoch))
    }

    /// The leases that are due for renewal. Each is answered once; see [`Holding::renewal_failed`] and
    /// [`Holding::put_off`].
    pub fn due(&self) -> Vec<Arc<Holding>> {
        let now = Instant::now();
        self.all().into_iter().filter(|holding| holding.take_due(now)).collect()
    }

    /// Pods are over: the leases that nobody else needs are due now, to be given back.
    pub fn pods_left(&self) {
        self.all().iter().filter(|holding| holding.is_left()).for_each(|holding| holding.hurry());
    }

    /// At most `count` leases that are not validated, and the epoch to validate them for.
    pub fn unknown(&self, count: usize) -> (Vec<Arc<Holding>>, u64) {
        let epoch = self.epoch.load(Ordering::Acquire);
        let unknown = self.all().into_iter().filter(|holding| !holding.is_validated(epoch));
        (unknown.take(count).collect(), epoch)
    }

    /// Wipes what is over.
    pub fn sweep(&self) {
        let now = self.now();
        self.entries.retain(|_, entry| entry.is_in_force(&now));
        self.table().retain(|_, holding| holding.strong_count() > 0);
        for holding in self.all() {
            holding
                .retain_keys(|key| self.entries.peek(key).is_some_and(|entry| entry.stands_on(holding.id())));
        }
    }

    /// Wipes everything.
    pub fn clear(&self) {
        self.entries.clear();
    }

    /// How much there is.
    pub fn size(&self) -> Size {
        Size { entries: self.entries.len(), bytes: self.entries.weight(), leases: self.table().len() }
    }

    /// The time by both clocks.
    pub fn now(&self) -> Moment {
        Moment::now(&*self.clock)
    }

    /// The lease, if the cache holds it.
    pub fn holding(&self, lease_id: &str) -> Option<Arc<Holding>> {
        self.table().get(lease_id).and_then(Weak::upgrade)
    }

    fn hold(
        &self,
        granted: Granted,
        question: &Question,
        caller: &Workload,
        ttl: Option<prost_types::Duration>,
    ) -> Arc<Holding> {
        let instance = &question.context.instance;
        self.instances.keep(caller.identity(), instance.clone(), granted.until());
        let mut table = self.table();
        if let Some(known) = table.get(granted.id()).and_then(Weak::upgrade) {
            known.extend(granted);
            known.validate(question.epoch);
            return known;
        }
        let id = granted.id().to_owned();
        let holding = Arc::new(Holding::new(granted, instance.clone(), ttl, question.epoch));
        table.insert(id, Arc::downgrade(&holding));
        holding
    }

    /// The order matters. The leases are in the table already, so an event from here on finds this entry or is found by
    /// the look back, which comes last.
    fn insert(&self, key: Key, entry: &Arc<Entry>, since: u64) {
        for holding in &entry.holdings {
            holding.carries(key);
        }
        self.entries.insert(key, Arc::clone(entry));
        let ended =
            self.recent.since(since, |event| matches!(event, Event::Ended(id) if entry.stands_on(id)));
        if ended {
            drop(self.entries.remove_if(&key, |stored| Arc::ptr_eq(stored, entry)));
            // For whoever is just given it and keeps what it stands on.
            entry.spoil();
            let over =
                |holding: &&Arc<Holding>| self.recent.heard(since, &Event::Ended(holding.id().to_owned()));
            entry.holdings.iter().filter(over).for_each(|holding| drop(holding.end()));
        }
        let changed = |event: &Event| match event {
            Event::Changed(secret) => entry.holdings.iter().any(|holding| holding.secret() == secret),
            Event::Ended(_) => false,
        };
        if self.recent.since(since, changed) {
            entry.spoil();
        }
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    fn tell(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn all(&self) -> Vec<Arc<Holding>> {
        self.table().values().filter_map(Weak::upgrade).collect()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Weak<Holding>>> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("size", &self.size()).finish_non_exhaustive()
    }
}

/// What an entry counts. Each counts at least its share of the bytes, so that the cap on bytes is one on entries too.
#[derive(Debug, Clone)]
struct Weight {
    least: u64,
}

impl Weighter<Key, Arc<Entry>> for Weight {
    fn weight(&self, _: &Key, entry: &Arc<Entry>) -> u64 {
        entry.weight().max(self.least)
    }
}
