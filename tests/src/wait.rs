//! Waiting for a condition, with a limit.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Polls `condition` until it holds. `what` completes the sentence "waited for …".
///
/// # Errors
/// It did not hold within `limit`.
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_for(limit, what, || Ok(condition().then_some(())))
}

/// Polls `attempt` until it yields a value. `what` completes the sentence "waited for …".
///
/// # Errors
/// The first error of `attempt`, at once; or it yielded nothing within `limit`. It is tried at least once.
pub fn wait_for<T>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(INTERVAL);
    }
}

const INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_never_holds_is_reported_by_name() {
        let error = wait_until(Duration::ZERO, "the moon", || false).unwrap_err();
        assert_eq!(error.to_string(), "waited 0ns in vain for the moon");
    }

    #[test]
    fn an_error_ends_the_wait_at_once() {
        let error = wait_for::<()>(Duration::MAX / 4, "the moon", || bail!("eclipse")).unwrap_err();
        assert_eq!(error.to_string(), "eclipse");
    }
}
