//! Wall time, injected, so that tests can move it.

use jiff::Timestamp;

/// Tells the wall time. Durations are measured with tokio's `Instant`, which paused tests move.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// The time now, in UTC.
    fn now(&self) -> Timestamp;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

#[cfg(any(test, feature = "testing"))]
pub use testing::TestClock;

#[cfg(any(test, feature = "testing"))]
mod testing {
    use std::sync::Mutex;
    use std::time::Duration;

    use jiff::Timestamp;

    use super::Clock;

    /// A clock that moves only when told to.
    #[derive(Debug)]
    pub struct TestClock(Mutex<Timestamp>);

    impl TestClock {
        /// Starts at a fixed time, 2026-01-01T00:00:00Z.
        pub fn new() -> Self {
            Self(Mutex::new(Timestamp::constant(1_767_225_600, 0)))
        }

        /// Moves forward.
        #[expect(clippy::unwrap_used, reason = "a test that overflows time or poisons this lock is wrong")]
        pub fn advance(&self, by: Duration) {
            let mut now = self.0.lock().unwrap();
            *now = now.checked_add(by).unwrap();
        }
    }

    impl Default for TestClock {
        fn default() -> Self {
            Self::new()
        }
    }

    impl Clock for TestClock {
        #[expect(clippy::unwrap_used, reason = "a test that poisons this lock is wrong")]
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }
}
