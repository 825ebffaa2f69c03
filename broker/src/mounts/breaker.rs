//! A circuit breaker for each store: one that does not answer is not asked, but for one trial now and then.
//!
//! Without it a store that hangs takes each of its callers for the whole of a call's limit, and the revoker's queue with
//! them. Closed, every call passes; [`FAILURES`] in a row open it. Open, calls fail at once, until a wait is over that is
//! jittered and doubles with each trial that failed ([`Retry::BACKGROUND`]). Then one call passes as a trial, and what
//! comes of it closes the breaker or opens it again. The regular look at the store's health passes always, and one that
//! finds it well lets the trial come at once: a store that was unsealed is used within seconds.
//!
//! Only what says nothing about the request counts as a failure: unavailable, sealed, throttled, silent. A store that
//! refuses or does not find something has answered. So has one that failed within (HTTP status 500): that may be about
//! this one request, such as a role that the database will not drop, and must not keep everybody from the store.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bursar_core::backend::{BackendError, ErrorKind};
use bursar_core::retry::Retry;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::Instant;

/// Decides whether a store is asked.
#[derive(Debug)]
pub(super) struct Breaker {
    state: Mutex<State>,
    gauge: Gauge,
    came_back: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Failures since the last answer.
    failures: u32,
    /// How often the breaker opened since the last answer.
    openings: u32,
    /// Whether the store has failed since it was last known to be well.
    unwell: bool,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open {
        until: Instant,
        kind: ErrorKind,
    },
    /// One call is under way to find out.
    Trial {
        kind: ErrorKind,
    },
}

/// A call that may be made. Dropped without its outcome, since the caller went away, it has told nothing.
#[derive(Debug)]
pub(super) struct Admission<'breaker> {
    breaker: &'breaker Breaker,
    trial: Option<ErrorKind>,
}

/// The breaker is open.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// How the store failed last.
    pub(super) kind: ErrorKind,
    /// When it may be asked again.
    pub(super) wait: Duration,
}

impl Breaker {
    /// Closed; `gauge` shows 0 for closed, 1 for a trial, 2 for open.
    pub(super) fn new(gauge: Gauge) -> Self {
        gauge.set(CLOSED);
        let state = State { phase: Phase::Closed, failures: 0, openings: 0, unwell: false };
        Self { state: Mutex::new(state), gauge, came_back: watch::Sender::new(0) }
    }

    /// Lets a call pass, or says that it would be in vain.
    ///
    /// # Errors
    /// [`Open`].
    pub(super) fn admit(&self) -> Result<Admission<'_>, Open> {
        let mut state = self.state();
        let trial = match state.phase {
            Phase::Closed => None,
            Phase::Trial { kind } => return Err(Open { kind, wait: Duration::ZERO }),
            Phase::Open { until, kind } => {
                let wait = until.saturating_duration_since(Instant::now());
                if !wait.is_zero() {
                    return Err(Open { kind, wait });
                }
                self.enter(&mut state, Phase::Trial { kind });
                Some(kind)
            }
        };
        Ok(Admission { breaker: self, trial })
    }

    /// What a look at the store's health came to.
    pub(super) fn examined<T>(&self, result: &Result<T, BackendError>) {
        let mut state = self.state();
        match result {
            Ok(_) => {
                if let Phase::Open { kind, .. } = state.phase {
                    self.enter(&mut state, Phase::Open { until: Instant::now(), kind });
                }
                self.recovered(&mut state);
            }
            Err(error) => {
                state.unwell = true;
                if is_failure(error) && matches!(state.phase, Phase::Closed) {
                    self.failed(&mut state, error);
                }
            }
        }
    }

    /// Whether calls fail at once.
    pub(super) fn is_open(&self) -> bool {
        match self.state().phase {
            Phase::Closed => false,
            Phase::Trial { .. } => true,
            Phase::Open { until, .. } => Instant::now() < until,
        }
    }

    /// Changes each time that the store is found well after it was not.
    pub(super) fn came_back(&self) -> watch::Receiver<u64> {
        self.came_back.subscribe()
    }

    fn answered(&self) {
        let mut state = self.state();
        (state.failures, state.openings) = (0, 0);
        if !matches!(state.phase, Phase::Closed) {
            self.enter(&mut state, Phase::Closed);
            self.recovered(&mut state);
        }
    }

    fn failed(&self, state: &mut State, error: &BackendError) {
        state.failures = state.failures.saturating_add(1);
        state.unwell = true;
        let open = match state.phase {
            Phase::Closed => state.failures >= FAILURES,
            Phase::Trial { .. } => true,
            // It began before the breaker opened, and tells nothing new.
            Phase::Open { .. } => false,
        };
        if open {
            state.openings = state.openings.saturating_add(1);
            let wait = Retry::BACKGROUND.delay(state.openings);
            let asked = error.retry_after.unwrap_or_default().min(LONGEST_ASKED);
            let until = Instant::now() + wait.max(asked);
            self.enter(state, Phase::Open { until, kind: error.kind });
        }
    }

    fn recovered(&self, state: &mut State) {
        if std::mem::take(&mut state.unwell) {
            self.came_back.send_modify(|times| *times += 1);
        }
    }

    fn enter(&self, state: &mut State, phase: Phase) {
        state.phase = phase;
        self.gauge.set(match phase {
            Phase::Closed => CLOSED,
            Phase::Trial { .. } => TRIAL,
            Phase::Open { .. } => OPEN,
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission<'_> {
    /// Tells the breaker how the call ended.
    pub(super) fn ended<T>(mut self, result: &Result<T, BackendError>) {
        self.trial = None;
        match result.as_ref().err().filter(|error| is_failure(error)) {
            Some(error) => self.breaker.failed(&mut self.breaker.state(), error),
            None => self.breaker.answered(),
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if let Some(kind) = self.trial {
            // The next call is the trial.
            let mut state = self.breaker.state();
            if matches!(state.phase, Phase::Trial { .. }) {
                self.breaker.enter(&mut state, Phase::Open { until: Instant::now(), kind });
            }
        }
    }
}

fn is_failure(error: &BackendError) -> bool {
    match error.kind {
        ErrorKind::Unavailable if error.code == Some(FAILED_WITHIN) => false,
        ErrorKind::Unavailable | ErrorKind::Sealed | ErrorKind::Throttled | ErrorKind::Timeout => true,
        ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Denied
        | ErrorKind::Malformed
        | ErrorKind::Misconfigured => false,
    }
}

/// So many failures in a row open the breaker.
const FAILURES: u32 = 5;
/// However long a store asks to be left alone: it may be one path's quota that it speaks of.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// Internal Server Error, RFC 9110, section 15.6.1.
const FAILED_WITHIN: u16 = 500;

const CLOSED: i64 = 0;
const TRIAL: i64 = 1;
const OPEN: i64 = 2;

#[cfg(test)]
mod tests;
