//! What the broker told lately, for answers that were under way meanwhile.
//!
//! A value that was asked for before its lease was revoked may arrive after the word of it, when nothing in the cache
//! could be marked yet. So whoever stores an answer looks here for what happened since the question.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// The last events, a bounded number.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Event>,
    /// How many there ever were.
    total: u64,
}

/// What can happen to an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// This lease is over.
    Ended(String),
    /// This secret, `BACKEND/PATH`, has another version.
    Changed(String),
}

impl Recent {
    /// A point in the sequence of events, for [`Recent::since`].
    pub(super) fn mark(&self) -> u64 {
        self.ring().total
    }

    pub(super) fn push(&self, event: Event) {
        let mut ring = self.ring();
        ring.total += 1;
        ring.events.push_back(event);
        if ring.events.len() > KEPT {
            ring.events.pop_front();
        }
    }

    /// Whether an event that `concerns` somebody came after `mark`. One that is no longer known counts as such.
    pub(super) fn since(&self, mark: u64, mut concerns: impl FnMut(&Event) -> bool) -> bool {
        let ring = self.ring();
        let new = usize::try_from(ring.total.saturating_sub(mark)).unwrap_or(usize::MAX);
        new > ring.events.len() || ring.events.iter().rev().take(new).any(&mut concerns)
    }

    /// Whether `event` is known to have come after `mark`.
    pub(super) fn heard(&self, mark: u64, event: &Event) -> bool {
        let ring = self.ring();
        let new = usize::try_from(ring.total.saturating_sub(mark)).unwrap_or(usize::MAX);
        ring.events.iter().rev().take(new).any(|known| known == event)
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(id: &str) -> Event {
        Event::Ended(id.to_owned())
    }

    #[test]
    fn only_what_came_after_the_mark_counts() {
        let recent = Recent::default();
        recent.push(ended("before"));
        let mark = recent.mark();
        recent.push(ended("after"));
        assert!(!recent.since(mark, |event| *event == ended("before")));
        assert!(recent.since(mark, |event| *event == ended("after")));
    }

    #[test]
    fn what_is_no_longer_known_counts_as_concerning_everybody() {
        let recent = Recent::default();
        let mark = recent.mark();
        for _ in 0..=KEPT {
            recent.push(ended("other"));
        }
        assert!(recent.since(mark, |_| false));
    }
}
