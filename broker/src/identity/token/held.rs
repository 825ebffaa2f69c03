//! The keys of one issuer as the broker holds them.
//!
//! One task fetches them, at its own pace; requests only look, and ask it to look again when a token names a key that is
//! not there. So however many tokens are made up, and however many callers hang up, an issuer is asked once at a time
//! and at most once in [`WINDOW`] beside the regular round. A set that was fetched replaces the one before whole: a key
//! that its issuer took out counts no more. One that cannot be fetched leaves the last for `max_stale`.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::Clock;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::fetch::Unfetched;
use super::jws::Jws;
use super::keys::KeySet;
use super::refused::Refused;
use crate::telemetry::Metrics;

/// The keys of one issuer, and when they were fetched.
#[derive(Debug)]
pub(super) struct Held {
    state: watch::Sender<State>,
    wanted: Notify,
    issuer: String,
    refresh: Duration,
    max_stale: Duration,
}

#[derive(Debug, Default)]
struct State {
    set: Option<Arc<KeySet>>,
    /// Grows with each set that differs from the one before.
    revision: u64,
    fetched: Option<Instant>,
    tried: Option<Instant>,
    under_way: bool,
    /// Rounds that ended, well or not.
    rounds: u64,
}

impl Held {
    pub(super) fn new(issuer: String, refresh: Duration, max_stale: Duration) -> Self {
        Self { state: watch::Sender::default(), wanted: Notify::new(), issuer, refresh, max_stale }
    }

    /// Checks a token's signature; answers the revision of the keys that it holds by.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) async fn verify(&self, token: &Jws<'_>) -> Result<u64, Refused> {
        match self.verify_now(token) {
            Err(Refused::KeyUnknown | Refused::KeysUnavailable) if self.looked_again().await => {
                self.verify_now(token)
            }
            other => other,
        }
    }

    fn verify_now(&self, token: &Jws<'_>) -> Result<u64, Refused> {
        let (set, revision) = self.current()?;
        set.verify(token)?;
        Ok(revision)
    }

    /// The revision of the keys that count now; what was verified by another is verified anew.
    ///
    /// # Errors
    /// [`Refused::KeysUnavailable`].
    pub(super) fn revision(&self) -> Result<u64, Refused> {
        self.current().map(|(_, revision)| revision)
    }

    fn current(&self) -> Result<(Arc<KeySet>, u64), Refused> {
        let state = self.state.borrow();
        let fresh = state.fetched.is_some_and(|fetched| fetched.elapsed() <= self.max_stale);
        let set = state.set.as_ref().filter(|_| fresh).ok_or(Refused::KeysUnavailable)?;
        Ok((Arc::clone(set), state.revision))
    }

    /// Has the keys fetched anew, if that was not done just now, and waits for it. Answers whether a round ended.
    async fn looked_again(&self) -> bool {
        let (seen, due) = {
            let state = self.state.borrow();
            (state.rounds, state.under_way || state.tried.is_none_or(|tried| tried.elapsed() >= WINDOW))
        };
        if !due {
            return false;
        }
        self.wanted.notify_one();
        let mut changes = self.state.subscribe();
        timeout(PATIENCE, changes.wait_for(|state| state.rounds > seen))
            .await
            .is_ok_and(|ended| ended.is_ok())
    }

    /// Fetches, regularly and when asked to. Does not end.
    pub(super) async fn keep<F, R>(&self, fetch: F, clock: Arc<dyn Clock>, metrics: Metrics)
    where
        F: Fn() -> R,
        R: Future<Output = Result<KeySet, Unfetched>>,
    {
        loop {
            self.state.send_modify(|state| {
                state.under_way = true;
                state.tried = Some(Instant::now());
            });
            let fetched = timeout(LONGEST, fetch()).await.unwrap_or(Err(Unfetched::Late));
            metrics
                .keys_fetched(&self.issuer, fetched.as_ref().map(|_| clock.now()).map_err(Unfetched::as_str));
            let pause = if fetched.is_ok() { self.refresh } else { self.refresh.min(AFTER_FAILURE) };
            self.take(fetched);
            tokio::select! {
                () = tokio::time::sleep(spread(pause)) => {}
                () = self.asked_for() => {}
            }
        }
    }

    fn take(&self, fetched: Result<KeySet, Unfetched>) {
        self.state.send_modify(|state| {
            state.under_way = false;
            state.rounds = state.rounds.wrapping_add(1);
            match fetched {
                Ok(set) => {
                    state.fetched = Some(Instant::now());
                    if state.set.as_deref() != Some(&set) {
                        state.revision = state.revision.wrapping_add(1);
                        tracing::info!(issuer = self.issuer, keys = set.len(), "the issuer's keys are new");
                        state.set = Some(Arc::new(set));
                    }
                }
                Err(cause) => {
                    let age = state.fetched.map(|fetched| fetched.elapsed().as_secs());
                    tracing::warn!(
                        issuer = self.issuer,
                        %cause,
                        seconds_since_last = age,
                        "the issuer's keys could not be fetched; those before count until they are too old"
                    );
                }
            }
        });
    }

    /// Somebody wants the keys, and the last attempt is long enough ago.
    async fn asked_for(&self) {
        loop {
            self.wanted.notified().await;
            if self.state.borrow().tried.is_none_or(|tried| tried.elapsed() >= WINDOW) {
                return;
            }
        }
    }
}

/// Brokers that were started together are not to ask together.
fn spread(pause: Duration) -> Duration {
    pause.mul_f64(0.9 + 0.1 * fastrand::f64())
}

/// An issuer is asked for an unknown key at most this often.
const WINDOW: Duration = Duration::from_secs(10);
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// Of one round, all its calls together.
const LONGEST: Duration = Duration::from_secs(5);
/// Longer than a round, so that a request hears how it ended.
const PATIENCE: Duration = Duration::from_secs(6);

#[cfg(test)]
mod tests;
