//! An environment that is resolved again when that may bring something else.
//!
//! Two things lead there: an event that concerns one of its secrets, and the time at which its leases have to be
//! extended, a random 60 to 70 % of the shortest. Resolving again is what both ask for: it extends static leases and
//! renews credentials under the leases they have, makes another only where one cannot be extended any more, and brings
//! what is new. Events come together (a password and its user, a list of secrets that somebody writes): what follows
//! within [`QUIET`] belongs to the same change, for [`LONGEST_SET`] at most, so that a storm of writes is a resolve
//! every few seconds.
//!
//! Where events cannot be had, because policy does not allow `watch`, the leases' time alone is left.

use std::collections::BTreeSet;
use std::time::Duration;

use bursar_core::retry::Retry;
use bursar_proto::v1::secrets_watch_response::Event;
use bursar_proto::v1::{SecretsWatchRequest, SecretsWatchResponse, WatchPosition};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tonic::Streaming;

use crate::call::Setback;
use crate::client::Client;
use crate::environment::{ResolveOptions, ResolvedEnvironment};
use crate::error::Error;
use crate::{Lease, LeaseId};

/// Follows one environment.
#[derive(Debug)]
pub struct Follower {
    client: Client,
    environment: String,
    options: ResolveOptions,
    /// `BACKEND/PATH` of what is held.
    secrets: BTreeSet<String>,
    leases: BTreeSet<LeaseId>,
    due: Instant,
    /// Resolves that failed since the last that did not.
    failed: u32,
    events: Events,
    /// Of the last event that was heard.
    position: Option<WatchPosition>,
    /// Whether it was told that events are refused.
    told: bool,
}

/// What following an environment brings.
#[derive(Debug)]
pub enum Followed {
    /// It was resolved again.
    Resolved(ResolvedEnvironment),
    /// Events are refused for this reason: changes are seen when leases are extended, and not before. Said once.
    Deaf(Error),
}

#[derive(Debug)]
enum Events {
    Closed,
    Open(Box<Streaming<SecretsWatchResponse>>),
    /// Refused for good; tried again when the environment is next resolved.
    Refused,
}

impl Client {
    /// Follows an environment that was resolved with `options` a moment ago, and has `leases`.
    pub fn follow(&self, environment: &str, options: ResolveOptions, leases: &[Lease]) -> Follower {
        let mut follower = Follower {
            client: self.clone(),
            environment: environment.to_owned(),
            // Another credential each time is what nobody means.
            options: ResolveOptions { new_lease: false, ..options },
            secrets: BTreeSet::new(),
            leases: BTreeSet::new(),
            due: Instant::now(),
            failed: 0,
            events: Events::Closed,
            position: None,
            told: false,
        };
        follower.hold(leases, Instant::now());
        follower
    }
}

impl Follower {
    /// Waits until there may be something else, and resolves. What comes may be what was there.
    ///
    /// # Errors
    /// [`Error`], when it is refused; what was resolved before runs on to the end of its leases. Call it again: it waits
    /// longer each time.
    pub async fn next(&mut self) -> Result<Followed, Error> {
        let due = self.due;
        tokio::select! {
            () = sleep_until(due) => {}
            heard = self.heard() => match heard {
                Ok(()) => self.settle().await,
                Err(refused) => return Ok(Followed::Deaf(refused)),
            },
        }
        if matches!(self.events, Events::Refused) {
            self.events = Events::Closed;
        }
        let asked = Instant::now();
        let attempts = Retry::BACKGROUND.run(|| async {
            let resolved = self.client.resolve_once(&self.environment, &self.options).await;
            resolved.map_err(|error| Setback { passes: error.may_pass_in_time(), error })
        });
        match attempts.await {
            Ok(resolved) => {
                self.failed = 0;
                self.hold(&resolved.leases, asked);
                Ok(Followed::Resolved(resolved))
            }
            Err(Setback { error, .. }) => {
                self.failed = self.failed.saturating_add(1);
                self.due = Instant::now() + Retry::BACKGROUND.delay(self.failed);
                Err(error)
            }
        }
    }

    fn hold(&mut self, leases: &[Lease], asked: Instant) {
        let secret = |lease: &Lease| format!("{}/{}", lease.reference.backend, lease.reference.path);
        self.secrets = leases.iter().map(secret).collect();
        self.leases = leases.iter().map(|lease| lease.id).collect();
        let lives = leases
            .iter()
            .filter_map(|lease| Duration::try_from(lease.expires_at.duration_since(lease.renewed_at)).ok());
        let shortest = lives.min().unwrap_or(LONGEST_LIFE).min(LONGEST_LIFE);
        let share = 0.6 + fastrand::f64() / 10.0;
        self.due = asked + shortest.mul_f64(share).max(PAUSE);
    }

    /// Waits until nothing has been heard for a moment.
    async fn settle(&mut self) {
        let end = Instant::now() + LONGEST_SET;
        while let Ok(Ok(Ok(()))) = timeout_at(end, timeout(QUIET, self.heard())).await {}
    }

    /// Waits for an event of a secret or lease that is held. Says once that there are none.
    async fn heard(&mut self) -> Result<(), Error> {
        let mut short = 0_u32;
        loop {
            match &mut self.events {
                Events::Refused => std::future::pending().await,
                Events::Closed => {
                    if short > 0 {
                        // It opens and ends at once, again and again.
                        sleep(Retry::BACKGROUND.delay(short)).await;
                    }
                    short = short.saturating_add(1);
                    match self.open().await {
                        Ok(events) => (self.events, self.told) = (Events::Open(Box::new(events)), false),
                        Err(refused) => {
                            self.events = Events::Refused;
                            if !std::mem::replace(&mut self.told, true) {
                                return Err(refused);
                            }
                        }
                    }
                }
                Events::Open(events) => match events.message().await {
                    Ok(Some(message)) => {
                        self.position = message.position.or(self.position.take());
                        if concerns(&self.secrets, &self.leases, message.event.as_ref()) {
                            return Ok(());
                        }
                    }
                    Ok(None) | Err(_) => self.events = Events::Closed,
                },
            }
        }
    }

    async fn open(&self) -> Result<Streaming<SecretsWatchResponse>, Error> {
        let opened = Retry::BACKGROUND.run(|| async {
            let request = SecretsWatchRequest { after: self.position.clone() };
            let opened = self
                .client
                .stream(request, |client, request| async move { client.secrets().watch(request).await });
            opened.await.map_err(|error| Setback { passes: error.may_pass_in_time(), error })
        });
        opened.await.map_err(|setback| setback.error)
    }
}

fn concerns(secrets: &BTreeSet<String>, leases: &BTreeSet<LeaseId>, event: Option<&Event>) -> bool {
    match event {
        Some(Event::VersionChanged(changed)) => secrets.contains(&changed.reference),
        Some(Event::LeaseRevoked(revoked)) => revoked.lease_id.parse().is_ok_and(|id| leases.contains(&id)),
        Some(Event::CheckpointSigned(_) | Event::ReconnectAt(_)) => false,
        // An event of a later release may mean anything.
        Some(Event::Resync(_)) | None => true,
    }
}

/// Between two resolves at least, where leases are short.
const PAUSE: Duration = Duration::from_secs(1);
/// Without another event, a change is over.
const QUIET: Duration = Duration::from_millis(500);
/// Of a change that does not end.
const LONGEST_SET: Duration = Duration::from_secs(5);
/// For an environment without leases, and so that adding to an instant cannot overflow.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;
