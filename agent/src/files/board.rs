//! Which sets are as they have to be, for whoever asks about the agent's health.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A place for each set.
#[derive(Debug, Default)]
pub struct Board(Vec<Place>);

/// The place of one.
#[derive(Debug, Clone)]
pub(crate) struct Place(Arc<Good>);

#[derive(Debug)]
struct Good {
    files: AtomicBool,
    hook: AtomicBool,
}

impl Board {
    pub(crate) fn place(&mut self) -> Place {
        let place = Place(Arc::new(Good { files: AtomicBool::new(false), hook: AtomicBool::new(true) }));
        self.0.push(place.clone());
        place
    }

    /// How many sets there are, and how many of them are not as they have to be.
    pub fn count(&self) -> (usize, usize) {
        let failing = self.0.iter().filter(|place| !place.is_good()).count();
        (self.0.len(), failing)
    }

    /// What is wrong, in words.
    pub fn fault(&self) -> Option<String> {
        let (all, failing) = self.count();
        (failing > 0).then(|| {
            format!("{failing} of {all} sets of files are missing or out of date, or their hook fails; the log says why")
        })
    }
}

impl Place {
    /// Whether the files are there, and up to date.
    pub(crate) fn delivered(&self, good: bool) {
        self.0.files.store(good, Ordering::Relaxed);
    }

    /// Whether the hook succeeded.
    pub(super) fn hooked(&self, good: bool) {
        self.0.hook.store(good, Ordering::Relaxed);
    }

    fn is_good(&self) -> bool {
        self.0.files.load(Ordering::Relaxed) && self.0.hook.load(Ordering::Relaxed)
    }
}
