//! One call to the broker at a time for the same thing, however many callers wait for it.
//!
//! The call runs as a task of its own: a caller that hangs up takes nothing away from the others, and what the broker
//! disclosed and counted as disclosed is not lost with whoever asked first.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bursar_core::tasks::Tasks;
use tokio::sync::watch;

use super::Key;

type Landed<T> = watch::Receiver<Option<T>>;

/// The calls that are under way.
#[derive(Debug)]
pub struct Flights<T> {
    under_way: Arc<Mutex<HashMap<Key, Landed<T>>>>,
    tasks: Tasks,
}

/// What came of a call.
#[derive(Debug)]
pub struct Arrival<T> {
    pub outcome: T,
    /// Whether it was made for this caller; the others shared it.
    pub led: bool,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// Nothing is under way yet.
    pub fn new(tasks: Tasks) -> Self {
        Self { under_way: Arc::default(), tasks }
    }

    /// Waits for the call of `key`, which `start` makes if it is not under way. Nothing, when the call's task failed.
    pub async fn join<F>(&self, key: Key, start: impl FnOnce() -> F) -> Option<Arrival<T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (mut landed, led) = self.board(key, start);
        let outcome = landed.wait_for(Option::is_some).await.ok()?.clone()?;
        Some(Arrival { outcome, led })
    }

    /// Makes the call of `key`, if it is not under way, and waits for nothing.
    pub fn begin<F>(&self, key: Key, start: impl FnOnce() -> F)
    where
        F: Future<Output = T> + Send + 'static,
    {
        drop(self.board(key, start));
    }

    fn board<F>(&self, key: Key, start: impl FnOnce() -> F) -> (Landed<T>, bool)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(landed) = under_way.get(&key) {
            return (landed.clone(), false);
        }
        let (sender, landed) = watch::channel(None);
        under_way.insert(key, landed.clone());
        let end = End { under_way: Arc::clone(&self.under_way), key };
        let call = start();
        drop(self.tasks.finish(async move {
            let outcome = call.await;
            // Before anybody hears of it: who comes now looks into the cache, or asks anew.
            drop(end);
            sender.send_replace(Some(outcome));
        }));
        (landed, true)
    }
}

/// Takes the call off the list, also when its task panics.
struct End<T> {
    under_way: Arc<Mutex<HashMap<Key, Landed<T>>>>,
    key: Key,
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
