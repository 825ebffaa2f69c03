//! How a local caller's question is answered: from the cache where that is allowed, by the broker otherwise.
//!
//! The order is the promise. What the cache has is looked up; what is missing is asked for, in one call, under the
//! caller's attested identity or by the token that it brought; only where the broker cannot be reached does an older answer stand in. Then every answer
//! that the broker did not just give for this very caller is written into the journal, and only then handed out. All of
//! it is handed out, or nothing and one error.

mod call;
mod environments;
mod leases;
mod secrets;
#[cfg(test)]
mod tests;
mod watch;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bursar_core::tasks::Tasks;
use bursar_proto::Reason;
use bursar_proto::convert::WireError;
use bursar_proto::v1::Lease;
use tonic::Status;
use tonic_types::StatusExt;

pub use call::Call;

use crate::cache::{Arrival, Cache, Entry, Flights, Found, Key, Payload, Question};
use crate::journal::{Full, Journal};
use crate::telemetry::Metrics;
use crate::upstream::{Failure, Upstream};

/// Answers local callers.
#[derive(Debug)]
pub struct Answers {
    cache: Arc<Cache>,
    flights: Flights<Result<Vec<Arc<Entry>>, Failure>>,
    journal: Arc<Journal>,
    upstream: Arc<Upstream>,
    metrics: Metrics,
    tasks: Tasks,
    /// Calls for new leases so far.
    anew: AtomicU64,
}

/// One secret or environment that is asked for.
#[derive(Debug, Clone)]
struct Wanted<Q> {
    key: Key,
    max_age: Option<Duration>,
    ttl: Option<prost_types::Duration>,
    /// Whether the caller wants a lease that nobody has yet: nothing that is there will do, nor what another gets.
    new_lease: bool,
    question: Q,
}

impl Answers {
    /// Answers from `cache` and `upstream`.
    pub fn new(
        cache: Arc<Cache>,
        journal: Arc<Journal>,
        upstream: Arc<Upstream>,
        metrics: Metrics,
        tasks: Tasks,
    ) -> Self {
        let flights = Flights::new(tasks.clone());
        Self { cache, flights, journal, upstream, metrics, tasks, anew: AtomicU64::new(0) }
    }

    /// Answers all of `wanted`, in order. `ask` asks the broker for some of them, all or none.
    async fn answer<Q, A, F>(
        &self,
        call: &Call,
        wanted: Vec<Wanted<Q>>,
        ask: A,
    ) -> Result<Vec<Arc<Entry>>, Status>
    where
        Q: Clone + Send + 'static,
        A: FnOnce(Arc<Upstream>, Arc<Question>, Call, Vec<Q>) -> F + Send + 'static,
        F: Future<Output = Result<Vec<Answered>, Failure>> + Send,
    {
        let find = |wanted: &Wanted<Q>| match (wanted.new_lease, call.good_for) {
            (true, _) => Found::Nothing,
            (false, None) => self.cache.find(&wanted.key, wanted.max_age),
            (false, Some(good_for)) => self.cache.find_again(&wanted.key, wanted.max_age, good_for),
        };
        let mut found: Vec<_> = wanted.iter().map(find).collect();
        let lines = found.iter().map(|found| found.entry().map_or(0, |entry| entry.holdings().len())).sum();
        if !self.journal.has_room(lines) {
            // What cannot be accounted for is not served from the cache.
            found.fill_with(|| Found::Nothing);
        }
        let missing: Vec<_> = wanted
            .iter()
            .zip(&found)
            .filter(|(_, found)| !matches!(found, Found::Fresh(_)))
            .map(|(wanted, _)| wanted.clone())
            .collect();
        let is_patient = call.good_for.is_none() || found.iter().any(|found| found.entry().is_none());
        let asked = if missing.is_empty() {
            Ok(Arrival { outcome: Vec::new(), led: true })
        } else if self.upstream.is_away() && found.iter().all(|found| found.entry().is_some()) {
            // Nobody waits for a broker that is away while there is something to serve; one call shows whether it is back.
            if self.upstream.take_trial() {
                let (key, start) = self.flight(call, missing, ask);
                self.flights.begin(key, start);
            }
            Err(Failure::away())
        } else {
            let (key, start) = self.flight(call, missing, ask);
            let arrival = self.flights.join(key, start);
            let arrival = if is_patient {
                arrival.await.ok_or_else(|| Failure::Answered(unanswered()))
            } else {
                // The call goes on, and what comes of it is there for the next.
                let arrival = tokio::time::timeout(PATIENCE, arrival).await;
                arrival.ok().flatten().ok_or_else(Failure::away)
            };
            arrival.and_then(|Arrival { outcome, led }| outcome.map(|outcome| Arrival { outcome, led }))
        };
        if asked.as_ref().is_err_and(Failure::is_final) {
            let refused = wanted.iter().zip(&found).filter(|(_, found)| !matches!(found, Found::Fresh(_)));
            refused.for_each(|(wanted, _)| self.cache.refused(&wanted.key));
        }
        let answers = self.combine(call, found, asked);
        let answers = answers.inspect_err(|_| self.metrics.read("failed"))?;
        for holding in answers.iter().flat_map(|entry| entry.holdings()) {
            holding.read_by(&call.caller);
        }
        Ok(answers)
    }

    /// Puts together what was found and what was asked for, and writes down what the broker did not just account for.
    fn combine(
        &self,
        call: &Call,
        found: Vec<Found>,
        asked: Result<Arrival<Vec<Arc<Entry>>>, Failure>,
    ) -> Result<Vec<Arc<Entry>>, Status> {
        let mut asked = asked.map(|Arrival { outcome, led }| (outcome.into_iter(), led));
        let mut answers = Vec::with_capacity(found.len());
        let mut unaccounted = Vec::new();
        for found in found {
            let (entry, outcome, accounted) = match (found, &mut asked) {
                (Found::Fresh(entry), _) => (entry, "fresh", false),
                (_, Ok((entries, led))) => (entries.next().ok_or_else(unanswered)?, "asked", *led),
                (Found::Lasting(entry), Err(failure)) if call.outlasts(failure) => (entry, "outage", false),
                (_, Err(failure)) => return Err(failure.clone().into_status()),
            };
            self.metrics.read(outcome);
            if !accounted {
                unaccounted.push(Arc::clone(&entry));
            }
            answers.push(entry);
        }
        let leases = unaccounted.iter().flat_map(|entry| entry.holdings());
        self.journal.write(&call.caller, leases).map_err(|Full| journal_full())?;
        Ok(answers)
    }

    /// One call to the broker for whoever asks the same at this moment: what it is known by, and its beginning.
    fn flight<Q, A, F>(
        &self,
        call: &Call,
        missing: Vec<Wanted<Q>>,
        ask: A,
    ) -> (Key, impl FnOnce() -> Flight + use<Q, A, F>)
    where
        Q: Send + 'static,
        A: FnOnce(Arc<Upstream>, Arc<Question>, Call, Vec<Q>) -> F + Send + 'static,
        F: Future<Output = Result<Vec<Answered>, Failure>> + Send,
    {
        let new_lease = missing.iter().any(|wanted| wanted.new_lease);
        let apart = new_lease.then(|| self.anew.fetch_add(1, Ordering::Relaxed));
        let key = Key::of_call(missing.iter().map(|wanted| (wanted.key, wanted.max_age)), apart);
        let (cache, upstream, call) = (Arc::clone(&self.cache), Arc::clone(&self.upstream), call.clone());
        let start = || -> Flight {
            Box::pin(async move {
                let question = Arc::new(cache.question(&call.caller));
                let (places, questions): (Vec<_>, Vec<_>) =
                    missing.into_iter().map(|wanted| ((wanted.key, wanted.ttl), wanted.question)).unzip();
                let answers = ask(upstream, Arc::clone(&question), call.clone(), questions).await?;
                if answers.len() != places.len() {
                    return Err(Failure::Answered(unanswered()));
                }
                let store = |((key, ttl), answered)| cache.store(&question, &call.caller, key, answered, ttl);
                Ok(places.into_iter().zip(answers).map(store).collect())
            })
        };
        (key, start)
    }
}

/// A call to the broker.
type Flight = Pin<Box<dyn Future<Output = Result<Vec<Arc<Entry>>, Failure>> + Send>>;

/// For an answer of the broker, where there is another.
const PATIENCE: Duration = Duration::from_secs(2);

/// One answer of the broker: what it discloses, and under which leases.
type Answered = (Payload, Vec<Lease>);

fn unanswered() -> Status {
    refuse(Reason::Internal, "the broker's answer does not fit the question")
}

fn journal_full() -> Status {
    refuse(
        Reason::LedgerUnavailable,
        "the agent has no room to account for another read from its cache; it has until it reaches the broker again",
    )
}

fn invalid(error: &WireError) -> Status {
    refuse(Reason::RequestInvalid, &error.to_string())
}

/// An error of the agent's own.
pub(crate) fn refuse(reason: Reason, message: &str) -> Status {
    Status::with_error_details(reason.code(), message, reason.details(""))
}
