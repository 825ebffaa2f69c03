//! One lease that the cache holds, under whatever number of cached answers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bursar_core::retry::Retry;
use bursar_proto::convert::{duration_from_wire, timestamp_from_wire};
use bursar_proto::v1::{self, LeaseState, WorkloadContext};
use tokio::time::Instant;

use super::Key;
use super::moment::Moment;
use crate::attest::{Identity, Workload};

/// A lease that is in force, as far as the agent knows.
#[derive(Debug)]
pub struct Holding {
    id: String,
    /// `BACKEND/PATH`.
    secret: String,
    /// The instance that the lease stands under.
    instance: String,
    /// What was asked for at first, to be asked for again.
    ttl: Option<prost_types::Duration>,
    ended: AtomicBool,
    /// The epoch of the broker's events in which the lease was last known to be in force.
    validated: AtomicU64,
    /// How often the secret had another version since.
    changes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lease: v1::Lease,
    until: Moment,
    /// Nothing when the lease is not to be renewed.
    renew_at: Option<Instant>,
    failed: u32,
    /// Processes that got the value; the ended ones are taken out as they are met.
    readers: Vec<Arc<Workload>>,
    /// Where the cache keeps answers that stand on this lease.
    keys: Vec<Key>,
}

/// A lease that may be cached: active, with a known end.
#[derive(Debug)]
pub(super) struct Granted {
    lease: v1::Lease,
    until: Moment,
}

impl Granted {
    /// Reads a lease that was granted or extended by a call that began at `asked`. The time granted is counted from
    /// there, so the agent lets go no later than the broker, whatever the two clocks say.
    pub(super) fn read(lease: v1::Lease, asked: &Moment) -> Option<Self> {
        if lease.state() != LeaseState::Active {
            return None;
        }
        let end = timestamp_from_wire("expires_at", lease.expires_at).ok()?;
        let ttl = duration_from_wire("ttl", lease.ttl).ok()??;
        let steady = asked.steady.checked_add(ttl)?;
        Some(Self { lease, until: Moment { steady, wall: end } })
    }

    /// A lease that is answered as it is and used for nothing else.
    pub(super) fn over(lease: v1::Lease, asked: Moment) -> Self {
        Self { lease, until: asked }
    }

    /// A lease that was read before, and is in force until `until` at the latest.
    pub(super) fn until_then(lease: v1::Lease, until: Moment) -> Self {
        Self { lease, until }
    }

    pub(super) fn id(&self) -> &str {
        &self.lease.id
    }

    pub(super) fn until(&self) -> Moment {
        self.until
    }
}

impl Holding {
    pub(super) fn new(
        granted: Granted,
        instance: String,
        ttl: Option<prost_types::Duration>,
        epoch: u64,
    ) -> Self {
        let Granted { lease, until } = granted;
        let secret = lease.reference.split('@').next().unwrap_or_default().to_owned();
        let renew_at = renewal(&lease, until.steady);
        let state = State { lease, until, renew_at, failed: 0, readers: Vec::new(), keys: Vec::new() };
        Self {
            id: state.lease.id.clone(),
            secret,
            instance,
            ttl,
            ended: AtomicBool::new(false),
            validated: AtomicU64::new(epoch),
            changes: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    /// The lease's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it is on, `BACKEND/PATH`.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// For how long it was asked for.
    pub fn ttl(&self) -> Option<prost_types::Duration> {
        self.ttl
    }

    /// The lease, as the broker described it last.
    pub fn lease(&self) -> v1::Lease {
        self.state().lease.clone()
    }

    /// The time that the lease was granted for last, and its end.
    pub fn term(&self) -> (Duration, Moment) {
        let state = self.state();
        (duration_from_wire("ttl", state.lease.ttl).ok().flatten().unwrap_or_default(), state.until)
    }

    /// How often the secret had another version since the lease is held.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The secret has another version.
    pub(super) fn change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether the value may be used at `now`.
    pub(super) fn is_in_force(&self, now: &Moment) -> bool {
        !self.ended.load(Ordering::Acquire) && now.is_before(&self.state().until)
    }

    /// Whether it is about to end. A lease that was not extended by the time that a quarter of it is left will not be, and the
    /// broker has another credential made for whoever asks then.
    pub(super) fn is_ending(&self, now: &Moment) -> bool {
        let (term, until) = self.term();
        now.until(&until) < term / 4
    }

    /// Whether the lease is known to have been in force since the broker's events were last without a gap.
    pub(super) fn is_validated(&self, epoch: u64) -> bool {
        self.validated.load(Ordering::Acquire) >= epoch
    }

    /// The lease is known to be in force in `epoch`.
    pub fn validate(&self, epoch: u64) {
        self.validated.fetch_max(epoch, Ordering::AcqRel);
    }

    /// The lease was extended.
    pub(super) fn extend(&self, granted: Granted) {
        let mut state = self.state();
        state.renew_at = renewal(&granted.lease, granted.until.steady);
        state.lease = granted.lease;
        state.until = granted.until;
        state.failed = 0;
    }

    /// The lease is over. Returns where answers have to be removed.
    pub(super) fn end(&self) -> Vec<Key> {
        self.ended.store(true, Ordering::Release);
        self.keys()
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.state().keys.clone()
    }

    /// An answer under `key` stands on this lease.
    pub(super) fn carries(&self, key: Key) {
        let mut state = self.state();
        if !state.keys.contains(&key) {
            state.keys.push(key);
        }
    }

    /// Forgets keys under which nothing stands on this lease any more.
    pub(super) fn retain_keys(&self, stands: impl FnMut(&Key) -> bool) {
        self.state().keys.retain(stands);
    }

    /// `workload` got the value.
    pub fn read_by(&self, workload: &Arc<Workload>) {
        let mut state = self.state();
        if let Some(known) = state.readers.iter_mut().find(|reader| reader.instance() == workload.instance())
        {
            // The token that spoke for it before may end sooner.
            *known = Arc::clone(workload);
            return;
        }
        // Whoever comes to a lease of a pod is in the pod, for which it stands as well as those that ended.
        if state.readers.len() == READERS {
            state.readers.retain(|reader| reader.is_alive());
        }
        // The lease is renewed for any of them: one that finds no room is not needed for that.
        if state.readers.len() < READERS {
            state.readers.push(Arc::clone(workload));
        }
    }

    /// Who got the value, of those that still run.
    pub(super) fn readers(&self) -> Vec<Identity> {
        let state = self.state();
        state.readers.iter().filter(|reader| reader.is_alive()).map(|reader| reader.identity()).collect()
    }

    /// The processes that got the value and still run.
    pub(super) fn living(&self) -> Vec<Arc<Workload>> {
        self.state().readers.iter().filter(|reader| reader.is_alive()).cloned().collect()
    }

    /// The instance that the lease stands under.
    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    /// On whose behalf the lease can be renewed, and its context: a process that got the value and still runs, or one whose
    /// pod is there.
    pub fn reader(&self) -> Option<(Arc<Workload>, WorkloadContext)> {
        let mut state = self.state();
        state.readers.retain(|reader| reader.is_needing() || reader.has_left());
        let mut needing = state.readers.iter().filter(|reader| reader.is_needing());
        let first = needing.clone().next();
        let reader = Arc::clone(needing.find(|reader| reader.is_alive()).or(first)?);
        let context = WorkloadContext::clone(reader.context());
        Some((reader, WorkloadContext { instance: self.instance.clone(), ..context }))
    }

    /// Whether everybody who got the value was in a pod that is over.
    pub fn is_left(&self) -> bool {
        let state = self.state();
        !state.readers.is_empty() && state.readers.iter().all(|reader| reader.has_left())
    }

    /// The lease is due now.
    pub(super) fn hurry(&self) {
        self.state().renew_at = Some(Instant::now());
    }

    /// Whether it is time to renew. It is then not due again before the outcome is known.
    pub(super) fn take_due(&self, now: Instant) -> bool {
        let mut state = self.state();
        let due = state.renew_at.is_some_and(|at| at <= now);
        if due {
            state.renew_at = None;
        }
        due
    }

    /// The broker could not be asked for a renewal: it is due again soon, and not together with all others that were put
    /// off, so that a broker that comes back is not asked for all of them at once.
    pub fn put_off(&self) {
        let mut state = self.state();
        let left = state.until.steady.saturating_duration_since(Instant::now());
        let within = (left / 4).min(LONGEST_SPREAD).mul_f64(fastrand::f64());
        state.renew_at = Some(Instant::now() + SHORTEST_WAIT + within);
    }

    /// A renewal failed. It is tried again later where that may help; the lease runs on to the end it had.
    pub fn renewal_failed(&self, again: bool) {
        let mut state = self.state();
        state.failed = state.failed.saturating_add(1);
        let wait = Retry::BACKGROUND.delay(state.failed);
        state.renew_at = again.then(|| Instant::now() + wait);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between 60 and 70 % of what is left, so that leases that were granted together are not renewed together.
fn renewal(lease: &v1::Lease, end: Instant) -> Option<Instant> {
    let left = end.saturating_duration_since(Instant::now());
    let wait = left.mul_f64(0.6 + 0.1 * fastrand::f64()).max(SHORTEST_WAIT);
    lease.renewable.then(|| Instant::now() + wait)
}

const READERS: usize = 8;
/// However short the lease.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// Of renewals that an outage put off. Half as long as an agent may take to come back.
const LONGEST_SPREAD: Duration = Duration::from_secs(30);
