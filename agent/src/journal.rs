//! Reads that the cache answered, on their way into the audit ledger.
//!
//! A value that is served from the cache is a disclosure like any other, and only the agent saw it. So each is written
//! down before it is served, counted by lease and process, and shipped to the broker in batches, every few seconds: what is
//! read a thousand times in between is one line. The journal has a bounded number of lines. While it is full, which takes a long outage and very many different readers, nothing is served from
//! the cache: a disclosure that nobody could account for does not happen.
//!
//! The journal is in memory. If the agent is killed, what it served since the last batch, a few seconds' worth while
//! the broker answers, is lost to the ledger; the leases under which it was served are there all the same. A file would
//! have to be synced before every read from the cache to be worth more. Where the agent keeps a [state](crate::state),
//! what waits is part of it, so that a restart in an outage loses no more than those seconds. A batch whose answer was
//! lost is shipped again, so the ledger may count a read twice and never counts one too few.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bursar_core::Clock;
use bursar_core::retry::Retry;
use bursar_core::tasks::Tasks;
use bursar_proto::convert::{timestamp_from_wire, timestamp_to_wire};
use bursar_proto::limits;
use bursar_proto::v1::audit_client::AuditClient;
use bursar_proto::v1::{AuditJournalRequest, LocalRead, WorkloadContext};
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::attest::{Identity, Workload};
use crate::cache::Holding;
use crate::telemetry::Metrics;
use crate::upstream::{Failure, Upstream};

/// The reads that the broker does not know of yet.
#[derive(Debug)]
pub struct Journal {
    lines: Mutex<Lines>,
    capacity: usize,
    /// It is half full, and does not wait for the time to ship.
    filling: Notify,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: HashMap<Line, Count>,
    /// On their way.
    shipping: HashMap<Line, Count>,
}

/// Who read what: one process under one lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    lease_id: String,
    instance: String,
    identity: Identity,
}

#[derive(Debug, Clone)]
struct Count {
    /// Without the handle on the process, of which there are only so many.
    reader: Arc<WorkloadContext>,
    reads: u64,
    first: Timestamp,
    last: Timestamp,
}

/// A line that the broker does not have.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub read: LocalRead,
    pub identity: Identity,
}

/// There is no room to write a read down, so it must not be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Journal {
    /// Empty.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_capacity(clock, CAPACITY)
    }

    pub(crate) fn with_capacity(clock: Arc<dyn Clock>, capacity: usize) -> Self {
        Self { lines: Mutex::default(), capacity, filling: Notify::new(), clock }
    }

    /// Writes down that `reader` is about to get what stands on these leases: all of them or none.
    ///
    /// # Errors
    /// [`Full`].
    pub fn write<'leases>(
        &self,
        reader: &Arc<Workload>,
        leases: impl Iterator<Item = &'leases Arc<Holding>>,
    ) -> Result<(), Full> {
        let now = self.clock.now();
        let line = |holding: &Arc<Holding>| Line {
            lease_id: holding.id().to_owned(),
            instance: reader.instance().to_owned(),
            identity: reader.identity(),
        };
        let read: Vec<_> = leases.map(line).collect();
        let mut lines = self.lines();
        let room = self.capacity.saturating_sub(lines.len());
        // Where there is room for all it need not be known which are new.
        if room < read.len() && room < read.iter().filter(|line| !lines.waiting.contains_key(*line)).count() {
            return Err(Full);
        }
        for line in read {
            let count = lines.waiting.entry(line).or_insert_with(|| Count {
                reader: Arc::clone(reader.context()),
                reads: 0,
                first: now,
                last: now,
            });
            count.reads = count.reads.saturating_add(1);
            count.last = now;
        }
        if lines.len() > self.capacity / 2 {
            self.filling.notify_one();
        }
        Ok(())
    }

    /// Whether this many more lines fit.
    pub fn has_room(&self, lines: usize) -> bool {
        self.len().saturating_add(lines) <= self.capacity
    }

    /// How many lines the broker does not have, as far as is known.
    pub fn len(&self) -> usize {
        self.lines().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the broker does not have, as far as is known: each line for the broker, and who read.
    pub fn waiting(&self) -> Vec<Waiting> {
        let waiting =
            |(line, count): (&Line, &Count)| Waiting { read: count.of(line), identity: line.identity };
        let lines = self.lines();
        lines.waiting.iter().chain(&lines.shipping).map(waiting).collect()
    }

    /// Takes up what waited in an agent before this one. What there is no room for is left.
    pub fn take_up(&self, waiting: Vec<Waiting>) {
        let mut lines = self.lines();
        for Waiting { read, identity } in waiting {
            let Some(reader) = read.workload.filter(|_| lines.len() < self.capacity) else { continue };
            let time = |wire| timestamp_from_wire("at", wire).unwrap_or_else(|_| self.clock.now());
            let (first, last) = (time(read.first_at), time(read.last_at));
            let line = Line { lease_id: read.lease_id, instance: reader.instance.clone(), identity };
            let count = Count { reader: Arc::new(reader), reads: read.count, first, last };
            count.add_to(&mut lines.waiting, line);
        }
    }

    /// Ships what waits, every few seconds or when the journal is half full, until the process stops, and then what is left.
    pub async fn ship(&self, upstream: &Upstream, metrics: &Metrics, tasks: &Tasks) {
        // Time is up, or room is short: either way there is something to ship.
        while tasks.until_stopping(tokio::time::timeout(INTERVAL, self.filling.notified())).await.is_some() {
            metrics.journal_lines.set(i64::try_from(self.len()).unwrap_or(i64::MAX));
            if tasks.until_stopping(self.flush(upstream, metrics, Retry::BACKGROUND)).await == Some(false) {
                // However short room is by now: a broker that takes nothing is not asked at each read.
                tasks.until_stopping(tokio::time::sleep(INTERVAL)).await;
            }
        }
        // What is read meanwhile is written down anew.
        while !self.is_empty() && self.flush(upstream, metrics, Retry::INTERACTIVE).await {}
    }

    /// Ships what waits at this moment, batch by batch, until the broker cannot take more. Answers whether it took all.
    pub(crate) async fn flush(&self, upstream: &Upstream, metrics: &Metrics, retry: Retry) -> bool {
        let mut taken = Taken::from(self);
        while let Some(batch) = taken.split(limits::BATCH) {
            match retry.run(|| send(upstream, batch.requests())).await {
                Ok(()) => batch.done(metrics, "shipped"),
                Err(failure) if failure.is_final() && !is_of_all(&failure) => {
                    if !ship_singly(upstream, metrics, batch, retry).await {
                        return false;
                    }
                }
                Err(failure) => {
                    let lines = batch.lines.len() + taken.lines.len();
                    tracing::warn!(lines, error = %failure, "the journal could not be shipped");
                    return false;
                }
            }
        }
        true
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn len(&self) -> usize {
        self.waiting.len().saturating_add(self.shipping.len())
    }
}

impl Count {
    fn of(&self, line: &Line) -> LocalRead {
        LocalRead {
            lease_id: line.lease_id.clone(),
            workload: Some(WorkloadContext::clone(&self.reader)),
            count: self.reads,
            first_at: Some(timestamp_to_wire(self.first)),
            last_at: Some(timestamp_to_wire(self.last)),
        }
    }

    /// Puts it with what was counted since.
    fn add_to(self, lines: &mut HashMap<Line, Self>, line: Line) {
        match lines.get_mut(&line) {
            Some(later) => {
                later.reads = later.reads.saturating_add(self.reads);
                later.first = later.first.min(self.first);
            }
            None => drop(lines.insert(line, self)),
        }
    }
}

/// Whether the broker would refuse any journal of this node, so that taking lines apart does not help.
fn is_of_all(failure: &Failure) -> bool {
    use tonic::Code::{PermissionDenied, Unauthenticated, Unimplemented};
    matches!(failure, Failure::Answered(status) if matches!(status.code(), PermissionDenied | Unauthenticated | Unimplemented))
}

async fn send(upstream: &Upstream, reads: Vec<LocalRead>) -> Result<(), Failure> {
    upstream
        .ask(|channel| async move { AuditClient::new(channel).journal(AuditJournalRequest { reads }).await })
        .await
        .map(drop)
}

/// A batch is kept whole or not at all, so one line that the broker refuses would keep the others back for ever. A
/// refused line goes into the log instead, which is the last place left to account for it.
async fn ship_singly(upstream: &Upstream, metrics: &Metrics, mut taken: Taken<'_>, retry: Retry) -> bool {
    while let Some(one) = taken.split(1) {
        match retry.run(|| send(upstream, one.requests())).await {
            Ok(()) => one.done(metrics, "shipped"),
            Err(failure) if failure.is_final() => {
                for (line, count) in &one.lines {
                    tracing::error!(
                        lease_id = line.lease_id,
                        instance = line.instance,
                        reads = count.reads,
                        error = %failure,
                        "the broker refuses to take down reads from the cache"
                    );
                }
                one.done(metrics, "refused");
            }
            Err(_) => return false,
        }
    }
    true
}

/// What is being shipped. What is not done when it is dropped goes back, so that nothing is lost when shipping is broken
/// off.
struct Taken<'journal> {
    journal: &'journal Journal,
    lines: Vec<(Line, Count)>,
}

impl<'journal> Taken<'journal> {
    /// All that waits.
    fn from(journal: &'journal Journal) -> Self {
        let mut lines = journal.lines();
        let taken: Vec<_> = lines.waiting.drain().collect();
        lines.shipping.extend(taken.iter().cloned());
        drop(lines);
        Self { journal, lines: taken }
    }

    /// The next so many of them, if any are left.
    fn split(&mut self, count: usize) -> Option<Self> {
        let rest = self.lines.len().saturating_sub(count);
        let lines = self.lines.split_off(rest);
        (!lines.is_empty()).then_some(Self { journal: self.journal, lines })
    }

    fn requests(&self) -> Vec<LocalRead> {
        self.lines.iter().map(|(line, count)| count.of(line)).collect()
    }

    fn done(mut self, metrics: &Metrics, outcome: &'static str) {
        let mut lines = self.journal.lines();
        self.lines.iter().for_each(|(line, _)| drop(lines.shipping.remove(line)));
        drop(lines);
        metrics.journaled(outcome, self.lines.drain(..).map(|(_, count)| count.reads).sum());
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let mut lines = self.journal.lines();
        for (line, count) in self.lines.drain(..) {
            drop(lines.shipping.remove(&line));
            count.add_to(&mut lines.waiting, line);
        }
    }
}

const INTERVAL: Duration = Duration::from_secs(5);
/// About 16 MiB at the longest selectors, 2 MiB at usual ones.
const CAPACITY: usize = 8192;

#[cfg(test)]
mod tests;
