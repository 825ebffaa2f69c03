//! When the next login may be tried.
//!
//! Two things must not become a storm at the store: a login that keeps failing, and a login that works but whose token
//! keeps being refused. Each login makes a token that the store has to keep, so both wait as [`Retry::BACKGROUND`] does,
//! and whoever needs a token meanwhile gets the last refusal at once.

use std::time::Duration;

use tokio::time::Instant;

use super::BackendError;
use crate::retry::Retry;

/// The history of logins, as far as it delays the next.
#[derive(Debug)]
pub struct Pacing {
    /// Failures in a row, or successes that followed each other closely.
    streak: u32,
    succeeded_at: Option<Instant>,
    wait: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    until: Instant,
    refusal: BackendError,
}

impl Pacing {
    /// Nobody has logged in yet.
    pub fn new() -> Self {
        Self { streak: 0, succeeded_at: None, wait: None }
    }

    /// Starts a login, unless it is too early for one. Until [`Pacing::succeeded`] says otherwise it counts as one that
    /// failed with `refusal`, so a caller that hangs up halfway has not tried for free.
    ///
    /// # Errors
    /// The refusal of the last login.
    pub fn begin(&mut self, refusal: BackendError) -> Result<(), BackendError> {
        let now = Instant::now();
        if let Some(wait) = self.wait.as_ref().filter(|wait| now < wait.until) {
            return Err(wait.refusal.clone());
        }
        self.failed(refusal, 1);
        Ok(())
    }

    /// The login that was begun failed, for this reason.
    pub fn refused(&mut self, refusal: BackendError) {
        self.failed(refusal, 0);
    }

    /// The login that was begun succeeded. The first after a calm time may be repeated at once; one that follows
    /// another closely may not, and `refusal` is what is said until then.
    pub fn succeeded(&mut self, refusal: BackendError) {
        let now = Instant::now();
        let close = self.succeeded_at.is_some_and(|before| now.duration_since(before) < CALM);
        self.succeeded_at = Some(now);
        self.streak = if close { self.streak } else { 0 };
        self.wait = None;
        if close {
            self.failed(refusal, 0);
        }
    }

    fn failed(&mut self, refusal: BackendError, more: u32) {
        self.streak = self.streak.saturating_add(more);
        let wait = Retry::BACKGROUND.delay(self.streak).max(refusal.retry_after.unwrap_or_default());
        self.wait = Some(Wait { until: Instant::now() + wait, refusal });
    }
}

impl Default for Pacing {
    fn default() -> Self {
        Self::new()
    }
}

/// Logins further apart than this have nothing to do with each other. Twice the longest wait between attempts.
const CALM: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::super::{ErrorKind, Operation};
    use super::*;
    use crate::reference::BackendName;

    fn refusal() -> BackendError {
        let backend = BackendName::parse("vault").expect("name");
        BackendError::new(ErrorKind::Unavailable, &backend, Operation::Login)
    }

    /// Calls each second for an hour; answers how many logins were begun.
    async fn logins_in_an_hour(end: impl Fn(&mut Pacing)) -> u32 {
        let mut pacing = Pacing::new();
        let mut begun = 0;
        for _ in 0..3600 {
            if pacing.begin(refusal()).is_ok() {
                begun += 1;
                end(&mut pacing);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        begun
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_of_failed_logins_is_a_bounded_number_of_calls() {
        let logins = logins_in_an_hour(|pacing| pacing.refused(refusal())).await;
        assert!((50..=130).contains(&logins), "{logins} logins");
    }

    #[tokio::test(start_paused = true)]
    async fn so_is_an_hour_of_tokens_that_do_not_work() {
        let logins = logins_in_an_hour(|pacing| pacing.succeeded(refusal())).await;
        assert!((50..=130).contains(&logins), "{logins} logins");
    }

    #[tokio::test(start_paused = true)]
    async fn and_so_is_an_hour_of_callers_that_hang_up() {
        let logins = logins_in_an_hour(|_| ()).await;
        assert!((50..=130).contains(&logins), "{logins} logins");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_dies_is_replaced_at_once() {
        let mut pacing = Pacing::new();
        assert!(pacing.begin(refusal()).is_ok());
        pacing.succeeded(refusal());
        assert!(pacing.begin(refusal()).is_ok());
    }
}
