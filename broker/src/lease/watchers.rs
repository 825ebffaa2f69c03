//! Who listens to events, and which secrets each of them holds: what is looked at for changes, and who hears of one.
//!
//! Only those who listen are noted, so without any this is empty and a grant pays nothing. A listener that begins is told
//! to take everything it has for old, so that its secrets are noted as it reads or renews them. There is room for
//! [`MOST`] holdings; a listener whose secret finds none hears of no change, and reads it anew when it is too old.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bursar_core::{BackendName, Lease, Reference, SecretPath, SpiffeId};
use jiff::Timestamp;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use super::Heard;
use crate::mounts::Content;

/// The listeners of one broker.
#[derive(Debug)]
pub(super) struct Watchers {
    events: broadcast::Sender<Heard>,
    state: Mutex<State>,
    hurry: Notify,
    /// How many streams there are, for whoever only wants to know whether there is one.
    streams: AtomicUsize,
    /// Shows the number of holdings.
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct State {
    /// How many streams each listener has.
    listeners: HashMap<SpiffeId, usize>,
    backends: BTreeMap<BackendName, HashMap<SecretPath, Watched>>,
    holdings: usize,
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
    events: broadcast::Receiver<Heard>,
}

impl Watchers {
    pub(super) fn new(gauge: Gauge) -> Arc<Self> {
        let (events, _) = broadcast::channel(BACKLOG);
        let streams = AtomicUsize::new(0);
        Arc::new(Self { events, state: Mutex::default(), hurry: Notify::new(), streams, gauge })
    }

    pub(super) fn open(self: &Arc<Self>, listener: SpiffeId) -> Watch {
        *self.state().listeners.entry(listener.clone()).or_default() += 1;
        self.streams.fetch_add(1, Ordering::AcqRel);
        Watch { watchers: Arc::clone(self), listener, events: self.events.subscribe() }
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
                self.show(0);
            }
            Heard::Changed { .. } => {}
        }
        // Without a listener there is nobody to tell.
        drop(self.events.send(heard));
    }

    /// Whether anybody listens.
    pub(super) fn any(&self) -> bool {
        self.streams.load(Ordering::Acquire) > 0
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
        let State { backends, holdings, .. } = &mut *state;
        let Some(secrets) = backends.get_mut(backend) else { return Vec::new() };
        let mut due = Vec::new();
        secrets.retain(|path, watched| {
            if watched.look_at > moment {
                return true;
            }
            let before = watched.holders.len();
            watched.holders.retain(|_, until| *until > now);
            *holdings -= before - watched.holders.len();
            if watched.holders.is_empty() {
                return false;
            }
            watched.look_at = moment + spread(poll(path));
            due.push((path.clone(), watched.content.clone()));
            true
        });
        self.show(*holdings);
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
        self.show(*holdings);
    }

    fn close(&self, listener: &SpiffeId) {
        self.streams.fetch_sub(1, Ordering::AcqRel);
        let mut state = self.state();
        let State { listeners, backends, holdings } = &mut *state;
        let Some(streams) = listeners.get_mut(listener) else { return };
        *streams = streams.saturating_sub(1);
        if *streams == 0 {
            listeners.remove(listener);
            for secrets in backends.values_mut() {
                secrets.retain(|_, watched| {
                    *holdings -= usize::from(watched.holders.remove(listener).is_some());
                    !watched.holders.is_empty()
                });
            }
            self.show(*holdings);
        }
    }

    fn show(&self, holdings: usize) {
        self.gauge.set(i64::try_from(holdings).unwrap_or(i64::MAX));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// The next event, or why there is none.
    ///
    /// # Errors
    /// That of the channel: the listener is too far behind, or the broker ends.
    pub async fn hear(&mut self) -> Result<Heard, broadcast::error::RecvError> {
        self.events.recv().await
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

/// A listener that is further behind is told to start anew.
const BACKLOG: usize = 4096;
/// About 50 MiB.
const MOST: usize = if cfg!(test) { 60 } else { 1 << 18 };

#[cfg(test)]
mod tests;
