//! Who listens to events, and which secrets each of them holds: what is looked at for changes, and who hears of one.
//!
//! Only those who listen are noted, so without any this is empty and a grant pays nothing. A listener that begins is told
//! to take everything it has for old, so that its secrets are noted as it reads or renews them. There is room for
//! [`MOST`] holdings; a listener whose secret finds none hears of no change, and reads it anew when it is too old.
//!
//! One that goes is a listener for [`AWAY`] more: when it comes back within that time, with the position of the last event
//! that it heard, it has missed nothing and starts nothing anew. [`history`] keeps what was told meanwhile.

mod history;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bursar_core::{BackendName, Clock, Lease, Reference, SecretPath, SpiffeId};
use jiff::Timestamp;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use history::{Heeded, History};

pub use history::Told;

use super::Heard;
use crate::mounts::Content;

/// The listeners of one broker.
#[derive(Debug)]
pub(super) struct Watchers {
    history: History,
    state: Mutex<State>,
    hurry: Notify,
    /// How many listeners there are, for whoever only wants to know whether there is one.
    listeners: AtomicUsize,
    /// Shows the number of holdings.
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct State {
    listeners: HashMap<SpiffeId, Listener>,
    /// Those who are away, in the order in which they left.
    away: BTreeSet<(Instant, SpiffeId)>,
    backends: BTreeMap<BackendName, HashMap<SecretPath, Watched>>,
    holdings: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listener {
    /// It has so many streams.
    Here(usize),
    /// It has none since then.
    Away(Instant),
}

/// A secret that a listener holds.
#[derive(Debug)]
struct Watched {
    /// Until when each of them does.
    holders: HashMap<SpiffeId, Timestamp>,
    /// What they hold; not known where nobody told.
    content: Option<Content>,
    look_at: Instant,
}

/// A stream of events.
#[derive(Debug)]
pub struct Watch {
    watchers: Arc<Watchers>,
    listener: SpiffeId,
    missed: VecDeque<Arc<Told>>,
    events: broadcast::Receiver<Arc<Told>>,
}

/// The beginning of a stream.
#[derive(Debug)]
pub struct Opened {
    pub watch: Watch,
    /// Whether it goes on after the position that was asked for: without that, the listener takes all it has for old.
    pub resumes: bool,
    /// The last event before those that come.
    pub position: u64,
}

impl Watchers {
    pub(super) fn new(clock: Arc<dyn Clock>, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self {
            history: History::new(clock),
            state: Mutex::default(),
            hurry: Notify::new(),
            listeners: AtomicUsize::new(0),
            gauge,
        })
    }

    /// A stream of what happens after the event at `after`, or from now on.
    pub(super) fn open(self: &Arc<Self>, listener: SpiffeId, after: Option<u64>) -> Opened {
        let mut state = self.state();
        state.let_go();
        let before = state.listeners.get(&listener).copied();
        let streams = match before {
            Some(Listener::Here(streams)) => streams + 1,
            Some(Listener::Away(since)) => {
                state.away.remove(&(since, listener.clone()));
                1
            }
            None => 1,
        };
        state.listeners.insert(listener.clone(), Listener::Here(streams));
        self.shown(&state);
        // Whoever was not noted while it was away was not looked for.
        let after = after.filter(|_| before.is_some());
        let Heeded { missed, position, events } = self.history.heed(after);
        drop(state);
        let resumes = missed.is_some();
        let watch =
            Watch { watchers: Arc::clone(self), listener, missed: missed.unwrap_or_default(), events };
        Opened { watch, resumes, position }
    }

    /// Tells all listeners. Who lost a lease is noted for its secret no more, until he reads or renews it again: of what he
    /// may not have any more he hears nothing.
    pub(super) fn tell(&self, heard: Heard) {
        match &heard {
            Heard::Ended { reference, principal, node, .. } => {
                self.forget(reference, node.as_ref().unwrap_or(principal));
            }
            Heard::ManyEnded => {
                let mut state = self.state();
                (state.backends, state.holdings) = (BTreeMap::new(), 0);
                self.shown(&state);
            }
            Heard::Changed { .. } => {}
        }
        self.history.tell(heard);
    }

    /// Whether anybody listens.
    pub(super) fn any(&self) -> bool {
        self.listeners.load(Ordering::Acquire) > 0
    }

    /// A lease on a static secret was granted or renewed, for whose holder `content` is the newest.
    pub(super) fn note(&self, lease: &Lease, content: Option<&Content>, poll: Duration) {
        let holder = lease.node.as_ref().unwrap_or(&lease.principal);
        let mut state = self.state();
        if !state.listeners.contains_key(holder) {
            return;
        }
        let State { backends, holdings, .. } = &mut *state;
        let is_full = *holdings >= MOST;
        let secrets = backends.entry(lease.reference.backend.clone()).or_default();
        let watched = secrets.entry(lease.reference.path.clone()).or_insert_with(|| Watched {
            holders: HashMap::new(),
            content: None,
            look_at: Instant::now() + spread(poll),
        });
        if is_full && !watched.holders.contains_key(holder) {
            if watched.holders.is_empty() {
                secrets.remove(&lease.reference.path);
            }
            return;
        }
        if watched.content.is_none() {
            watched.content = content.cloned();
        }
        let until = watched.holders.entry(holder.clone()).or_insert_with(|| {
            *holdings += 1;
            self.gauge.inc();
            Timestamp::MIN
        });
        *until = lease.expires_at.max(*until);
    }

    /// The secrets of `backend` that are to be looked at now, with what is known of each. They are looked at again after
    /// their `poll`.
    pub(super) fn due(
        &self,
        backend: &BackendName,
        now: Timestamp,
        poll: impl Fn(&SecretPath) -> Duration,
    ) -> Vec<(SecretPath, Option<Content>)> {
        let moment = Instant::now();
        let mut state = self.state();
        state.let_go();
        let State { listeners, backends, holdings, .. } = &mut *state;
        let mut due = Vec::new();
        let Some(secrets) = backends.get_mut(backend) else {
            self.shown(&state);
            return due;
        };
        secrets.retain(|path, watched| {
            if watched.look_at > moment {
                return true;
            }
            let before = watched.holders.len();
            watched.holders.retain(|holder, until| *until > now && listeners.contains_key(holder));
            *holdings -= before - watched.holders.len();
            if watched.holders.is_empty() {
                return false;
            }
            watched.look_at = moment + spread(poll(path));
            due.push((path.clone(), watched.content.clone()));
            true
        });
        self.shown(&state);
        due
    }

    /// What a look found: tells the holders, unless it is what they have.
    pub(super) fn found(&self, backend: &BackendName, path: &SecretPath, content: Content) -> bool {
        let mut state = self.state();
        let watched = state.backends.get_mut(backend).and_then(|secrets| secrets.get_mut(path));
        let Some(watched) = watched.filter(|watched| watched.content.as_ref() != Some(&content)) else {
            return false;
        };
        let version = content.version().cloned();
        if watched.content.replace(content).is_none() {
            // Nobody knew what it was before.
            return false;
        }
        let holders = Arc::new(watched.holders.keys().cloned().collect());
        let reference =
            Reference { backend: backend.clone(), path: path.clone(), field: None, version: None };
        drop(state);
        self.tell(Heard::Changed { reference, version, holders });
        true
    }

    /// A secret was written here: it is looked at now.
    pub(super) fn written(&self, backend: &BackendName, path: &SecretPath) {
        let mut state = self.state();
        if let Some(watched) = state.backends.get_mut(backend).and_then(|secrets| secrets.get_mut(path)) {
            watched.look_at = Instant::now();
            drop(state);
            self.hurry.notify_waiters();
        }
    }

    /// Returns when a look should not wait for its time.
    pub(super) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    fn forget(&self, reference: &Reference, holder: &SpiffeId) {
        let mut state = self.state();
        let State { backends, holdings, .. } = &mut *state;
        let Some(secrets) = backends.get_mut(&reference.backend) else { return };
        let Some(watched) = secrets.get_mut(&reference.path) else { return };
        *holdings -= usize::from(watched.holders.remove(holder).is_some());
        if watched.holders.is_empty() {
            secrets.remove(&reference.path);
        }
        self.shown(&state);
    }

    fn close(&self, listener: &SpiffeId) {
        let mut state = self.state();
        let left = match state.listeners.get(listener) {
            Some(Listener::Here(streams)) if *streams > 1 => Listener::Here(streams - 1),
            _ => Listener::Away(Instant::now()),
        };
        state.listeners.insert(listener.clone(), left);
        if let Listener::Away(since) = left {
            state.away.insert((since, listener.clone()));
        }
        state.let_go();
        self.shown(&state);
    }

    fn shown(&self, state: &State) {
        self.listeners.store(state.listeners.len(), Ordering::Release);
        self.gauge.set(i64::try_from(state.holdings).unwrap_or(i64::MAX));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets the listeners that have been away for too long, and the longest away where they are too many. What they
    /// held is taken out as it is come by.
    fn let_go(&mut self) {
        while let Some((since, listener)) = self.away.first() {
            if since.elapsed() < AWAY && self.away.len() <= MOST_AWAY {
                return;
            }
            self.listeners.remove(listener);
            self.away.pop_first();
        }
    }
}

/// What a stream has next.
#[derive(Debug)]
pub enum Next {
    Told(Arc<Told>),
    /// More was told than is kept for whoever is slow. What comes begins after this position.
    Lost {
        position: u64,
    },
}

impl Watch {
    /// Waits for what is next.
    pub async fn hear(&mut self) -> Next {
        if let Some(missed) = self.missed.pop_front() {
            return Next::Told(missed);
        }
        match self.events.recv().await {
            Ok(told) => Next::Told(told),
            // The sender lives as long as this does.
            Err(_) => {
                let Heeded { position, events, .. } = self.watchers.history.heed(None);
                self.events = events;
                Next::Lost { position }
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watchers.close(&self.listener);
    }
}

/// `poll`, a tenth more or less, so that what was read together is not looked at together.
fn spread(poll: Duration) -> Duration {
    poll.mul_f64(0.9 + fastrand::f64() / 5.0)
}

/// Longer than an agent takes to come back to a broker that is there.
const AWAY: Duration = Duration::from_secs(60);
/// Listeners that are waited for.
const MOST_AWAY: usize = if cfg!(test) { 4 } else { 4096 };
/// About 50 MiB.
const MOST: usize = if cfg!(test) { 60 } else { 1 << 18 };

#[cfg(test)]
mod tests;
