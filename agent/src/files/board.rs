//! Which sets are as they have to be, for whoever asks about the agent's health.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A place for each set.
#[derive(Debug, Default)]
pub struct Board(Vec<Arc<AtomicBool>>);

/// The place of one.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicBool>);

impl Board {
    pub(super) fn place(&mut self) -> Place {
        let place = Arc::new(AtomicBool::new(false));
        self.0.push(Arc::clone(&place));
        Place(place)
    }

    /// How many sets there are, and how many of them are not as they have to be.
    pub fn count(&self) -> (usize, usize) {
        let failing = self.0.iter().filter(|place| !place.load(Ordering::Relaxed)).count();
        (self.0.len(), failing)
    }

    /// What is wrong, in words.
    pub fn fault(&self) -> Option<String> {
        let (all, failing) = self.count();
        (failing > 0).then(|| {
            format!("{failing} of {all} sets of files are not delivered, or not up to date; the log says why")
        })
    }
}

impl Place {
    pub(super) fn set(&self, good: bool) {
        self.0.store(good, Ordering::Relaxed);
    }
}
