//! How the sinks are doing, for health, metrics and `bursar status`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bursar_core::Clock;
use jiff::Timestamp;

use super::SinkError;
use crate::config::SinkConfig;
use crate::ledger::Ledger;

/// Every sink of the broker.
#[derive(Debug)]
pub struct Shipping {
    standings: Vec<Arc<Standing>>,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
}

/// How far one sink is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    pub sink: String,
    /// Records that it has not confirmed.
    pub records: u64,
    /// The age of the oldest of them.
    pub seconds: u64,
}

impl Shipping {
    pub(super) fn new(standings: Vec<Arc<Standing>>, ledger: Ledger, clock: Arc<dyn Clock>) -> Self {
        Self { standings, ledger, clock }
    }

    /// What each sink met last: nothing, or why it does not take records.
    pub fn findings(&self) -> Vec<(String, Option<String>)> {
        let found = self.standings.iter().map(|standing| (standing.name.clone(), standing.fault()));
        found.collect()
    }

    /// How far each sink is behind.
    pub fn lags(&self) -> Vec<Lag> {
        let (size, now) = (*self.ledger.appended().borrow(), self.clock.now());
        let lag = |standing: &Arc<Standing>| {
            let records = size.saturating_sub(standing.position.load(Ordering::Relaxed));
            let since = standing.state().oldest.filter(|_| records > 0);
            let seconds = since.map(|since| now.duration_since(since).as_secs()).unwrap_or_default();
            Lag { sink: standing.name.clone(), records, seconds: u64::try_from(seconds).unwrap_or_default() }
        };
        self.standings.iter().map(lag).collect()
    }
}

/// How one sink is doing.
#[derive(Debug)]
pub struct Standing {
    pub(super) name: String,
    kind: &'static str,
    /// The first record that it has not confirmed.
    position: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the oldest record that is under way was made.
    oldest: Option<Timestamp>,
    fault: Option<String>,
}

impl Standing {
    pub(super) fn new(config: &SinkConfig) -> Self {
        Self {
            name: config.name.clone(),
            kind: config.kind.as_str(),
            position: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    pub(super) fn begins(&self, oldest: Option<Timestamp>) {
        self.state().oldest = oldest;
    }

    pub(super) fn shipped(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }

    /// Says once that it works again.
    pub(super) fn well(&self) {
        if self.state().fault.take().is_some() {
            tracing::info!(sink = self.name, kind = self.kind, "an audit sink takes records again");
        }
    }

    /// Says once, and not at each attempt, that it does not work; and again when it is for another reason.
    pub(super) fn fails(&self, error: &SinkError) {
        let message = format!("{error}; its records wait in the ledger");
        let before = self.state().fault.replace(message);
        if before != self.fault() {
            let (sink, fault) = (&self.name, error.kind.as_str());
            tracing::warn!(sink, kind = self.kind, fault, %error, "an audit sink takes no records");
        }
    }

    pub(super) fn fault(&self) -> Option<String> {
        self.state().fault.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
