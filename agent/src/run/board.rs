//! Which programs run as they have to, for whoever asks about the agent's health.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A place for each program.
#[derive(Debug, Default)]
pub struct Board(Vec<Place>);

/// The place of one.
#[derive(Debug, Clone)]
pub(super) struct Place(Arc<AtomicBool>);

impl Board {
    /// It is as it has to be until it is told otherwise.
    pub(super) fn place(&mut self) -> Place {
        let place = Place(Arc::new(AtomicBool::new(true)));
        self.0.push(place.clone());
        place
    }

    /// How many programs there are, and how many of them do not run as they have to.
    pub fn count(&self) -> (usize, usize) {
        let failing = self.0.iter().filter(|place| !place.0.load(Ordering::Relaxed)).count();
        (self.0.len(), failing)
    }

    /// What is wrong, in words.
    pub fn fault(&self) -> Option<String> {
        let (all, failing) = self.count();
        (failing > 0).then(|| {
            format!("{failing} of {all} programs cannot be kept running; the log says which and why")
        })
    }
}

impl Place {
    /// Whether the program does what it has to.
    pub(super) fn is_good(&self, good: bool) {
        self.0.store(good, Ordering::Relaxed);
    }
}
