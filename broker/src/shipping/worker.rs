//! The task of one sink: take what the ledger has and the sink has not, hand it over, write down how far that went.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::AuditRecord;
use bursar_core::retry::{Retry, Transient};
use tokio::sync::Mutex;

use super::{Ground, Line, Sink, SinkError, SinkFault, Standing};
use crate::ledger::{Change, Entry, LedgerError};

pub(super) struct Worker {
    standing: Arc<Standing>,
    /// Locked by the one attempt under way; the lock lets the retry policy borrow it again for the next.
    sink: Mutex<Box<dyn Sink>>,
    ground: Ground,
    /// A sink has so long to take a batch.
    pub(super) limit: Duration,
}

impl Worker {
    pub(super) fn new(standing: Arc<Standing>, sink: Box<dyn Sink>, ground: Ground) -> Self {
        Self { standing, sink: Mutex::new(sink), ground, limit: LIMIT }
    }

    /// Ships until the broker stops. What is not shipped then is shipped after the next start.
    pub(super) async fn run(self) {
        let tasks = self.ground.tasks.clone();
        tasks.until_stopping(self.ship()).await;
    }

    async fn ship(&self) {
        let Ok(mut position) = Retry::BACKGROUND.run(|| self.known_position()).await else { return };
        self.standing.shipped(position);
        let mut appended = self.ground.ledger.appended();
        loop {
            let Ok(lines) = Retry::BACKGROUND.run(|| self.lines(position)).await else { return };
            let Some(last) = lines.last() else {
                if appended.wait_for(|size| *size > position).await.is_err() {
                    return;
                }
                continue;
            };
            let next = last.seq + 1;
            self.standing.begins(lines.first().and_then(time));
            let delivered = Retry::BACKGROUND.run(|| self.deliver(&lines)).await;
            let kept = Retry::BACKGROUND.run(|| self.keep(next)).await;
            if delivered.is_err() || kept.is_err() {
                return;
            }
            position = next;
            self.standing.shipped(position);
            self.ground.metrics.shipped(&self.standing.name, lines.len());
        }
    }

    async fn known_position(&self) -> Result<u64, Asking> {
        Ok(self.ground.ledger.shipped(&self.standing.name).await?)
    }

    /// The next records for the sink; none while it has all.
    async fn lines(&self, position: u64) -> Result<Arc<[Line]>, Asking> {
        let found = self.ground.ledger.audit_lines(position, BATCH).await;
        let (first, found) = match found {
            Ok(found) => (position, found),
            Err(LedgerError::Pruned { from, first }) => {
                tracing::warn!(
                    sink = self.standing.name,
                    from,
                    first,
                    "records were pruned before this sink was there to get them"
                );
                (first, self.ground.ledger.audit_lines(first, BATCH).await?)
            }
            Err(error) => return Err(error.into()),
        };
        let mut bytes = 0;
        let fitting = found.iter().take_while(|line| {
            bytes += line.len();
            bytes <= BATCH_BYTES
        });
        let count = fitting.count().max(1);
        let lines = (first..).zip(found).take(count);
        Ok(lines.map(|(seq, bytes)| Line { seq, bytes }).collect())
    }

    async fn deliver(&self, lines: &Arc<[Line]>) -> Result<(), SinkError> {
        let mut sink = self.sink.lock().await;
        let delivered = match tokio::time::timeout(self.limit, sink.deliver(lines)).await {
            Ok(delivered) => delivered,
            Err(_) => Err(SinkError::new(SinkFault::Timeout, format!("no answer within {:?}", self.limit))),
        };
        match &delivered {
            Ok(()) => self.standing.well(),
            Err(error) => {
                self.standing.fails(error);
                self.ground.metrics.failed(&self.standing.name, error.kind.as_str());
            }
        }
        delivered
    }

    async fn keep(&self, position: u64) -> Result<(), Asking> {
        let change = Change::Shipped { sink: self.standing.name.clone(), position };
        self.ground.ledger.commit(Entry { changes: vec![change], records: Vec::new() }).await?;
        Ok(())
    }
}

/// A question to the ledger, which is asked again until the ledger is closed.
#[derive(Debug)]
struct Asking(LedgerError);

impl From<LedgerError> for Asking {
    fn from(error: LedgerError) -> Self {
        Self(error)
    }
}

impl Transient for Asking {
    fn is_transient(&self) -> bool {
        !matches!(self.0, LedgerError::Closed)
    }
}

fn time(line: &Line) -> Option<jiff::Timestamp> {
    AuditRecord::from_line(&line.bytes).ok().map(|record| record.time)
}

/// Records handed over at once.
const BATCH: usize = 512;
/// Their bytes: well below what collectors take in one message.
const BATCH_BYTES: usize = 1024 * 1024;
/// Longer than a healthy sink takes under load.
const LIMIT: Duration = Duration::from_secs(10);
