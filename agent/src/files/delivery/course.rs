//! When which of it is done: one set, from the first delivery to the end of the process.
//!
//! A set is looked at whenever the cache has news, and each half second: is what it stands on [`Good`](State::Good),
//! [`Old`](State::Old), or [`Over`](State::Over)? What is old is read again, and stays until there is an answer. What is
//! over is read again too, and removed unless the answer comes at once. What is good is compared with the disk now and
//! then, and repaired.

use std::time::Duration;

use bursar_core::Explained;
use bursar_proto::v1::EnvironmentsResolveResponse;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::Delivery;
use crate::attempts::Attempts;
use crate::cache::{Standing, State};
use crate::files::directory::{Delivered, Expected};
use crate::files::hook::Event;
use crate::files::render::Contract;
use crate::upstream::is_no_answer;

/// Where the delivery of a set stands.
pub(super) struct Course<'a> {
    delivery: &'a Delivery,
    held: Held,
    reads: Attempts,
    removals: Attempts,
    /// What was asked and is not answered yet.
    reading: Option<BoxFuture<'a, Answer>>,
    /// Since when the broker's events do not arrive.
    silent_since: Option<Instant>,
    over_since: Option<Instant>,
    /// Whether the last answer was a refusal, after which there is nothing to wait for.
    is_refused: bool,
    /// When the files are compared with what they have to be.
    check_at: Instant,
    /// Whether the last question had no answer.
    away: bool,
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

/// An environment, and what it stands on.
pub(super) type Answer = Result<(EnvironmentsResolveResponse, Standing), Status>;

impl<'a> Course<'a> {
    /// At its beginning, with what an agent before this one left. What nobody answers for is over already.
    pub(super) fn of(delivery: &'a Delivery) -> Self {
        Self {
            delivery,
            held: Held::Left(delivery.record.read().unwrap_or(Timestamp::MIN)),
            reads: Attempts::new(),
            removals: Attempts::new(),
            reading: None,
            silent_since: None,
            over_since: None,
            is_refused: false,
            check_at: Instant::now() + CHECK,
            away: false,
        }
    }

    /// Never ends.
    pub(super) async fn run(mut self) {
        let mut news = self.delivery.cache.news();
        loop {
            let state = self.look();
            self.leave_nothing_over(state).await;
            self.ask(state).await;
            self.write_down().await;
            let good = !self.reads.are_failing() && matches!(self.held, Held::Files { .. });
            self.delivery.place.delivered(good);
            self.wait(&mut news).await;
        }
    }

    fn look(&mut self) -> State {
        let (now, cache) = (Instant::now(), &self.delivery.cache);
        self.silent_since = if cache.is_listening() { None } else { self.silent_since.or(Some(now)) };
        match &self.held {
            Held::Nothing => State::Old,
            Held::Left(until) if *until <= self.delivery.clock.now() => State::Over,
            Held::Left(_) => State::Old,
            Held::Files { standing, .. } => {
                let silent_for = self.silent_since.map(|since| now.saturating_duration_since(since));
                standing.state(cache, silent_for)
            }
        }
    }

    /// Removes what is over, once whoever could replace it had the time to.
    async fn leave_nothing_over(&mut self, state: State) {
        let now = Instant::now();
        if state != State::Over {
            self.over_since = None;
            return;
        }
        if self.over_since.is_none() {
            // Asked for at once, however often that failed lately.
            self.reads.hurry();
        }
        let since = *self.over_since.get_or_insert(now);
        if (self.is_refused || now >= since + REACH) && self.removals.are_due() {
            self.remove().await;
        }
    }

    /// Begins a question where one is due.
    async fn ask(&mut self, state: State) {
        if self.reading.is_some() || !self.reads.are_due() {
            return;
        }
        let anew = match &self.held {
            Held::Files { expected, .. } if state == State::Good => {
                if Instant::now() < self.check_at {
                    return;
                }
                self.check_at = Instant::now() + CHECK;
                if !self.delivery.has_drifted(expected).await {
                    return;
                }
                // What the cache has is good enough to repair with.
                false
            }
            _ => true,
        };
        self.reading = Some(self.delivery.read(anew).boxed());
    }

    async fn wait(&mut self, news: &mut watch::Receiver<u64>) {
        let (upstream, idle) = (&self.delivery.upstream, self.reading.is_none());
        tokio::select! {
            answer = answered(&mut self.reading) => {
                self.reading = None;
                // One that says that something is unavailable is left alone for longer than until its next answer.
                self.away = answer.as_ref().is_err_and(is_no_answer);
                self.take(answer).await;
            }
            // The sender lives in the cache, which outlives this.
            _ = news.changed() => {}
            () = tokio::time::sleep(TICK) => {}
            () = upstream.answers_again(), if self.away && idle => {
                self.away = false;
                self.reads.hurry();
            }
        }
    }

    /// Takes an answer of the broker, or of the cache, to where the files are.
    #[tracing::instrument(skip_all, fields(set = self.delivery.set.name))]
    async fn take(&mut self, answer: Answer) {
        let (environment, standing) = match answer {
            Ok(answer) => answer,
            Err(status) => {
                self.reads.failed();
                self.delivery.metrics.files("failed");
                tracing::warn!(code = ?status.code(), error = status.message(), "a set of files could not be read");
                self.is_refused = matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated);
                if self.is_refused && !matches!(self.held, Held::Nothing) {
                    // What was allowed when it was delivered is not now, or the node is let in no more.
                    self.held = Held::Left(Timestamp::MIN);
                }
                return;
            }
        };
        self.is_refused = false;
        let contract = Contract::of(&environment);
        match self.delivery.deliver(environment).await {
            Ok((delivered, expected)) => {
                let (repaired, untold) = match &self.held {
                    Held::Files { expected: before, contract: known, .. } => {
                        (*before == expected, contract.is_untold_since(known))
                    }
                    Held::Nothing | Held::Left(_) => (false, false),
                };
                self.tell(delivered, repaired);
                if delivered == Delivered::Replaced && !untold {
                    self.delivery.bell.ring(Event::Delivered);
                }
                // What is out of date as soon as it comes is not asked for again and again.
                match standing.state(&self.delivery.cache, None) {
                    State::Good => self.reads.succeeded(),
                    State::Old | State::Over => self.reads.fruitless(),
                }
                self.held = Held::Files { standing, expected, contract, recorded: None };
            }
            Err(error) => {
                self.reads.failed();
                self.delivery.metrics.files("failed");
                tracing::warn!(
                    error = %Explained(&error),
                    "a set of files could not be delivered"
                );
            }
        }
    }

    fn tell(&self, delivered: Delivered, repaired: bool) {
        match (delivered, repaired) {
            (Delivered::AsTheyWere, _) => self.delivery.metrics.files("unchanged"),
            (Delivered::Replaced, true) => {
                self.delivery.metrics.files("repaired");
                tracing::warn!("somebody changed the files of a set; they are as they were again");
            }
            (Delivered::Replaced, false) => {
                self.delivery.metrics.files("delivered");
                tracing::info!("the files of a set were delivered");
            }
        }
    }

    /// Takes the files away, since nobody may use them any more.
    #[tracing::instrument(skip_all, fields(set = self.delivery.set.name))]
    async fn remove(&mut self) {
        match self.delivery.clear().await {
            Ok(had) => {
                self.held = Held::Nothing;
                self.removals.succeeded();
                if had {
                    self.delivery.bell.ring(Event::Removed);
                    self.delivery.metrics.files("removed");
                    tracing::warn!("the files of a set were removed, since what they stood on is over");
                }
            }
            Err(error) => {
                self.removals.failed();
                self.delivery.metrics.files("failed");
                let error = Explained(&error);
                tracing::error!(%error, "files of a set are over and could not be removed");
            }
        }
    }

    /// Keeps the record as it has to be for an agent that comes after this one.
    async fn write_down(&mut self) {
        let Held::Files { standing, recorded, .. } = &mut self.held else { return };
        let until = standing.until().unwrap_or(Timestamp::MAX);
        if *recorded == Some(until) {
            return;
        }
        *recorded = Some(until);
        let record = self.delivery.record.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || record.write(until)).await {
            tracing::warn!(%error, "it could not be written down until when files may stay; a restart removes them");
        }
    }
}

async fn answered(reading: &mut Option<BoxFuture<'_, Answer>>) -> Answer {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

/// However little happens.
pub(super) const TICK: Duration = Duration::from_millis(500);
/// Between two looks at files that nobody should have touched.
const CHECK: Duration = Duration::from_secs(30);
/// What is over is removed when nothing else came by then.
const REACH: Duration = Duration::from_millis(500);
