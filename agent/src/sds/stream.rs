//! One stream: what it is subscribed to is followed, and told of, until one of the two sides ends it.
//!
//! What came of one change is told in one response: a stream waits for the answers that are under way, and not longer than
//! [`SETTLE`], so that a secret that cannot be read holds up none of the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_proto::Reason;
use bursar_proto::sds::{self, DiscoveryRequest, DiscoveryResponse};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::Discovery;
use super::exchange::{Exchange, Heard, Verdict};
use super::name::Name;
use super::subject::{self, Answer, Subject};
use crate::answer::{Call, refuse};

/// A stream that is open.
pub(super) struct Stream {
    discovery: Discovery,
    call: Call,
    requests: Streaming<DiscoveryRequest>,
    responses: mpsc::Sender<Result<DiscoveryResponse, Status>>,
    exchange: Exchange,
    subjects: BTreeMap<String, Subject>,
    /// What was asked and is not answered yet.
    reading: FuturesUnordered<BoxFuture<'static, (String, Answer)>>,
    /// What is to be told.
    ready: Vec<sds::Secret>,
    /// When it is told, whatever is under way.
    settled_at: Option<Instant>,
    /// Since when the broker's events do not arrive.
    silent_since: Option<Instant>,
}

impl Stream {
    pub(super) fn new(
        discovery: Discovery,
        call: Call,
        requests: Streaming<DiscoveryRequest>,
        responses: mpsc::Sender<Result<DiscoveryResponse, Status>>,
    ) -> Self {
        Self {
            discovery,
            call,
            requests,
            responses,
            exchange: Exchange::default(),
            subjects: BTreeMap::new(),
            reading: FuturesUnordered::new(),
            ready: Vec::new(),
            settled_at: None,
            silent_since: None,
        }
    }

    /// Until it ends.
    pub(super) async fn run(mut self) {
        let metrics = self.discovery.metrics.clone();
        metrics.sds_streams.inc();
        if let Err(status) = self.follow().await {
            tracing::warn!(code = ?status.code(), error = status.message(), "a stream of secrets was ended");
            // Nobody is there any more, if this fails.
            drop(self.responses.send(Err(status)).await);
        }
        metrics.sds_streams.dec();
    }

    async fn follow(&mut self) -> Result<(), Status> {
        let tasks = self.discovery.tasks.clone();
        let mut news = self.discovery.cache.news();
        loop {
            if !self.call.caller.is_alive() {
                return Err(refuse(Reason::Unauthenticated, "the process that opened this stream has ended"));
            }
            self.look();
            self.tell();
            let away = self.subjects.values().any(|subject| subject.away);
            let pause = self.pause();
            let upstream = Arc::clone(&self.discovery.upstream);
            tokio::select! {
                request = self.requests.message() => match request {
                    Ok(Some(request)) => self.hear(&request)?,
                    // The other side is done, or gone.
                    Ok(None) | Err(_) => return Ok(()),
                },
                Some((name, answer)) = self.reading.next(), if !self.reading.is_empty() => {
                    self.take(&name, answer);
                }
                // The sender lives in the cache, which outlives this.
                _ = news.changed() => {}
                () = upstream.answers_again(), if away => {
                    self.subjects.values_mut().filter(|subject| subject.away).for_each(Subject::hurry);
                }
                () = tokio::time::sleep(pause) => {}
                () = self.responses.closed() => return Ok(()),
                _ = tasks.stopping() => return Ok(()),
            }
        }
    }

    /// Takes a request in.
    fn hear(&mut self, request: &DiscoveryRequest) -> Result<(), Status> {
        let metrics = &self.discovery.metrics;
        match self.exchange.hear(request)? {
            Heard::Stale => metrics.sds_answer("stale"),
            Heard::Wanted { names, verdict } => {
                match verdict {
                    Verdict::None | Verdict::Resumed => {}
                    Verdict::Accepted => metrics.sds_answer("accepted"),
                    Verdict::Rejected { code } => {
                        metrics.sds_answer("rejected");
                        let secrets: Vec<_> = self.subjects.keys().collect();
                        // Another comes when there is another value: the same one would be rejected again.
                        tracing::warn!(
                            ?secrets,
                            code,
                            "Envoy rejects what it was given; its own log says why"
                        );
                    }
                }
                self.subscribe(names, verdict == Verdict::Resumed);
            }
        }
        Ok(())
    }

    /// Follows `names` and nothing else. `resumed` says that Envoy may have something of them.
    fn subscribe(&mut self, names: Vec<Name>, resumed: bool) {
        self.subjects.retain(|text, _| names.iter().any(|name| name.text == *text));
        self.ready.retain(|secret| self.subjects.contains_key(&secret.name));
        for name in names {
            self.subjects.entry(name.text.clone()).or_insert_with(|| Subject::new(name, resumed));
        }
    }

    /// Looks at every subject: what is over is withdrawn, what is due is asked for.
    fn look(&mut self) {
        let now = Instant::now();
        let listening = self.discovery.cache.is_listening();
        self.silent_since = if listening { None } else { self.silent_since.or(Some(now)) };
        let silent_for = self.silent_since.map(|since| now.saturating_duration_since(since));
        for subject in self.subjects.values_mut() {
            if let Some(withdrawn) = subject.look(&self.discovery, silent_for) {
                put(&mut self.ready, withdrawn);
                // What may not be used any more waits for nothing.
                self.settled_at = Some(now);
            }
            let Some(anew) = subject.is_due(&self.discovery, silent_for) else { continue };
            subject.reading = true;
            let (discovery, call, name) = (self.discovery.clone(), self.call.clone(), subject.name.clone());
            self.reading.push(Box::pin(async move {
                let answer = subject::read(&discovery, &call, &name, anew).await;
                (name.text, answer)
            }));
        }
    }

    /// Takes an answer in.
    fn take(&mut self, name: &str, answer: Answer) {
        // Nobody wants it any more, or again: what came is not older than what that one would be given.
        let Some(subject) = self.subjects.get_mut(name) else { return };
        if let Some(given) = subject.take(&self.discovery, answer) {
            put(&mut self.ready, given);
        }
    }

    /// Gives what is ready, where the other side takes it.
    fn tell(&mut self) {
        if self.ready.is_empty() {
            self.settled_at = None;
            return;
        }
        let settled_at = *self.settled_at.get_or_insert_with(|| Instant::now() + SETTLE);
        if !self.reading.is_empty() && Instant::now() < settled_at {
            return;
        }
        if let Ok(place) = self.responses.clone().try_reserve() {
            place.send(Ok(self.exchange.next(&mut self.ready)));
        }
    }

    /// How long nothing has to be looked at.
    fn pause(&self) -> Duration {
        let settled = self.settled_at.map(|at| at.saturating_duration_since(Instant::now()));
        // What is settled and could not be sent waits for whoever does not read.
        settled.filter(|left| !left.is_zero()).unwrap_or(TICK).min(TICK)
    }
}

/// In place of what else there is under the name.
fn put(ready: &mut Vec<sds::Secret>, secret: sds::Secret) {
    ready.retain(|other| other.name != secret.name);
    ready.push(secret);
}

/// However little happens.
const TICK: Duration = Duration::from_millis(250);
/// For the answers that belong to one change.
const SETTLE: Duration = Duration::from_millis(200);
