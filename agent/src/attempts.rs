//! When something that is asked for again and again is asked for next, under the one retry policy.

use std::time::Duration;

use bursar_core::retry::Retry;
use tokio::time::Instant;

/// How often something failed, or was of no use, and when it may be tried again.
#[derive(Debug)]
pub(crate) struct Attempts {
    failed: u32,
    fruitless: u32,
    next: Instant,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self { failed: 0, fruitless: 0, next: Instant::now() }
    }

    pub(crate) fn are_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Whether the last one failed.
    pub(crate) fn are_failing(&self) -> bool {
        self.failed > 0
    }

    /// Due at once, however often it failed.
    pub(crate) fn hurry(&mut self) {
        self.next = Instant::now();
    }

    pub(crate) fn failed(&mut self) {
        self.failed = self.failed.saturating_add(1);
        self.next = Instant::now() + Retry::BACKGROUND.delay(self.failed);
    }

    /// Of what changes without a pause, a few versions a second are enough.
    pub(crate) fn succeeded(&mut self) {
        *self = Self { failed: 0, fruitless: 0, next: Instant::now() + PACE };
    }

    /// What came is no better than what there was.
    pub(crate) fn fruitless(&mut self) {
        let fruitless = self.fruitless.saturating_add(1);
        *self = Self { failed: 0, fruitless, next: Instant::now() + Retry::BACKGROUND.delay(fruitless) };
    }
}

/// Between two answers of use.
pub(crate) const PACE: Duration = Duration::from_millis(300);
