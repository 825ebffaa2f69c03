//! One set, from the first delivery to the end of the process.
//!
//! A set is read, rendered and written as a whole. After that it is looked at whenever the cache has news, and each half
//! second: is what it stands on [`Good`](State::Good), [`Old`](State::Old), or [`Over`](State::Over)? What is old is read
//! again, and stays until there is an answer. What is over is read again too, and removed unless the answer comes at once.
//! What is good is compared with the disk now and then, and repaired.
//!
//! Whatever fails leaves the files as they were, and is tried again under the one retry policy; the other sets go on.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::Clock;
use bursar_core::retry::Retry;
use bursar_proto::Reason;
use bursar_proto::v1::{EnvironmentsResolveRequest, EnvironmentsResolveResponse};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use jiff::Timestamp;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::board::Place;
use super::directory::{Delivered, Directory, DirectoryError, Expected};
use super::hook::{Bell, Event};
use super::record::Record;
use super::render::{Contract, RenderError, render};
use crate::answer::{Answers, Call};
use crate::attest::Workload;
use crate::cache::{Cache, Standing, State};
use crate::config::FileSet;
use crate::telemetry::Metrics;
use crate::upstream::Upstream;

/// Delivers one set.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) set: FileSet,
    pub(super) directory: Directory,
    pub(super) record: Record,
    pub(super) reader: Arc<Workload>,
    pub(super) answers: Arc<Answers>,
    pub(super) cache: Arc<Cache>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) place: Place,
    pub(super) bell: Bell,
}

/// What is there.
enum Held {
    /// Nothing that the agent may leave there.
    Nothing,
    /// What an agent before this one delivered, and when it is over.
    Left(Timestamp),
    /// What this one delivered, and until when it wrote down that it may stay.
    Files { standing: Standing, expected: Expected, contract: Contract, recorded: Option<Timestamp> },
}

/// How often something failed, or was of no use, and when it may be tried again.
struct Attempts {
    failed: u32,
    fruitless: u32,
    next: Instant,
}

type Answer = Result<(EnvironmentsResolveResponse, Standing), Status>;

impl Delivery {
    /// Never ends.
    pub(super) async fn run(&self) {
        let mut news = self.cache.news();
        let mut held = self.take_up();
        let (mut reads, mut removals) = (Attempts::new(), Attempts::new());
        let mut reading: Option<BoxFuture<'_, Answer>> = None;
        let mut silent_since = None;
        let mut over_since = None;
        let mut check_at = Instant::now() + CHECK;
        let mut away = false;
        loop {
            let now = Instant::now();
            silent_since = if self.cache.is_listening() { None } else { silent_since.or(Some(now)) };
            let state = self.state(&held, silent_since.map(|since| now.saturating_duration_since(since)));
            if state == State::Over {
                if over_since.is_none() {
                    // Asked for at once, however often that failed lately.
                    reads.next = now;
                }
                let since = *over_since.get_or_insert(now);
                if now >= since + REACH && removals.are_due() {
                    self.remove(&mut held, &mut removals).await;
                }
            } else {
                over_since = None;
            }
            let wanted = match &held {
                Held::Files { expected, .. } if state == State::Good => {
                    let drifted = reading.is_none() && now >= check_at && self.has_drifted(expected).await;
                    if now >= check_at {
                        check_at = now + CHECK;
                    }
                    drifted.then_some(false)
                }
                _ => Some(true),
            };
            if let (None, Some(anew), true) = (&reading, wanted, reads.are_due()) {
                reading = Some(self.read(anew).boxed());
            }
            self.write_down(&mut held).await;
            self.place.delivered(reads.failed == 0 && matches!(held, Held::Files { .. }));
            tokio::select! {
                answer = pending_unless(&mut reading) => {
                    reading = None;
                    away = answer.as_ref().is_err_and(is_no_answer);
                    self.take(answer, &mut held, &mut reads).await;
                }
                // The sender lives in the cache, which outlives this.
                _ = news.changed() => {}
                () = tokio::time::sleep(TICK) => {}
                () = self.upstream.answers_again(), if away && reading.is_none() => {
                    away = false;
                    reads.next = Instant::now();
                }
            }
        }
    }

    /// What an agent before this one left. What nobody answers for is over already.
    fn take_up(&self) -> Held {
        Held::Left(self.record.read().unwrap_or(Timestamp::MIN))
    }

    fn state(&self, held: &Held, silent_for: Option<Duration>) -> State {
        match held {
            Held::Nothing => State::Old,
            Held::Left(until) if *until <= self.clock.now() => State::Over,
            Held::Left(_) => State::Old,
            Held::Files { standing, .. } => standing.state(&self.cache, silent_for),
        }
    }

    async fn read(&self, anew: bool) -> Answer {
        let call = Call::new(Arc::clone(&self.reader), &HeaderMap::new());
        let name = self.set.environment.clone();
        let request = EnvironmentsResolveRequest { name, reason: REASON.to_owned(), ..Default::default() };
        self.answers.resolve_to_stand(&call, request, anew).await
    }

    /// Takes an answer of the broker, or of the cache, to where the files are.
    #[tracing::instrument(skip_all, fields(set = self.set.name))]
    async fn take(&self, answer: Answer, held: &mut Held, reads: &mut Attempts) {
        let (environment, standing) = match answer {
            Ok(answer) => answer,
            Err(status) => {
                reads.failed();
                self.metrics.files("failed");
                tracing::warn!(code = ?status.code(), error = status.message(), "a set of files could not be read");
                let refused = matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated);
                if refused && !matches!(held, Held::Nothing) {
                    // What was allowed when it was delivered is not now, or the node is let in no more.
                    *held = Held::Left(Timestamp::MIN);
                }
                return;
            }
        };
        let contract = Contract::of(&environment);
        match self.deliver(environment).await {
            Ok((delivered, expected)) => {
                let (repaired, untold) = match &*held {
                    Held::Files { expected: before, contract: known, .. } => {
                        (*before == expected, contract.is_untold_since(known))
                    }
                    Held::Nothing | Held::Left(_) => (false, false),
                };
                self.tell(delivered, repaired);
                if delivered == Delivered::Replaced && !untold {
                    self.bell.ring(Event::Delivered);
                }
                // What is out of date as soon as it comes is not asked for again and again.
                match standing.state(&self.cache, None) {
                    State::Good => reads.succeeded(),
                    State::Old | State::Over => reads.fruitless(),
                }
                *held = Held::Files { standing, expected, contract, recorded: None };
            }
            Err(error) => {
                reads.failed();
                self.metrics.files("failed");
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a set of files could not be delivered"
                );
            }
        }
    }

    fn tell(&self, delivered: Delivered, repaired: bool) {
        match (delivered, repaired) {
            (Delivered::AsTheyWere, _) => self.metrics.files("unchanged"),
            (Delivered::Replaced, true) => {
                self.metrics.files("repaired");
                tracing::warn!("somebody changed the files of a set; they are as they were again");
            }
            (Delivered::Replaced, false) => {
                self.metrics.files("delivered");
                tracing::info!("the files of a set were delivered");
            }
        }
    }

    async fn deliver(
        &self,
        environment: EnvironmentsResolveResponse,
    ) -> Result<(Delivered, Expected), DeliveryError> {
        let (set, directory, clock) = (self.set.clone(), self.directory.clone(), Arc::clone(&self.clock));
        let work = move || {
            let rendered = render(&set, environment)?;
            Ok(directory.deliver(&rendered, &*clock)?)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| DeliveryError::Panicked)?
    }

    async fn has_drifted(&self, expected: &Expected) -> bool {
        let (directory, expected) = (self.directory.clone(), expected.clone());
        let looked = tokio::task::spawn_blocking(move || directory.drift(&expected)).await;
        // A directory that will not do is found out again, and told, by the delivery that follows.
        !matches!(looked, Ok(Ok(None)))
    }

    /// Takes the files away, since nobody may use them any more.
    #[tracing::instrument(skip_all, fields(set = self.set.name))]
    async fn remove(&self, held: &mut Held, removals: &mut Attempts) {
        let (directory, record) = (self.directory.clone(), self.record.clone());
        let work = move || {
            let had = directory.clear()?;
            if let Err(error) = record.remove() {
                tracing::warn!(%error, "it could not be written down that a set has no files");
            }
            Ok(had)
        };
        match tokio::task::spawn_blocking(work).await.unwrap_or(Err(DeliveryError::Panicked)) {
            Ok(had) => {
                *held = Held::Nothing;
                removals.succeeded();
                if had {
                    self.bell.ring(Event::Removed);
                    self.metrics.files("removed");
                    tracing::warn!("the files of a set were removed, since what they stood on is over");
                }
            }
            Err(error) => {
                removals.failed();
                self.metrics.files("failed");
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "files of a set are over and could not be removed");
            }
        }
    }

    /// Keeps the record as it has to be for an agent that comes after this one.
    async fn write_down(&self, held: &mut Held) {
        let Held::Files { standing, recorded, .. } = held else { return };
        let until = standing.until().unwrap_or(Timestamp::MAX);
        if *recorded == Some(until) {
            return;
        }
        *recorded = Some(until);
        let record = self.record.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || record.write(until)).await {
            tracing::warn!(%error, "it could not be written down until when files may stay; a restart removes them");
        }
    }
}

impl Attempts {
    fn new() -> Self {
        Self { failed: 0, fruitless: 0, next: Instant::now() }
    }

    fn are_due(&self) -> bool {
        Instant::now() >= self.next
    }

    fn failed(&mut self) {
        self.failed = self.failed.saturating_add(1);
        self.next = Instant::now() + Retry::BACKGROUND.delay(self.failed);
    }

    /// Of what changes without a pause, a few versions a second are enough.
    fn succeeded(&mut self) {
        *self = Self { failed: 0, fruitless: 0, next: Instant::now() + PACE };
    }

    /// What came is no better than what there was.
    fn fruitless(&mut self) {
        let fruitless = self.fruitless.saturating_add(1);
        *self = Self { failed: 0, fruitless, next: Instant::now() + Retry::BACKGROUND.delay(fruitless) };
    }
}

/// Whether the broker could not be asked. One that says that something is unavailable gives a reason, and is left alone for
/// longer than until its next answer to anybody.
fn is_no_answer(status: &Status) -> bool {
    status.code() == Code::Unavailable && Reason::of(status).is_none()
}

async fn pending_unless(reading: &mut Option<BoxFuture<'_, Answer>>) -> Answer {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

/// Why files were not delivered.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("the delivery did not end as it should; the lines before this one say why")]
    Panicked,
}

/// In the audit record.
const REASON: &str = "delivery as files";
/// However little happens.
const TICK: Duration = Duration::from_millis(500);
/// Between two looks at files that nobody should have touched.
const CHECK: Duration = Duration::from_secs(30);
/// What is over is removed when nothing else came by then.
const REACH: Duration = Duration::from_millis(500);
/// Between two deliveries of one set.
const PACE: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests;
