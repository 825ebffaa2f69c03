//! Long-lived tasks by name, and the order in which a process goes down.
//!
//! A task that ends or panics while the process is meant to run is a fault that nobody would notice: the reaper stops
//! and leases no longer expire. So every task is spawned here under a name, and one that ends early starts the
//! shutdown, which `main` turns into a failing exit code. Short work that must outlive the request that began it (such
//! as finishing an issuance whose caller hung up) is spawned here too, by [`Tasks::finish`], and drained at the end.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::task::TaskTracker;

/// Spawns tasks and tells them when to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: Arc<watch::Sender<Stop>>,
}

/// Why the process goes down, once it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It does not.
    No,
    /// It was asked to.
    Asked,
    /// A task that must run ended.
    TaskEnded {
        /// Which.
        task: &'static str,
    },
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self { tracker: TaskTracker::new(), stop: Arc::new(watch::Sender::new(Stop::No)) }
    }

    /// Spawns a task that runs until [`Tasks::stopping`]; its end before that brings the process down.
    #[expect(clippy::disallowed_methods, reason = "this is the tracker that everything is spawned through")]
    pub fn run(&self, task: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        let handle = tokio::spawn(work);
        self.tracker.spawn(async move {
            let end = handle.await;
            let early = stop.send_if_modified(|stop| {
                let early = *stop == Stop::No;
                if early {
                    *stop = Stop::TaskEnded { task };
                }
                early
            });
            if early {
                tracing::error!(task, panicked = end.is_err(), "task ended early");
            }
        });
    }

    /// Spawns work that has an end and must reach it, whoever waits for it.
    pub fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.tracker.spawn(work)
    }

    /// Starts the shutdown.
    pub fn stop(&self) {
        self.stop.send_if_modified(|stop| {
            let first = *stop == Stop::No;
            if first {
                *stop = Stop::Asked;
            }
            first
        });
    }

    /// Waits for the shutdown to start and says why it did.
    pub async fn stopping(&self) -> Stop {
        let mut seen = self.stop.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        seen.wait_for(|stop| *stop != Stop::No).await.map_or(Stop::Asked, |stop| *stop)
    }

    /// Does `work`, and drops it where the shutdown starts before its end.
    pub async fn until_stopping<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            _ = self.stopping() => None,
        }
    }

    /// Does `work`, such as a connection, which may last for `life` and until the shutdown starts. Then `wind_down` tells it
    /// to come to its end, for which it has `last`. Nothing, when it did not.
    pub async fn see_out<W: Future>(
        &self,
        work: W,
        life: Duration,
        wind_down: impl FnOnce(Pin<&mut W>),
        last: Duration,
    ) -> Option<W::Output> {
        let mut work = pin!(work);
        if let Some(Ok(done)) = self.until_stopping(tokio::time::timeout(life, work.as_mut())).await {
            return Some(done);
        }
        wind_down(work.as_mut());
        tokio::time::timeout(last, work).await.ok()
    }

    /// Ticks until the shutdown starts: at once, and then every `period`. Work that takes longer puts the next tick off.
    pub fn ticks(&self, period: Duration) -> Ticks {
        let mut interval = tokio::time::interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ticks { interval, tasks: self.clone() }
    }

    /// Waits until every task has ended, at most for `grace`; answers whether they all did.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.stop();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

/// Moments at which regular work is done.
#[derive(Debug)]
pub struct Ticks {
    interval: Interval,
    tasks: Tasks,
}

impl Ticks {
    /// Waits for the next one. False: the shutdown starts, and there is none.
    pub async fn next(&mut self) -> bool {
        self.tasks.until_stopping(self.interval.tick()).await.is_some()
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_early_stops_the_process_and_is_named() {
        let tasks = Tasks::new();
        tasks.run("reaper", async {});
        assert_eq!(tasks.stopping().await, Stop::TaskEnded { task: "reaper" });
    }

    #[tokio::test]
    async fn a_task_that_ends_after_the_stop_is_no_fault() {
        let tasks = Tasks::new();
        let until = tasks.clone();
        tasks.run("reaper", async move {
            until.stopping().await;
        });
        assert!(tasks.drain(Duration::from_secs(5)).await);
        assert_eq!(tasks.stopping().await, Stop::Asked);
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_come_until_the_shutdown_starts_and_never_two_for_one_that_was_missed() {
        let tasks = Tasks::new();
        let (mut ticks, begun) = (tasks.ticks(Duration::from_secs(10)), tokio::time::Instant::now());
        assert!(ticks.next().await && begun.elapsed().is_zero());
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert!(ticks.next().await && begun.elapsed().as_secs() == 25);
        assert!(ticks.next().await && begun.elapsed().as_secs() == 35);
        tasks.stop();
        assert!(!ticks.next().await);
        assert_eq!(tasks.until_stopping(std::future::pending::<()>()).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_gives_up_after_the_grace() {
        let tasks = Tasks::new();
        drop(tasks.finish(std::future::pending::<()>()));
        assert!(!tasks.drain(Duration::from_secs(5)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_lasted_long_enough_is_told_to_end_and_dropped_when_it_does_not() {
        let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
        let tasks = Tasks::new();
        assert_eq!(tasks.see_out(async { 1 }, minute, |_| panic!("it was done"), second).await, Some(1));
        let told = tokio::sync::Notify::new();
        let began = tokio::time::Instant::now();
        let polite = async { told.notified().await };
        assert_eq!(tasks.see_out(polite, minute, |_| told.notify_one(), second).await, Some(()));
        assert_eq!(began.elapsed(), minute);
        let stubborn = std::future::pending::<()>();
        assert_eq!(tasks.see_out(stubborn, minute, |_| (), second).await, None);
        assert_eq!(began.elapsed(), 2 * minute + second);
        tasks.stop();
        let polite = async { told.notified().await };
        assert_eq!(tasks.see_out(polite, minute, |_| told.notify_one(), second).await, Some(()));
        assert_eq!(began.elapsed(), 2 * minute + second);
    }
}
