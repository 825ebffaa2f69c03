//! Asking until a person has decided, as often as the issuer allows.
//!
//! This is no repeating of a call that failed: the issuer answers each time, and says how long to wait. A question that
//! is not answered slows the asking down as the issuer's own `slow_down` does (RFC 8628, section 3.5).

use std::future::Future;
use std::time::Duration;

use bursar_core::Secret;

use super::Answer;
use super::error::IssuerError;

/// Asks every `interval` for at most `life`, the first time after one interval.
///
/// # Errors
/// [`IssuerError`], [`IssuerError::Expired`] after `life`.
pub(super) async fn decided<F>(
    life: Duration,
    interval: Duration,
    ask: impl Fn() -> F,
) -> Result<Secret, IssuerError>
where
    F: Future<Output = Result<Answer, IssuerError>>,
{
    let asking = async {
        let mut interval = interval;
        loop {
            tokio::time::sleep(interval).await;
            match ask().await {
                Ok(Answer::Token(token)) => return Ok(token),
                Ok(Answer::Pending) => {}
                Ok(Answer::SlowDown) => interval += SLOWER,
                Err(error) if error.may_pass() => interval += SLOWER,
                Err(error) => return Err(error),
            }
        }
    };
    tokio::time::timeout(life, asking).await.unwrap_or(Err(IssuerError::Expired))
}

/// How long a code stands, of what the issuer says.
pub(super) fn life(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(LONGEST_LIFE)
}

/// How often to ask, of what the issuer says, if it does.
pub(super) fn interval(seconds: Option<u64>) -> Duration {
    seconds.map_or(INTERVAL, Duration::from_secs).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}

/// RFC 8628, section 3.2.
const INTERVAL: Duration = Duration::from_secs(5);
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
/// RFC 8628, section 3.5.
const SLOWER: Duration = Duration::from_secs(5);
/// Nobody who has not decided by then will.
const LONGEST_LIFE: Duration = Duration::from_secs(1800);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::Instant;

    use super::*;

    /// Asks until `answers` are used up, each of which is the end from then on; answers the seconds at which it asked.
    async fn asked(
        life: u64,
        answers: &[fn() -> Result<Answer, IssuerError>],
    ) -> (Vec<u64>, Result<Secret, IssuerError>) {
        let (start, times) = (Instant::now(), RefCell::new(Vec::new()));
        let ask = || {
            let mut times = times.borrow_mut();
            let answer = answers.get(times.len()).or(answers.last()).expect("an answer");
            times.push(start.elapsed().as_secs());
            std::future::ready(answer())
        };
        let decided = decided(Duration::from_secs(life), interval(Some(5)), ask).await;
        (times.into_inner(), decided)
    }

    fn token() -> Result<Answer, IssuerError> {
        Ok(Answer::Token(Secret::from("t".to_owned())))
    }

    #[tokio::test(start_paused = true)]
    async fn it_asks_as_often_as_the_issuer_says() {
        let (times, decided) =
            asked(600, &[|| Ok(Answer::Pending), || Ok(Answer::SlowDown), || Ok(Answer::Pending), token])
                .await;
        assert_eq!(times, [5, 10, 20, 30]);
        assert!(decided.is_ok_and(|token| token.ct_eq(b"t")));
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_is_away_is_asked_less_often() {
        let away = || Err(IssuerError::Late);
        let (times, decided) = asked(600, &[away, away, token]).await;
        assert_eq!(times, [5, 15, 30]);
        assert!(decided.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_code_or_with_a_no() {
        let (times, decided) = asked(60, &[|| Ok(Answer::Pending)]).await;
        assert!(times.len() <= 12 && matches!(decided, Err(IssuerError::Expired)));
        let (times, decided) = asked(60, &[|| Err(IssuerError::Declined)]).await;
        assert!(times == [5] && matches!(decided, Err(IssuerError::Declined)));
    }

    #[tokio::test(start_paused = true)]
    async fn half_an_hour_of_an_issuer_that_fails_is_a_bounded_number_of_calls() {
        let (times, _) = asked(1800, &[|| Err(IssuerError::Late)]).await;
        assert!(times.len() < 30, "{} calls", times.len());
    }

    #[test]
    fn what_an_issuer_asks_for_has_bounds() {
        assert_eq!((interval(None), interval(Some(0))), (INTERVAL, SHORTEST_INTERVAL));
        assert_eq!((interval(Some(u64::MAX)), life(u64::MAX)), (LONGEST_INTERVAL, LONGEST_LIFE));
    }
}
