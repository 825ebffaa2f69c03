//! One read at a time for each credential slot, so that two that come together do not make two credentials.
//!
//! Whoever waited while another's read of the same slot failed at the store has that failure for an answer: a store that
//! does not answer is asked once for all who wait, not once after the other for each. Whoever comes later asks it.
//!
//! Slots are there for as long as somebody holds or waits for them, so there are never more than reads under way.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bursar_core::backend::BackendError;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use crate::ledger::CredentialSlot;

/// The slots that are being read.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<CredentialSlot, Line>>);

/// Those who read one slot, and the last failure that one of them met.
type Line = Arc<tokio::sync::Mutex<Option<(Instant, BackendError)>>>;

/// To be held from looking for a credential until the lease on it is durable.
pub(super) struct Turn {
    // Let go before the place is, which counts who else is there.
    last: OwnedMutexGuard<Option<(Instant, BackendError)>>,
    began: Instant,
    _place: Place,
}

impl Turns {
    /// Waits until nobody else reads any of `slots`. They are taken in one order by everybody, so that no two wait for
    /// each other.
    pub(super) async fn take(
        self: &Arc<Self>,
        mut slots: Vec<CredentialSlot>,
    ) -> HashMap<CredentialSlot, Turn> {
        let began = Instant::now();
        slots.sort_unstable();
        slots.dedup();
        let mut taken = HashMap::with_capacity(slots.len());
        for slot in slots {
            let place = Place::new(self, &slot);
            let last = Arc::clone(&place.line).lock_owned().await;
            taken.insert(slot, Turn { last, began, _place: place });
        }
        taken
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<CredentialSlot, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// How the store failed while this waited.
    pub(super) fn failure(&self) -> Option<BackendError> {
        self.last.as_ref().filter(|(at, _)| *at >= self.began).map(|(_, error)| error.clone())
    }

    /// Tells those who wait.
    pub(super) fn failed(&mut self, error: &BackendError) {
        *self.last = Some((Instant::now(), error.clone()));
    }
}

/// Somebody's place among those who read a slot.
struct Place {
    turns: Arc<Turns>,
    slot: CredentialSlot,
    line: Line,
}

impl Place {
    fn new(turns: &Arc<Turns>, slot: &CredentialSlot) -> Self {
        let line = Arc::clone(turns.lines().entry(slot.clone()).or_default());
        Self { turns: Arc::clone(turns), slot: slot.clone(), line }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.turns.lines();
        // The table's and this one: nobody else is there, and nobody can come while the table is locked.
        if Arc::strong_count(&self.line) <= 2 {
            lines.remove(&self.slot);
        }
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").field("slots", &self.lines().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use bursar_core::backend::{ErrorKind, Operation};
    use bursar_core::{BackendName, Reference, SpiffeId};
    use futures_util::FutureExt;

    use super::*;

    fn slot(instance: &str) -> CredentialSlot {
        let principal = SpiffeId::parse("spiffe://example.org/workload/web").expect("id");
        let reference = Reference::parse("vault/db").expect("reference");
        CredentialSlot::new(&principal, None, instance, None, &reference)
    }

    fn error() -> BackendError {
        BackendError::new(ErrorKind::Timeout, &BackendName::parse("vault").expect("name"), Operation::Issue)
    }

    #[tokio::test]
    async fn one_slot_is_read_by_one_at_a_time_and_nothing_is_left_of_it() {
        let turns = Arc::new(Turns::default());
        let first = turns.take(vec![slot("a"), slot("b")]).await;
        let mut second = pin!(turns.take(vec![slot("b")]));
        assert!(second.as_mut().now_or_never().is_none());
        drop(turns.take(vec![slot("c")]).await);
        drop(first);
        drop(second.await);
        assert!(turns.lines().is_empty());
    }

    #[tokio::test]
    async fn one_that_gives_up_waiting_leaves_nothing_behind() {
        let turns = Arc::new(Turns::default());
        let first = turns.take(vec![slot("a")]).await;
        assert!(turns.take(vec![slot("a")]).now_or_never().is_none());
        drop(first);
        assert!(turns.lines().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_shared_by_those_who_waited_for_it_and_nobody_else() {
        let turns = Arc::new(Turns::default());
        let mut first = turns.take(vec![slot("a")]).await;
        let mut second = pin!(turns.take(vec![slot("a")]));
        assert!(second.as_mut().now_or_never().is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        first.get_mut(&slot("a")).expect("a turn").failed(&error());
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut third = pin!(turns.take(vec![slot("a")]));
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        let second = second.await;
        assert_eq!(second.get(&slot("a")).expect("a turn").failure(), Some(error()));
        drop(second);
        assert_eq!(third.await.get(&slot("a")).expect("a turn").failure(), None);
    }
}
