//! When the next login may be tried.
//!
//! A login that the server refuses is refused until somebody changes something, and each try is a line in its log and
//! work for it. So after a refusal whoever needs a session is told the same at once, for as long as
//! [`Retry::BACKGROUND`] says. A server that is not reached costs nothing there: the broker's circuit breaker sees to that.

use std::sync::{Mutex, PoisonError};

use bursar_core::backend::{BackendError, ErrorKind};
use bursar_core::retry::Retry;
use tokio::time::Instant;

/// The refusals so far.
#[derive(Default)]
pub(crate) struct Pacing(Mutex<Option<Refused>>);

struct Refused {
    in_a_row: u32,
    until: Instant,
    error: BackendError,
}

impl Pacing {
    /// Lets a login be tried.
    ///
    /// # Errors
    /// The last refusal, when it is too early.
    pub(crate) fn admit(&self) -> Result<(), BackendError> {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match refused.as_ref().filter(|refused| Instant::now() < refused.until) {
            Some(refused) => Err(refused.error.clone()),
            None => Ok(()),
        }
    }

    /// What came of a login.
    pub(crate) fn ended<T>(&self, result: &Result<T, BackendError>) {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(_) => *refused = None,
            Err(error) if matches!(error.kind, ErrorKind::Denied | ErrorKind::Misconfigured) => {
                let in_a_row = refused.as_ref().map_or(0, |refused| refused.in_a_row).saturating_add(1);
                let until = Instant::now() + Retry::BACKGROUND.delay(in_a_row);
                *refused = Some(Refused { in_a_row, until, error: error.clone() });
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bursar_core::BackendName;
    use bursar_core::backend::Operation;

    use super::*;

    fn error(kind: ErrorKind) -> BackendError {
        BackendError::new(kind, &BackendName::parse("pg").expect("name"), Operation::Login)
    }

    /// How many logins callers that come each second try in an hour.
    async fn logins_in_an_hour(result: Result<(), BackendError>) -> u32 {
        let (pacing, mut logins) = (Pacing::default(), 0);
        for _ in 0..3600 {
            if pacing.admit().is_ok() {
                logins += 1;
                pacing.ended(&result);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        logins
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_of_refused_logins_is_a_bounded_number_of_calls() {
        let logins = logins_in_an_hour(Err(error(ErrorKind::Denied))).await;
        assert!((50..=130).contains(&logins), "{logins} logins");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_was_away_is_tried_at_once() {
        assert_eq!(logins_in_an_hour(Err(error(ErrorKind::Unavailable))).await, 3600);
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_works_ends_the_wait() {
        let pacing = Pacing::default();
        pacing.ended::<()>(&Err(error(ErrorKind::Denied)));
        assert_eq!(pacing.admit(), Err(error(ErrorKind::Denied)));
        pacing.ended(&Ok(()));
        assert_eq!(pacing.admit(), Ok(()));
    }
}
