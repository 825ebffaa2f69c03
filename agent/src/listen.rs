//! The broker's events: one stream, opened again for as long as the process runs.
//!
//! While it is open, a value may be used without asking the broker, because a revocation would be heard. A stream that
//! does not resume after a known position begins with a gap: whatever happened before is unknown.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::Clock;
use bursar_core::retry::{Retry, Transient};
use bursar_proto::convert::timestamp_from_wire;
use bursar_proto::v1::secrets_client::SecretsClient;
use bursar_proto::v1::secrets_watch_response::Event;
use bursar_proto::v1::{SecretsWatchRequest, SecretsWatchResponse, WatchPosition};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::cache::Cache;
use crate::telemetry::Metrics;
use crate::upstream::{Failure, Upstream};

/// What following the events needs.
#[derive(Debug)]
pub struct Listener {
    pub cache: Arc<Cache>,
    pub upstream: Arc<Upstream>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    /// Tells the witness that there is more of the audit log.
    pub signed: Arc<Notify>,
}

impl Listener {
    /// Follows the events. Never ends.
    pub async fn listen(&self) {
        let mut channels = self.upstream.channels();
        let mut position = None;
        let (mut short, mut failed) = (0_u32, 0_u32);
        loop {
            // The keeper sends on this channel for as long as the process runs.
            let Ok(Some(channel)) = channels.wait_for(Option::is_some).await.map(|channel| channel.clone())
            else {
                return std::future::pending().await;
            };
            let opened = tokio::select! {
                opened = self.open(channel, position.clone()) => opened,
                _ = channels.changed() => continue,
            };
            let stream = match opened {
                Ok(stream) => stream,
                Err(failure) => {
                    failed = failed.saturating_add(1);
                    tokio::select! {
                        () = self.pause(failed, &failure) => {}
                        _ = channels.changed() => {}
                    }
                    continue;
                }
            };
            failed = 0;
            let began = Instant::now();
            self.begin(position.is_none());
            tokio::select! {
                () = self.follow(stream, &mut position) => {}
                _ = channels.changed() => {}
            }
            self.end();
            short = if began.elapsed() < SHORT { short.saturating_add(1) } else { 0 };
            if short > 1 {
                // It opens and ends at once, again and again.
                tokio::time::sleep(Retry::BACKGROUND.delay(short)).await;
            }
        }
    }

    async fn open(
        &self,
        channel: Channel,
        after: Option<WatchPosition>,
    ) -> Result<Streaming<SecretsWatchResponse>, Failure> {
        let opened =
            SecretsClient::new(channel).watch(SecretsWatchRequest { after }).await.map_err(Failure::of);
        self.upstream.note(opened.as_ref().err());
        opened.map(tonic::Response::into_inner).inspect_err(|failure| {
            tracing::warn!(error = %failure, "the broker's events do not arrive");
        })
    }

    /// Between two attempts, of which so many failed. What the broker refuses for good is tried again too: policies and
    /// brokers change. One that could not be reached is tried soon after it answered somebody else: until its events
    /// arrive, every read asks it.
    async fn pause(&self, failed: u32, failure: &Failure) {
        let wait = Retry::BACKGROUND.delay(failed).max(failure.retry_after().unwrap_or_default());
        let again = async {
            if failure.is_answer() {
                return std::future::pending().await;
            }
            self.upstream.answers_again().await;
            tokio::time::sleep(Retry::BACKGROUND.delay(failed.min(3))).await;
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = again => {}
        }
    }

    fn begin(&self, gap: bool) {
        if gap {
            self.cache.missed_events();
        }
        self.cache.listening(true);
        self.metrics.listening.set(1);
        self.signed.notify_one();
        tracing::info!(gap, "the broker's events arrive");
    }

    fn end(&self) {
        self.cache.listening(false);
        self.metrics.listening.set(0);
    }

    /// Takes events in until the stream ends, or until it is time to open another.
    async fn follow(
        &self,
        mut events: Streaming<SecretsWatchResponse>,
        position: &mut Option<WatchPosition>,
    ) {
        let leave = tokio::time::sleep(FOREVER);
        tokio::pin!(leave);
        loop {
            let event = tokio::select! {
                event = events.message() => event,
                () = &mut leave => return,
            };
            match event {
                Ok(Some(event)) => {
                    if let Some(Event::ReconnectAt(at)) = &event.event {
                        leave.as_mut().reset(Instant::now() + self.moment_before(at.at));
                    }
                    self.take(event.event);
                    *position = event.position.or(position.take());
                }
                Ok(None) => return tracing::info!("the broker ended the stream of events"),
                Err(status) => {
                    return tracing::warn!(code = ?status.code(), "the stream of events broke");
                }
            }
        }
    }

    fn take(&self, event: Option<Event>) {
        match event {
            Some(Event::LeaseRevoked(revoked)) => {
                self.metrics.event("lease_revoked");
                self.cache.ended(&revoked.lease_id);
                tracing::info!(lease_id = revoked.lease_id, "a lease was revoked");
            }
            Some(Event::VersionChanged(changed)) => {
                self.metrics.event("version_changed");
                self.cache.changed(&changed.reference);
            }
            Some(Event::CheckpointSigned(_)) => {
                self.metrics.event("checkpoint_signed");
                self.signed.notify_one();
            }
            Some(Event::ReconnectAt(_)) => self.metrics.event("reconnect_at"),
            // An event of a later release may mean anything, so it means a gap.
            Some(Event::Resync(_)) | None => {
                self.metrics.event("resync");
                self.cache.missed_events();
            }
        }
    }

    /// A moment of the agent's own choice before the time given, so that not every node returns at once.
    fn moment_before(&self, at: Option<prost_types::Timestamp>) -> Duration {
        let left = timestamp_from_wire("at", at).ok().map(|at| at.duration_since(self.clock.now()));
        let left = left.and_then(|left| Duration::try_from(left).ok()).unwrap_or_default();
        left.min(FOREVER).mul_f64(fastrand::f64())
    }
}

/// A stream that ended sooner counts as an attempt that failed.
const SHORT: Duration = Duration::from_secs(10);
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests;
