//! Shipping: every audit record, in order, to every sink that the configuration names.
//!
//! **From the ledger, behind it.** A record is shipped only after it is durable, by reading it back: the ledger is the
//! outbox. No request waits for a sink, and no queue between the two can fill up or be lost. A sink that is dead for a
//! week finds its records when it comes back.
//!
//! **At least once.** How far a sink has confirmed is kept in the ledger, under the sink's name, and moves only after the
//! sink has said so ([`Sink::deliver`]). What was on its way when the broker stopped is sent again.
//!
//! **Each for itself.** A sink has a task of its own and one batch under way. What blocks (a file on a network disk, a
//! pipe that nobody reads) does so on a thread of the sink's own, never on one that requests need (`threaded.rs`).
//!
//! Refused: writing to sinks in the request, as others do. There one device that hangs stops every secret.

mod file;
mod otlp;
mod retention;
mod standing;
mod stdout;
mod syslog;
mod threaded;
mod worker;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bursar_core::retry::Transient;
use bursar_core::tasks::Tasks;
use bursar_core::{Clock, SpiffeId};

pub use standing::{Shipping, Standing};

use crate::config::{AuditSettings, SinkConfig, SinkKind};
use crate::ledger::Ledger;
use crate::telemetry::SinkMetrics;
use worker::Worker;

/// Where records go.
#[async_trait]
pub(crate) trait Sink: Send {
    /// Hands over the records, in order. Returns once they are there, as durably as this kind of sink can say. The
    /// future may be dropped at any time; the same records are delivered again then.
    ///
    /// # Errors
    /// [`SinkError`]; any of the records may have arrived.
    async fn deliver(&mut self, lines: &Arc<[Line]>) -> Result<(), SinkError>;
}

/// One record as it is stored.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) seq: u64,
    /// JSON without a line end: the leaf of the transparency log.
    pub(crate) bytes: Vec<u8>,
}

/// What the sinks and the retention work with.
#[derive(Debug, Clone)]
pub struct Ground {
    pub ledger: Ledger,
    pub clock: Arc<dyn Clock>,
    pub metrics: SinkMetrics,
    /// The log's name, for sinks that take records of several brokers.
    pub origin: String,
    /// Who the broker is, in the records of what it does by itself.
    pub broker: SpiffeId,
    pub tasks: Tasks,
}

/// Starts a task for each sink, and the one that prunes what all of them have.
pub fn start(settings: &AuditSettings, ground: &Ground) -> Shipping {
    let mut standings = Vec::with_capacity(settings.sinks.len());
    for config in &settings.sinks {
        let standing = Arc::new(Standing::new(config));
        let worker = Worker::new(Arc::clone(&standing), open(config, ground), ground.clone());
        ground.tasks.run("audit sink", worker.run());
        standings.push(standing);
    }
    if let Some(age) = settings.retention {
        let names = settings.sinks.iter().map(|sink| sink.name.clone()).collect();
        ground.tasks.run("audit retention", retention::run(ground.clone(), names, age));
    }
    Shipping::new(standings, ground.ledger.clone(), Arc::clone(&ground.clock))
}

fn open(config: &SinkConfig, ground: &Ground) -> Box<dyn Sink> {
    match &config.kind {
        SinkKind::File(settings) => {
            Box::new(threaded::Threaded::new(file::File::new(settings.clone()), &config.name))
        }
        SinkKind::Stdout => Box::new(threaded::Threaded::new(stdout::Stdout, &config.name)),
        SinkKind::Syslog(place) => Box::new(syslog::Syslog::new(place.clone())),
        SinkKind::Otlp(settings) => Box::new(otlp::Otlp::new(settings.clone(), ground.origin.clone())),
    }
}

/// Why a sink has not taken records. It is asked again, whatever it was: a sink that is mended needs no restart.
#[derive(Debug)]
pub(crate) struct SinkError {
    pub(crate) kind: SinkFault,
    /// For the log and the status: what happened and to which thing.
    pub(crate) message: String,
}

/// How sinks fail. Low in cardinality: a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SinkFault {
    /// Nobody is there.
    Unreachable,
    /// It is there and does not want them.
    Refused,
    /// No answer in time.
    Timeout,
    /// Its disk is full.
    Full,
    /// A read, write or sync failed.
    Io,
    /// It can never work as it is configured.
    Misconfigured,
}

impl SinkFault {
    /// The name in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Full => "full",
            Self::Io => "io",
            Self::Misconfigured => "misconfigured",
        }
    }
}

impl SinkError {
    pub(crate) fn new(kind: SinkFault, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What the system said about `what`.
    pub(crate) fn of_io(what: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let kind = match error.kind() {
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => SinkFault::Full,
            K::ConnectionRefused
            | K::ConnectionReset
            | K::ConnectionAborted
            | K::NotConnected
            | K::BrokenPipe
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown
            | K::UnexpectedEof
            | K::NotFound => SinkFault::Unreachable,
            K::PermissionDenied | K::ReadOnlyFilesystem => SinkFault::Refused,
            K::IsADirectory | K::NotADirectory | K::InvalidInput => SinkFault::Misconfigured,
            K::TimedOut => SinkFault::Timeout,
            _ => SinkFault::Io,
        };
        Self::new(kind, format!("{what}: {error}"))
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Transient for SinkError {
    fn is_transient(&self) -> bool {
        true
    }
}
