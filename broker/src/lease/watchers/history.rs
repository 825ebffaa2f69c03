//! What was told, in its order, and the last of it kept for whoever was away for a moment.
//!
//! Sequences of one broker never repeat: they begin at the microsecond in which the process did, so that those of a process
//! that came before are smaller. A position that this process did not give is therefore too old, and never one of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bursar_core::Clock;
use jiff::Timestamp;
use tokio::sync::broadcast;

use super::Heard;

/// One event, as it was told.
#[derive(Debug)]
pub struct Told {
    /// Its place among all of this broker.
    pub sequence: u64,
    pub at: Timestamp,
    pub heard: Heard,
}

/// A stream of events from some place on.
#[derive(Debug)]
pub(super) struct Heeded {
    /// What was told after the position that was asked for; none when that is not known any more.
    pub(super) missed: Option<VecDeque<Arc<Told>>>,
    /// The last event before those that come.
    pub(super) position: u64,
    pub(super) events: broadcast::Receiver<Arc<Told>>,
}

#[derive(Debug)]
pub(super) struct History {
    events: broadcast::Sender<Arc<Told>>,
    kept: Mutex<Kept>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Kept {
    /// The last that was told, or where this process began.
    position: u64,
    told: VecDeque<Arc<Told>>,
}

impl History {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (events, _) = broadcast::channel(BACKLOG);
        let position = u64::try_from(clock.now().as_microsecond()).unwrap_or_default();
        Self { events, kept: Mutex::new(Kept { position, told: VecDeque::new() }), clock }
    }

    pub(super) fn tell(&self, heard: Heard) {
        let at = self.clock.now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.position += 1;
        let told = Arc::new(Told { sequence: kept.position, at, heard });
        if kept.told.len() == BACKLOG {
            kept.told.pop_front();
        }
        kept.told.push_back(Arc::clone(&told));
        // Under the lock, so that everybody hears them in their order. Without a listener there is nobody to tell.
        drop(self.events.send(told));
    }

    /// Everything after `position`, or from now on.
    pub(super) fn heed(&self, after: Option<u64>) -> Heeded {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = kept.told.front().map_or(kept.position, |told| told.sequence - 1);
        let known = after.filter(|after| (oldest..=kept.position).contains(after));
        let missed = known.map(|after| {
            let missed = kept.told.iter().filter(|told| told.sequence > after);
            missed.cloned().collect()
        });
        Heeded { missed, position: known.unwrap_or(kept.position), events: self.events.subscribe() }
    }
}

/// Of events, some MiB. A listener that is further behind is told to start anew.
pub(super) const BACKLOG: usize = if cfg!(test) { 8 } else { 4096 };
