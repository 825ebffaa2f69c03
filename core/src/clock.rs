//! Wall time, injected, so that tests can move it, and kept from jumping.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Tells the wall time. Durations are measured with tokio's `Instant`, which paused tests move.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
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

/// A clock that follows another and never jumps: it runs at most a tenth faster or slower than time passes.
///
/// Leases end at times of the wall. When somebody sets the machine's clock an hour ahead, all of the next hour's leases
/// would end at once; an hour back, and none would end for an hour. Here an hour that was jumped is made up for over ten
/// hours instead: a lease of an hour ends at most 6 minutes early, or 7 late. It also never runs backwards.
///
/// How much time passed is told by something that nobody can set. What it counts while a machine sleeps has passed; what
/// it does not, such as the pause of a virtual machine, is a jump.
pub struct SteadyClock {
    wall: Arc<dyn Clock>,
    passed: Box<dyn Fn() -> Duration + Send + Sync>,
    last: Mutex<Reading>,
}

/// What both were when somebody looked last.
struct Reading {
    passed: Duration,
    time: Timestamp,
}

impl SteadyClock {
    /// Follows `wall` from what it says now; `passed` tells the time since some fixed moment.
    pub fn new(wall: Arc<dyn Clock>, passed: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let last = Mutex::new(Reading { passed: passed(), time: wall.now() });
        Self { wall, passed: Box::new(passed), last }
    }

    /// How far the followed clock is ahead of this one; negative when it is behind.
    pub fn ahead(&self) -> SignedDuration {
        self.wall.now().duration_since(self.now())
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Two threads may come here in another order than they looked.
        let passed = (self.passed)().max(last.passed);
        let since = passed - last.passed;
        let after = |time: Duration| last.time.checked_add(time).unwrap_or(Timestamp::MAX);
        let (least, most) = (after(since - since / SLACK), after(since + since / SLACK));
        *last = Reading { passed, time: self.wall.now().clamp(least, most) };
        last.time
    }
}

impl fmt::Debug for SteadyClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteadyClock").field("wall", &self.wall).finish_non_exhaustive()
    }
}

/// The part of passing time by which the clock may run faster or slower.
const SLACK: u32 = 10;

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

        /// Is set back, as a person or a time server does it.
        #[expect(clippy::unwrap_used, reason = "a test that overflows time or poisons this lock is wrong")]
        pub fn set_back(&self, by: Duration) {
            let mut now = self.0.lock().unwrap();
            *now = now.checked_sub(by).unwrap();
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A steady clock with the wall that it follows and what tells it how much time passed.
    struct Trial {
        wall: Arc<TestClock>,
        passed: Arc<AtomicU64>,
        clock: SteadyClock,
        begun: Timestamp,
    }

    impl Trial {
        fn new() -> Self {
            let (wall, passed) = (Arc::new(TestClock::new()), Arc::new(AtomicU64::new(1_000)));
            let seconds = Arc::clone(&passed);
            let passed_now = move || Duration::from_secs(seconds.load(Ordering::Relaxed));
            let clock = SteadyClock::new(Arc::clone(&wall) as Arc<dyn Clock>, passed_now);
            Self { begun: wall.now(), wall, passed, clock }
        }

        fn pass(&self, seconds: u64) {
            self.wall.advance(Duration::from_secs(seconds));
            self.passed.fetch_add(seconds, Ordering::Relaxed);
        }

        /// Seconds since the beginning, by the steady clock.
        fn reads(&self) -> i64 {
            self.clock.now().duration_since(self.begun).as_secs()
        }
    }

    #[test]
    fn a_wall_that_runs_well_is_followed_exactly() {
        let trial = Trial::new();
        for second in 1..100 {
            trial.pass(1);
            assert_eq!(trial.reads(), second);
        }
    }

    #[test]
    fn an_hour_ahead_is_made_up_for_over_ten() {
        let trial = Trial::new();
        trial.wall.advance(HOUR);
        assert_eq!((trial.reads(), trial.clock.ahead().as_secs()), (0, 3600));
        trial.pass(3600);
        assert_eq!(trial.reads(), 3960);
        for _ in 0..9 {
            trial.pass(3600);
            trial.reads();
        }
        assert_eq!((trial.reads(), trial.clock.ahead().as_secs()), (11 * 3600, 0));
    }

    #[test]
    fn an_hour_back_is_made_up_for_over_ten_and_time_never_runs_backwards() {
        let trial = Trial::new();
        trial.pass(3600);
        trial.reads();
        trial.wall.set_back(HOUR);
        assert_eq!(trial.reads(), 3600);
        trial.pass(3600);
        assert_eq!(trial.reads(), 3600 + 3240);
        for _ in 0..9 {
            trial.pass(3600);
            trial.reads();
        }
        assert_eq!((trial.reads(), trial.clock.ahead().as_secs()), (10 * 3600, 0));
    }

    #[test]
    fn a_jump_and_back_leaves_almost_nothing() {
        let trial = Trial::new();
        trial.wall.advance(HOUR);
        trial.pass(60);
        assert_eq!(trial.reads(), 66);
        trial.wall.set_back(HOUR);
        trial.pass(60);
        assert_eq!(trial.reads(), 120);
    }

    #[test]
    fn a_machine_that_slept_did_let_time_pass() {
        let trial = Trial::new();
        trial.pass(8 * 3600);
        assert_eq!(trial.reads(), 8 * 3600);
    }

    const HOUR: Duration = Duration::from_secs(3600);
}
