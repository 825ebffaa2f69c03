//! One name that a stream is subscribed to: what it stands on, and what is to be done about it.
//!
//! What it stands on is good, old or over, as for everything that was put where others read it (`cache::standing`). What is
//! old is asked for again and stays until there is an answer. What is over is asked for again too, and withdrawn unless the
//! answer comes at once. Withdrawn means that Envoy gets something in its place: see [`super::stand_in`].

use std::time::Duration;

use bursar_core::Secret;
use bursar_proto::sds;
use bursar_proto::v1::{EnvironmentsResolveRequest, SecretsReadRequest};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tonic::{Code, Status};
use zeroize::Zeroizing;

use super::Discovery;
use super::content::content;
use super::name::{Name, Source};
use super::stand_in::stand_in;
use crate::answer::Call;
use crate::attempts::Attempts;
use crate::cache::{Standing, State};
use crate::upstream::is_no_answer;

/// A name that somebody wants.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: Name,
    held: Held,
    reads: Attempts,
    /// Whether a question is not answered yet.
    pub(super) reading: bool,
    over_since: Option<Instant>,
    /// Whether the last question had no answer.
    pub(super) away: bool,
    /// Digest of what was given last.
    given: Option<[u8; 32]>,
}

/// What Envoy has.
#[derive(Debug)]
enum Held {
    /// Nothing.
    Nothing,
    /// Perhaps what a stream before this one gave. Nobody knows what that stood on.
    Left,
    Value(Standing),
    /// What stands in for a value that is over.
    Withdrawn,
}

/// A value, and what it stands on.
pub(super) type Answer = Result<(Secret, Standing), Status>;

impl Subject {
    /// `resumed` says that Envoy may have something under this name.
    pub(super) fn new(name: Name, resumed: bool) -> Self {
        Self {
            name,
            held: if resumed { Held::Left } else { Held::Nothing },
            reads: Attempts::new(),
            reading: false,
            over_since: None,
            away: false,
            given: None,
        }
    }

    /// Looks at what there is. Answers what is to be given in its place, when it is over and nobody replaced it in time.
    pub(super) fn look(
        &mut self,
        discovery: &Discovery,
        silent_for: Option<Duration>,
    ) -> Option<sds::Secret> {
        let Held::Value(standing) = &self.held else { return None };
        if standing.state(&discovery.cache, silent_for) != State::Over {
            self.over_since = None;
            return None;
        }
        let now = Instant::now();
        if self.over_since.is_none() {
            // Asked for at once, however often that failed lately.
            self.reads.hurry();
        }
        let since = *self.over_since.get_or_insert(now);
        if now < since + REACH { None } else { self.withdraw(discovery) }
    }

    /// Whether it is to be asked for now, and whether the broker has to be.
    pub(super) fn is_due(&self, discovery: &Discovery, silent_for: Option<Duration>) -> Option<bool> {
        if self.reading || !self.reads.are_due() {
            return None;
        }
        match &self.held {
            Held::Value(standing) if standing.state(&discovery.cache, silent_for) == State::Good => None,
            Held::Nothing | Held::Left => Some(false),
            Held::Value(_) | Held::Withdrawn => Some(true),
        }
    }

    /// The broker is there again.
    pub(super) fn hurry(&mut self) {
        self.away = false;
        self.reads.hurry();
    }

    /// Takes an answer in. Answers what is to be given, where that is something else than there was.
    pub(super) fn take(&mut self, discovery: &Discovery, answer: Answer) -> Option<sds::Secret> {
        self.reading = false;
        self.away = answer.as_ref().is_err_and(is_no_answer);
        let (value, standing) = match answer {
            Ok(answer) => answer,
            Err(status) => {
                self.failed(discovery, status.message(), Some(status.code()));
                let refused = matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated);
                // What was allowed when it was given is not now, or the node is let in no more.
                let has = matches!(self.held, Held::Value(_) | Held::Left);
                return if refused && has { self.withdraw(discovery) } else { None };
            }
        };
        let state = standing.state(&discovery.cache, None);
        if state == State::Over {
            self.reads.fruitless();
            return None;
        }
        let content = match content(&self.name, &value) {
            Ok(content) => content,
            Err(fault) => {
                self.failed(discovery, &fault.to_string(), None);
                return None;
            }
        };
        // What is out of date as soon as it comes is not asked for again and again.
        if state == State::Good {
            self.reads.succeeded();
        } else {
            self.reads.fruitless();
        }
        self.held = Held::Value(standing);
        self.over_since = None;
        let digest = digest(&content);
        if self.given.replace(digest) == Some(digest) {
            discovery.metrics.sds_secret("unchanged");
            return None;
        }
        discovery.metrics.sds_secret("delivered");
        tracing::info!(secret = self.name.text, "a secret is given to Envoy");
        Some(content)
    }

    fn failed(&mut self, discovery: &Discovery, error: &str, code: Option<Code>) {
        self.reads.failed();
        discovery.metrics.sds_secret("failed");
        tracing::warn!(secret = self.name.text, ?code, error, "a secret cannot be given to Envoy");
    }

    fn withdraw(&mut self, discovery: &Discovery) -> Option<sds::Secret> {
        match stand_in(&self.name) {
            Ok(content) => {
                (self.held, self.given, self.over_since) = (Held::Withdrawn, None, None);
                discovery.metrics.sds_secret("withdrawn");
                tracing::warn!(
                    secret = self.name.text,
                    "a secret was taken back from Envoy, since what it stood on is over"
                );
                Some(content)
            }
            Err(error) => {
                discovery.metrics.sds_secret("failed");
                tracing::error!(secret = self.name.text, %error, "a secret cannot be taken back");
                None
            }
        }
    }
}

/// Asks for `name` on behalf of who calls, as every reader asks.
pub(super) async fn read(discovery: &Discovery, call: &Call, name: &Name, anew: bool) -> Answer {
    let (answers, reason) = (&discovery.answers, REASON.to_owned());
    match &name.source {
        Source::Secret(reference) => {
            let request =
                SecretsReadRequest { reference: reference.clone(), reason, ..SecretsReadRequest::default() };
            let (mut read, standing) = answers.read_to_stand(call, request, anew).await?;
            Ok((read.take_value(), standing))
        }
        Source::Variable { environment, variable } => {
            let request = EnvironmentsResolveRequest {
                name: environment.clone(),
                reason,
                ..EnvironmentsResolveRequest::default()
            };
            let (mut resolved, standing) = answers.resolve_to_stand(call, request, anew).await?;
            let found = resolved.variables.iter_mut().find(|found| found.name == *variable);
            let missing = || Status::not_found(format!("`{environment}` has no variable `{variable}`"));
            Ok((found.ok_or_else(missing)?.take_value(), standing))
        }
    }
}

fn digest(content: &sds::Secret) -> [u8; 32] {
    Sha256::digest(&*Zeroizing::new(content.encode_to_vec())).into()
}

/// In the audit record.
const REASON: &str = "secret for Envoy";
/// What is over is withdrawn when nothing else came by then.
const REACH: Duration = Duration::from_millis(500);
