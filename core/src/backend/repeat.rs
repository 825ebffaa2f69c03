//! Repeating reads, and how long to wait before.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::BackendError;
use crate::retry::{Retry, Transient};

/// Repeats a call that changes nothing, as [`Retry::INTERACTIVE`] does, but begins no attempt later than `patience`
/// after the first: a store that hangs costs one timeout, not three, and one that asks to be left alone for long is
/// reported at once instead of waited for.
///
/// # Errors
/// The error of the last attempt.
pub async fn repeat<T, F, A>(patience: Duration, mut attempt: F) -> Result<T, BackendError>
where
    F: FnMut() -> A,
    A: Future<Output = Result<T, BackendError>>,
{
    let deadline = Instant::now() + patience;
    let run = Retry::INTERACTIVE.run(|| {
        let attempt = attempt();
        async move { attempt.await.map_err(|error| Failed::before(deadline, error)) }
    });
    run.await.map_err(|failed| failed.error)
}

/// What the header `Retry-After` asks for, at most an hour. Its other form, a date, is not sent by the stores.
pub fn retry_after(header: &str) -> Option<Duration> {
    let seconds = header.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

struct Failed {
    error: BackendError,
    repeatable: bool,
}

impl Failed {
    fn before(deadline: Instant, error: BackendError) -> Self {
        let earliest = Instant::now() + error.retry_after.unwrap_or_default();
        Self { repeatable: error.is_transient() && earliest < deadline, error }
    }
}

impl Transient for Failed {
    fn is_transient(&self) -> bool {
        self.repeatable
    }

    fn retry_after(&self) -> Option<Duration> {
        self.error.retry_after
    }
}

const LONGEST_WAIT: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::{ErrorKind, Operation};
    use super::*;
    use crate::reference::BackendName;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// How often a call is made that fails as `error` after `taking`.
    async fn calls(kind: ErrorKind, retry_after: Option<Duration>, taking: Duration) -> u32 {
        let backend = BackendName::parse("vault").expect("name");
        let error = BackendError { retry_after, ..BackendError::new(kind, &backend, Operation::Read) };
        let calls = Cell::new(0);
        let attempt = || async {
            calls.set(calls.get() + 1);
            tokio::time::sleep(taking).await;
            Err::<(), _>(error.clone())
        };
        assert_eq!(repeat(PATIENCE, attempt).await, Err(error.clone()));
        calls.get()
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_failure_is_tried_three_times() {
        assert_eq!(calls(ErrorKind::Unavailable, None, Duration::ZERO).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_tried_once() {
        assert_eq!(calls(ErrorKind::Timeout, None, PATIENCE).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_asks_for_more_time_than_there_is_gets_it() {
        assert_eq!(calls(ErrorKind::Throttled, Some(PATIENCE), Duration::ZERO).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_not_tried_again() {
        assert_eq!(calls(ErrorKind::Sealed, None, Duration::ZERO).await, 1);
    }
}
