//! Time by both clocks.
//!
//! The steady clock cannot be set, but stands still while a machine sleeps; the wall clock runs on, but can be set. A
//! limit is over as soon as either says so, so neither a set clock nor a laptop lid makes a secret live longer.

use std::time::Duration;

use bursar_core::Clock;
use jiff::Timestamp;
use tokio::time::Instant;

/// A moment by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub steady: Instant,
    pub wall: Timestamp,
}

impl Moment {
    /// Now.
    pub fn now(clock: &dyn Clock) -> Self {
        Self { steady: Instant::now(), wall: clock.now() }
    }

    /// How long ago `earlier` was, by the clock that says more.
    pub fn since(&self, earlier: &Self) -> Duration {
        let wall = Duration::try_from(self.wall.duration_since(earlier.wall)).unwrap_or_default();
        self.steady.saturating_duration_since(earlier.steady).max(wall)
    }

    /// How long it is until `end`, by the clock that says less.
    pub fn until(&self, end: &Self) -> Duration {
        let wall = Duration::try_from(end.wall.duration_since(self.wall)).unwrap_or_default();
        end.steady.saturating_duration_since(self.steady).min(wall)
    }

    /// Whether it lies before `end` by both clocks.
    pub fn is_before(&self, end: &Self) -> bool {
        self.steady < end.steady && self.wall < end.wall
    }
}
