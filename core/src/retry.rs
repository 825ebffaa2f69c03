//! The one retry policy.
//!
//! Promise 6, "nothing storms": every call that may be repeated goes through [`Retry::run`], which waits a jittered,
//! doubling, capped time between attempts and never less than the server asked for. Nothing else in the workspace
//! sleeps between attempts. Calls that create something are not retried: whoever asked decides.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};

/// How often and how fast a call is repeated.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    attempts: usize,
    first: Duration,
    cap: Duration,
}

impl Retry {
    /// For a call that somebody waits for: three attempts within about a second.
    pub const INTERACTIVE: Self =
        Self { attempts: 3, first: Duration::from_millis(100), cap: Duration::from_millis(800) };

    /// For work in the background that must get there in the end, such as reconnecting: from half a second to a
    /// minute, without an end. At most 130 calls in the first hour of a permanent failure.
    pub const BACKGROUND: Self =
        Self { attempts: usize::MAX, first: Duration::from_millis(500), cap: Duration::from_secs(60) };

    /// For what failed so often that somebody has to look: every five to ten minutes, without an end.
    pub const STUCK: Self =
        Self { attempts: usize::MAX, first: Duration::from_secs(600), cap: Duration::from_secs(600) };

    /// Calls `attempt` until it succeeds, fails for good, or the attempts are used up.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn run<T, E, F, A>(self, attempt: F) -> Result<T, E>
    where
        F: FnMut() -> A,
        A: Future<Output = Result<T, E>>,
        E: Transient,
    {
        attempt
            .retry(self.backoff())
            .sleep(tokio::time::sleep)
            .when(|error: &E| error.is_transient())
            .adjust(|error: &E, planned| {
                planned.map(|wait| spread(wait).max(error.retry_after().unwrap_or_default()))
            })
            .await
    }

    /// The wait after `failed` attempts, for work whose attempts outlive a restart, such as revocation.
    pub fn delay(self, failed: u32) -> Duration {
        let steps = usize::try_from(failed.saturating_sub(1)).unwrap_or(usize::MAX);
        spread(self.backoff().build().nth(steps.min(STEPS_TO_ANY_CAP)).unwrap_or(self.cap))
    }

    /// The wait before another attempt, where `failed` were made and the last met `error`; none where there is to be no
    /// other. For a thread that blocks, which cannot use [`Retry::run`].
    pub fn again(self, failed: u32, error: &impl Transient) -> Option<Duration> {
        let left = usize::try_from(failed).is_ok_and(|failed| failed < self.attempts);
        let wait = || self.delay(failed).max(error.retry_after().unwrap_or_default());
        (left && error.is_transient()).then(wait)
    }

    fn backoff(self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_min_delay(self.first)
            .with_max_delay(self.cap)
            .with_max_times(self.attempts.saturating_sub(1))
    }
}

/// Between half of `wait` and the whole: callers that failed together do not come back together.
fn spread(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// An error that knows whether the same call may succeed later.
pub trait Transient {
    /// Whether repeating the call makes sense.
    fn is_transient(&self) -> bool;

    /// How long the server asked to be left alone.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// Doubling any positive wait this often passes any cap.
const STEPS_TO_ANY_CAP: usize = 64;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Fails {
        transient: bool,
        after: Option<Duration>,
    }

    impl Transient for Fails {
        fn is_transient(&self) -> bool {
            self.transient
        }
        fn retry_after(&self) -> Option<Duration> {
            self.after
        }
    }

    async fn calls(retry: Retry, error: fn() -> Fails, within: Duration) -> usize {
        let count = Cell::new(0);
        let attempt = || async {
            count.set(count.get() + 1);
            Err::<(), _>(error())
        };
        drop(tokio::time::timeout(within, retry.run(attempt)).await);
        count.get()
    }

    #[tokio::test(start_paused = true)]
    async fn a_final_error_is_not_repeated() {
        let error = || Fails { transient: false, after: None };
        assert_eq!(calls(Retry::INTERACTIVE, error, Duration::from_secs(60)).await, 1);
    }

    #[test]
    fn a_thread_that_blocks_goes_by_the_same_policy() {
        let error = |transient| Fails { transient, after: Some(Duration::from_secs(30)) };
        let waits = (1..=3).map(|failed| Retry::INTERACTIVE.again(failed, &error(true)));
        let expected = Some(Duration::from_secs(30));
        assert_eq!(waits.collect::<Vec<_>>(), [expected, expected, None]);
        assert_eq!(Retry::INTERACTIVE.again(1, &error(false)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_of_failure_costs_a_bounded_number_of_calls() {
        let error = || Fails { transient: true, after: None };
        let calls = calls(Retry::BACKGROUND, error, Duration::from_secs(3600)).await;
        assert!((60..=130).contains(&calls), "{calls} calls");
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_is_left_alone_for_as_long_as_it_asks() {
        let start = Instant::now();
        let error = || Fails { transient: true, after: Some(Duration::from_secs(30)) };
        assert_eq!(calls(Retry::INTERACTIVE, error, Duration::from_secs(600)).await, 3);
        assert!(start.elapsed() >= Duration::from_secs(60));
    }
}
