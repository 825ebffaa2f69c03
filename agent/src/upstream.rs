//! The way to the broker: one channel, which is replaced when the node has a new certificate, or when the broker says
//! nothing over it any more ([`link`]).
//!
//! Whoever makes a call takes the channel of that moment. Calls that are under way on one that was replaced end there,
//! and its connection closes after the last of them.
//!
//! What comes back is told apart once, here: an answer of the broker, a refusal included, must be obeyed; only where
//! there was none may the cache speak for it. An answer that says that a store or the ledger is down is an answer: the
//! broker knows what its configuration allows in that case. [`presence`] keeps what the calls show of the broker.

mod link;
mod presence;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bursar_core::retry::Transient;
use bursar_proto::Reason;
use bursar_sdk::ConnectError;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::telemetry::Metrics;
use link::Link;
use presence::Presence;

/// The channel of the moment.
#[derive(Debug)]
pub struct Upstream {
    link: Link,
    /// Counts answers.
    answered: watch::Sender<u64>,
    presence: Presence,
    refused: Notify,
    /// By its last answer.
    is_refused: AtomicBool,
    deadline: Duration,
    metrics: Metrics,
}

/// Why a call came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The broker could not be asked, or did not answer.
    #[error("{}", .0.message())]
    Unreachable(Status),
    /// It answered with this.
    #[error("the broker refused: {} ({:?})", .0.message(), .0.code())]
    Answered(Status),
}

impl Upstream {
    /// Without a channel yet. A call that takes longer than `deadline` to be answered has failed.
    pub fn new(deadline: Duration, metrics: Metrics) -> Self {
        Self {
            link: Link::new(),
            answered: watch::Sender::new(0),
            presence: Presence::default(),
            refused: Notify::new(),
            is_refused: AtomicBool::new(false),
            deadline,
            metrics,
        }
    }

    /// Calls go over a channel that `connect` makes from now on, and over another that it makes when that one is given up.
    ///
    /// # Errors
    /// That of `connect`; all is as it was then.
    pub fn replace(
        &self,
        connect: impl Fn() -> Result<Channel, ConnectError> + Send + 'static,
    ) -> Result<(), ConnectError> {
        self.link.replace(connect)?;
        self.is_refused.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// The channel, once there is one.
    pub fn channel(&self) -> Option<Channel> {
        self.link.channel()
    }

    /// Follows the channel through its replacements.
    pub fn channels(&self) -> watch::Receiver<Option<Channel>> {
        self.link.channels()
    }

    /// How long ago the broker answered last.
    pub fn last_answer(&self) -> Option<Duration> {
        self.presence.last_answer()
    }

    /// Whether the last call did not reach the broker.
    pub fn is_away(&self) -> bool {
        self.presence.is_away()
    }

    /// While the broker is away: whether it is time for a call that shows whether it is back. Says so once for each.
    pub fn take_trial(&self) -> bool {
        self.presence.take_trial()
    }

    /// Waits for the next answer of the broker.
    pub async fn answers_again(&self) {
        let mut answered = self.answered.subscribe();
        answered.mark_unchanged();
        // The sender lives in `self`, so waiting cannot fail.
        drop(answered.changed().await);
    }

    /// Waits until the broker refuses the node's certificate.
    pub async fn refused(&self) {
        self.refused.notified().await;
    }

    /// Whether the broker refused the node's certificate when it was asked last, and there is no other one yet.
    pub fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// Makes one call.
    ///
    /// # Errors
    /// [`Failure`]; it is not repeated here: whoever asked decides.
    pub async fn ask<R, F>(&self, call: impl FnOnce(Channel) -> F) -> Result<R, Failure>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let Some(channel) = self.channel() else {
            return Err(Failure::Unreachable(Status::unavailable(NO_CERTIFICATE)));
        };
        let answer = tokio::select! {
            answer = call(channel.clone()) => answer.map(Response::into_inner).map_err(Failure::of),
            () = self.is_gone(channel) => Err(Failure::away()),
            () = tokio::time::sleep(self.deadline) => return Err(self.late()),
        };
        self.note(answer.as_ref().err());
        answer
    }

    /// A call was not answered in time, by a broker that may be there all the same.
    pub fn late(&self) -> Failure {
        self.metrics.broker_call("unreachable");
        Failure::Unreachable(Status::unavailable(NO_ANSWER))
    }

    /// Returns once it shows that a call that waits from now on has nobody at its other end.
    async fn is_gone(&self, channel: Channel) {
        loop {
            let began = Instant::now();
            tokio::time::sleep(SLOW).await;
            let _turn = self.presence.turn().await;
            let shown = self.presence.shown_since(began);
            let is_there = match shown {
                Some(shown) => shown,
                None => self.is_there(channel.clone()).await,
            };
            if !is_there {
                return;
            }
        }
    }

    /// Asks the broker whether it is there. Any answer says so.
    async fn is_there(&self, channel: Channel) -> bool {
        let mut health = HealthClient::new(channel);
        let check = health.check(HealthCheckRequest::default());
        let failure = match tokio::time::timeout(THERE, check).await {
            Ok(answer) => answer.map_err(Failure::of).err(),
            Err(_) => {
                if self.link.is_silent() {
                    self.metrics.connections_given_up.inc();
                    tracing::warn!(
                        "the broker says nothing over its connection, which is given up for another"
                    );
                }
                Some(Failure::away())
            }
        };
        self.note(failure.as_ref());
        !matches!(failure, Some(Failure::Unreachable(_)))
    }

    /// Takes down what came of a call.
    pub fn note(&self, failure: Option<&Failure>) {
        let outcome = match failure {
            None => "ok",
            Some(Failure::Answered(_)) => "refused",
            Some(Failure::Unreachable(_)) => "unreachable",
        };
        self.metrics.broker_call(outcome);
        if outcome == "unreachable" {
            self.presence.missed();
        } else {
            self.presence.answered();
            self.link.answered();
            self.answered.send_modify(|count| *count = count.wrapping_add(1));
        }
        let is_refused = failure.is_some_and(Failure::is_of_certificate);
        if is_refused {
            self.refused.notify_one();
        }
        if is_refused || outcome != "unreachable" {
            self.is_refused.store(is_refused, Ordering::Relaxed);
        }
    }
}

impl Failure {
    /// What the calls before this one came to.
    pub fn away() -> Self {
        Self::Unreachable(Status::unavailable(BROKER_AWAY))
    }

    /// Tells an answer from the lack of one. An error that arose on this side has a cause; one that was sent has none.
    pub fn of(status: Status) -> Self {
        let local = std::error::Error::source(&status).is_some();
        let gone = matches!(
            (status.code(), Reason::of(&status)),
            (Code::Unavailable, None | Some(Reason::ShuttingDown))
        );
        if !local && !gone {
            return Self::Answered(status);
        }
        let message = match ConnectError::within(&status) {
            Some(error) => format!("{BROKER_AWAY}: {error}"),
            None => BROKER_AWAY.to_owned(),
        };
        // The cause is kept for the log; a local caller needs the code and the words.
        let mut told = Status::unavailable(message);
        told.set_source(Arc::new(status));
        Self::Unreachable(told)
    }

    /// What a local caller is told.
    pub fn into_status(self) -> Status {
        match self {
            Self::Unreachable(status) | Self::Answered(status) => status,
        }
    }

    /// Whether it is the broker's own word.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Answered(_))
    }

    /// Whether the same call will fail again, so that nothing may be concluded from an older answer.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Answered(status) if !may_pass(status))
    }

    /// The reason that the broker gave.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Answered(status) => Reason::of(status),
            Self::Unreachable(_) => None,
        }
    }

    fn is_of_certificate(&self) -> bool {
        match self {
            Self::Answered(status) => Reason::of(status) == Some(Reason::CertificateInvalid),
            Self::Unreachable(status) => {
                matches!(ConnectError::within(status), Some(ConnectError::CertificateRefused { .. }))
            }
        }
    }
}

impl Transient for Failure {
    fn is_transient(&self) -> bool {
        !self.is_final()
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answered(status) => retry_after(status),
            Self::Unreachable(_) => None,
        }
    }
}

/// Whether what a local caller was told means that the broker could not be asked. One that says that something is
/// unavailable gives a reason.
pub(crate) fn is_no_answer(status: &Status) -> bool {
    status.code() == Code::Unavailable && Reason::of(status).is_none()
}

/// Whether what a local caller was told may be otherwise later.
pub(crate) fn may_pass(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unknown
            | Code::Cancelled
    )
}

/// How long the broker asked to be left alone.
pub(crate) fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// Whoever waits for longer asks whether anybody is there.
const SLOW: Duration = Duration::from_secs(2);
/// For a broker to say that it is.
const THERE: Duration = Duration::from_secs(2);
const NO_CERTIFICATE: &str =
    "this node has not joined its broker yet, or its certificate has ended; the agent's log says why";
const NO_ANSWER: &str = "the broker did not answer in time";
const BROKER_AWAY: &str = "the broker cannot be reached from this node";
