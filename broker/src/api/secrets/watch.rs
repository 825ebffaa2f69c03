//! A stream of events for one listener: what it missed, what happens, and in between the checkpoints of the log.
//!
//! A stream does not last for ever. Some time before its end the listener is told to open another, at a moment of its own
//! choice, so that those who came together do not come back together.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::tasks::Tasks;
use bursar_core::{Clock, SpiffeId};
use bursar_proto::convert::timestamp_to_wire;
use bursar_proto::v1::secrets_watch_response::Event;
use bursar_proto::v1::{
    CheckpointSigned, LeaseRevoked, ReconnectAt, Resync, SecretsWatchResponse, VersionChanged, WatchPosition,
};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use crate::lease::{Heard, Next, Opened};
use crate::ledger::Ledger;

/// A stream, from its beginning on.
pub(super) struct Listening {
    pub(super) listener: SpiffeId,
    pub(super) ledger: Ledger,
    pub(super) origin: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) events: mpsc::Sender<Result<SecretsWatchResponse, Status>>,
}

impl Listening {
    /// Sends events until the listener goes, the broker stops, or the stream has lasted long enough.
    pub(super) async fn send(self, opened: Opened, tasks: Tasks) {
        tasks.until_stopping(self.send_all(opened)).await;
    }

    async fn send_all(self, opened: Opened) -> Option<()> {
        let Opened { mut watch, resumes, position } = opened;
        if !resumes {
            self.start_anew(position).await?;
        }
        let end = Instant::now() + spread(LIFE);
        let mut signed = None;
        let mut sign_at = Instant::now() + spread(CHECKPOINTS);
        let mut warned = false;
        loop {
            let warn_at = if warned { end } else { end - NOTICE };
            tokio::select! {
                next = watch.hear() => self.pass(next).await?,
                () = sleep_until(sign_at) => {
                    sign_at = Instant::now() + spread(CHECKPOINTS);
                    let head = self.ledger.checkpoint().ok().filter(|head| signed != Some(head.size));
                    if let Some(head) = head {
                        signed = Some(head.size);
                        self.say_beside(Event::CheckpointSigned(CheckpointSigned { note: head.note })).await?;
                    }
                }
                () = sleep_until(warn_at) => {
                    if warned {
                        return None;
                    }
                    warned = true;
                    let at = self.clock.now().saturating_add(NOTICE).ok()?;
                    let at = Some(timestamp_to_wire(at));
                    self.say_beside(Event::ReconnectAt(ReconnectAt { at })).await?;
                }
                () = self.events.closed() => return None,
            }
        }
    }

    /// Passes on what is for this listener.
    async fn pass(&self, next: Next) -> Option<()> {
        match next {
            Next::Told(told) => match self.event(&told.heard) {
                Some(event) => self.say(self.at(told.sequence), told.at, event).await,
                None => Some(()),
            },
            Next::Lost { position } => self.start_anew(position).await,
        }
    }

    async fn start_anew(&self, position: u64) -> Option<()> {
        self.say(self.at(position), self.clock.now(), Event::Resync(Resync {})).await
    }

    /// Says what has no place among the events.
    async fn say_beside(&self, event: Event) -> Option<()> {
        self.say(None, self.clock.now(), event).await
    }

    fn event(&self, heard: &Heard) -> Option<Event> {
        match heard {
            Heard::Ended { id, reference, principal, node } => {
                let mine = *principal == self.listener || node.as_ref() == Some(&self.listener);
                let revoked = LeaseRevoked {
                    lease_id: id.to_string(),
                    reference: reference.to_string(),
                    reason: String::new(),
                };
                mine.then_some(Event::LeaseRevoked(revoked))
            }
            Heard::ManyEnded => Some(Event::Resync(Resync {})),
            Heard::Changed { reference, version, holders } => {
                let version = version.as_ref().map(ToString::to_string).unwrap_or_default();
                let changed = VersionChanged { reference: reference.to_string(), version };
                holders.contains(&self.listener).then_some(Event::VersionChanged(changed))
            }
        }
    }

    fn at(&self, sequence: u64) -> Option<WatchPosition> {
        Some(WatchPosition { origin: self.origin.clone(), sequence })
    }

    /// Nothing: nobody listens any more.
    async fn say(&self, position: Option<WatchPosition>, at: Timestamp, event: Event) -> Option<()> {
        let message =
            SecretsWatchResponse { position, time: Some(timestamp_to_wire(at)), event: Some(event) };
        self.events.send(Ok(message)).await.ok()
    }
}

/// Where a listener says that it was; nothing where that is a place of another broker's.
pub(super) fn place(origin: &str, after: Option<WatchPosition>) -> Option<u64> {
    after.filter(|position| position.origin == origin).map(|position| position.sequence)
}

/// A tenth more or less, so that what began together does not come together.
fn spread(time: Duration) -> Duration {
    time.mul_f64(0.9 + fastrand::f64() / 5.0)
}

/// Of a stream. Brokers that are added get listeners in this time.
const LIFE: Duration = Duration::from_secs(3600);
/// Before its end, for the listener to choose a moment in.
const NOTICE: Duration = Duration::from_secs(60);
const CHECKPOINTS: Duration = Duration::from_secs(60);
