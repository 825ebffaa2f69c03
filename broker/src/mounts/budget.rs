//! How many calls a second a store is asked for at most.
//!
//! A call that is too early waits for its turn, so that a storm of readers arrives at the store as an even stream. Nobody
//! waits longer than [`PATIENCE`]: who would is told at once, and when to come again, so the line of those who wait has an
//! end.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The turns of one store.
#[derive(Debug)]
pub(super) struct Budget {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Budget {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second.get(), next: Mutex::new(Instant::now()) }
    }

    /// Waits for a turn. What was not used within the last second may be used at once.
    ///
    /// # Errors
    /// How long one would have to wait, where that is too long; no turn is taken then.
    pub(super) async fn turn(&self) -> Result<(), Duration> {
        let now = Instant::now();
        let begun = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let saved = now.checked_sub(SAVED).unwrap_or(now);
            let begins = (*next).max(saved);
            let wait = begins.saturating_duration_since(now);
            if wait > PATIENCE {
                return Err(wait);
            }
            *next = begins + self.interval;
            begins
        };
        if begun > now {
            tokio::time::sleep_until(begun).await;
        }
        Ok(())
    }
}

/// A request is given up after 30 s; a third of that is left for the call itself and what comes after.
const PATIENCE: Duration = Duration::from_secs(20);
const SAVED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(per_second: u32) -> Budget {
        Budget::new(NonZeroU32::new(per_second).expect("not 0"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_becomes_a_stream() {
        let budget = budget(10);
        let begun = Instant::now();
        for _ in 0..60 {
            budget.turn().await.expect("a turn");
        }
        // A fresh budget has saved nothing yet.
        assert_eq!(begun.elapsed(), Duration::from_millis(5900));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_second_left_may_be_used_at_once_and_no_more() {
        let budget = budget(10);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let begun = Instant::now();
        for _ in 0..21 {
            budget.turn().await.expect("a turn");
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_too_long_is_told_and_takes_no_turn() {
        let budget = budget(1);
        let waiting = (0..21).map(|_| budget.turn());
        let all = futures_util::future::join_all(waiting);
        tokio::select! {
            biased;
            _ = all => panic!("they are to wait"),
            () = std::future::ready(()) => {}
        }
        for _ in 0..3 {
            assert_eq!(budget.turn().await, Err(Duration::from_secs(21)));
        }
    }
}
