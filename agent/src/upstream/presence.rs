//! Whether the broker is there, as the calls to it show.
//!
//! A broker that was killed refuses connections, and every call fails at once. One behind a network that swallows packets
//! says nothing: a call would wait for its whole deadline, and so would the next. What a call shows is therefore kept for
//! the others. While the broker is away, whoever has an older answer to fall back on does not wait for it, and one call in
//! each [`TRIAL`] finds out whether it is back.
//!
//! A call that is slow is no sign of that: a store may be. So whoever waits for long asks the broker whether it is there,
//! one for all who wait.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::Instant;

/// What the last calls showed.
#[derive(Debug, Default)]
pub(super) struct Presence {
    state: Mutex<State>,
    /// Held by the one that asks whether the broker is there.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    answered: Option<Instant>,
    missed: Option<Instant>,
    /// When the next call may show whether the broker is back; nothing while it is there.
    try_at: Option<Instant>,
}

impl Presence {
    /// The broker answered something.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        (state.answered, state.try_at) = (Some(Instant::now()), None);
    }

    /// It could not be reached.
    pub(super) fn missed(&self) {
        let (mut state, now) = (self.state(), Instant::now());
        (state.missed, state.try_at) = (Some(now), Some(now + TRIAL));
    }

    /// How long ago it answered last.
    pub(super) fn last_answer(&self) -> Option<Duration> {
        self.state().answered.map(|at| at.elapsed())
    }

    /// Whether the last call did not reach it.
    pub(super) fn is_away(&self) -> bool {
        self.state().try_at.is_some()
    }

    /// Whether this call is the one that shows whether the broker is back.
    pub(super) fn take_trial(&self) -> bool {
        let (mut state, now) = (self.state(), Instant::now());
        let due = state.try_at.is_some_and(|at| at <= now);
        if due {
            state.try_at = Some(now + TRIAL);
        }
        due
    }

    /// What showed since then, the newest: whether the broker is there.
    pub(super) fn shown_since(&self, then: Instant) -> Option<bool> {
        let State { answered, missed, .. } = *self.state();
        let newest = answered.max(missed).filter(|at| *at >= then)?;
        Some(answered == Some(newest))
    }

    /// For whoever asks whether the broker is there: one at a time.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.asking.lock().await
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While the broker is away.
const TRIAL: Duration = Duration::from_secs(1);
