//! A closed loop: each caller sends its next request when the answer to the one before is there.
//!
//! So the figures are those of a server that is never idle and never has more than the callers' number to do at once.
//! A latency counts when its request ends within the measured time; requests of the warm-up do not count at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::cpu;
use crate::histogram::Histogram;

/// One of many that ask a server at the same time.
pub(crate) trait Caller: Send + 'static {
    /// Makes the next request and waits for its answer.
    ///
    /// # Errors
    /// Any answer but the one wanted; it ends the measurement.
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// How long things are measured, and how often.
pub(crate) struct Plan {
    /// Before each round, not measured.
    warm_up: Duration,
    /// Of each round.
    time: Duration,
    /// Of which the median counts.
    pub(crate) rounds: usize,
    /// Over how many secrets reads are spread.
    pub(crate) secrets: usize,
    /// How often a program is run to time its start.
    pub(crate) starts: usize,
    /// Over how many rounds the median counts of what is no load.
    pub(crate) repeats: usize,
    /// How many leases each of the many renews in turn.
    pub(crate) renewed: usize,
    /// How many leases are revoked at once.
    pub(crate) revoked: usize,
    /// How many leases a broker holds while it is restarted and asked.
    pub(crate) held: usize,
    /// How many leases of OpenBao's are revoked at once.
    pub(crate) peer_revoked: usize,
    /// How many database users are made, and then revoked together.
    pub(crate) users: usize,
    /// How many callers want one secret.
    pub(crate) callers: usize,
    /// How many agents come back after a restart.
    pub(crate) agents: usize,
    /// How many calls come with tokens that nobody made.
    pub(crate) strangers: usize,
    /// How often the cache is asked.
    pub(crate) fetches: usize,
    /// How many secrets an agent holds.
    pub(crate) cached: usize,
    /// How many listen for changes, and how often what they hold changes.
    pub(crate) changes: (usize, usize),
    /// How many leases OpenBao gets at most to hold, and how long it may take to make them.
    pub(crate) peer_held: (usize, Duration),
}

impl Plan {
    /// For figures that mean something.
    pub(crate) const FULL: Self = Self {
        warm_up: Duration::from_secs(1),
        time: Duration::from_secs(6),
        rounds: 3,
        secrets: 1000,
        starts: 50,
        repeats: 3,
        renewed: 40,
        revoked: 100_000,
        held: 1_000_000,
        peer_revoked: 2_000,
        users: 2_000,
        callers: 1_000,
        agents: 10_000,
        strangers: 1_000_000,
        fetches: 1_000_000,
        cached: 10_000,
        changes: (1_000, 30),
        peer_held: (100_000, Duration::from_secs(60)),
    };
    /// To see that it runs.
    pub(crate) const SMOKE: Self = Self {
        warm_up: Duration::from_millis(100),
        time: Duration::from_millis(500),
        rounds: 1,
        secrets: 50,
        starts: 5,
        repeats: 1,
        renewed: 2,
        revoked: 2_000,
        held: 4_000,
        peer_revoked: 100,
        users: 40,
        callers: 50,
        agents: 100,
        strangers: 3_000,
        fetches: 10_000,
        cached: 200,
        changes: (20, 2),
        peer_held: (500, Duration::from_secs(5)),
    };

    /// How long a pace is kept.
    pub(crate) fn paced(&self) -> Duration {
        self.time * u32::try_from(self.rounds).unwrap_or(1)
    }
}

/// What a server did under load: medians over the rounds, each figure for itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Requests a second.
    pub(crate) rps: f64,
    /// Microseconds of the server's processor time a request.
    pub(crate) cpu_us: f64,
    /// Milliseconds that half of the requests do not exceed.
    pub(crate) p50_ms: f64,
    /// Milliseconds that 99 % of the requests do not exceed.
    pub(crate) p99_ms: f64,
}

/// A server and its callers. Several are measured in turn, round by round: a machine whose pace changes from one minute to
/// the next changes it for all of them.
pub(crate) struct Side<C> {
    callers: Vec<C>,
    server: u32,
    rounds: Vec<Figures>,
}

impl<C: Caller> Side<C> {
    /// `callers` of the server that is process `server`.
    pub(crate) fn new(callers: Vec<C>, server: u32) -> Self {
        Self { callers, server, rounds: Vec::new() }
    }

    /// Other callers from now on, for a server that closes connections on which nothing was asked for a while.
    pub(crate) fn replace(&mut self, callers: Vec<C>) {
        self.callers = callers;
    }

    /// One more round.
    ///
    /// # Errors
    /// The first error of a caller, or a request that is not answered in time.
    pub(crate) async fn round(&mut self, plan: &Plan) -> Result<()> {
        let (callers, measured) = round(std::mem::take(&mut self.callers), plan, self.server).await?;
        self.callers = callers;
        self.rounds.push(measured);
        Ok(())
    }

    /// What the rounds came to.
    pub(crate) fn figures(&self) -> Figures {
        let over_rounds = |figure: fn(&Figures) -> f64| median(self.rounds.iter().map(figure).collect());
        Figures {
            rps: over_rounds(|round| round.rps),
            cpu_us: over_rounds(|round| round.cpu_us),
            p50_ms: over_rounds(|round| round.p50_ms),
            p99_ms: over_rounds(|round| round.p99_ms),
        }
    }
}

/// Puts `callers` to the server that is process `server`, and to no other meanwhile.
///
/// # Errors
/// Those of [`Side::round`].
pub(crate) async fn measure<C: Caller>(callers: Vec<C>, plan: &Plan, server: u32) -> Result<Figures> {
    let mut side = Side::new(callers, server);
    for _ in 0..plan.rounds {
        side.round(plan).await?;
    }
    Ok(side.figures())
}

/// Has `callers` make `count` requests together. Answers how long they took.
///
/// # Errors
/// The first error of a caller.
pub(crate) async fn complete<C: Caller>(callers: Vec<C>, count: usize) -> Result<Duration> {
    let left = Arc::new(AtomicUsize::new(count));
    let start = Instant::now();
    let mut loops = JoinSet::new();
    for mut caller in callers {
        let left = Arc::clone(&left);
        loops.spawn(async move {
            let one_less = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
                caller.call().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = loops.join_next().await {
        done??;
    }
    Ok(start.elapsed())
}

/// The middle one of `values`, the upper of two; NaN of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn round<C: Caller>(callers: Vec<C>, plan: &Plan, server: u32) -> Result<(Vec<C>, Figures)> {
    let begin = Instant::now() + plan.warm_up;
    let end = begin + plan.time;
    let mut loops = JoinSet::new();
    for caller in callers {
        loops.spawn(call_until(caller, begin, end));
    }
    sleep_until(begin).await;
    let before = cpu::time(server)?;
    sleep_until(end).await;
    let spent = cpu::time(server)?.saturating_sub(before);

    let (mut callers, mut latencies) = (Vec::new(), Histogram::new());
    let all = async {
        while let Some(ended) = loops.join_next().await {
            let (caller, seen) = ended??;
            callers.push(caller);
            latencies.add(&seen);
        }
        anyhow::Ok(())
    };
    timeout(LAST_ANSWER, all).await.context("a request was not answered in time")??;
    anyhow::ensure!(latencies.count() > 0, "no request was answered within {:?}", plan.time);

    let count = latencies.count() as f64;
    let figures = Figures {
        rps: count / plan.time.as_secs_f64(),
        cpu_us: spent.as_secs_f64() * 1e6 / count,
        p50_ms: latencies.percentile(50).as_secs_f64() * 1e3,
        p99_ms: latencies.percentile(99).as_secs_f64() * 1e3,
    };
    Ok((callers, figures))
}

async fn call_until<C: Caller>(mut caller: C, begin: Instant, end: Instant) -> Result<(C, Histogram)> {
    let mut latencies = Histogram::new();
    let mut sent = Instant::now();
    while sent < end {
        caller.call().await?;
        let answered = Instant::now();
        if answered >= begin && answered < end {
            latencies.record(answered - sent);
        }
        sent = answered;
    }
    Ok((caller, latencies))
}

/// After the end of a round, for the requests under way then.
const LAST_ANSWER: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    struct Patient(Duration);

    impl Caller for Patient {
        async fn call(&mut self) -> Result<()> {
            tokio::time::sleep(self.0).await;
            Ok(())
        }
    }

    struct Refused;

    impl Caller for Refused {
        async fn call(&mut self) -> Result<()> {
            anyhow::bail!("denied")
        }
    }

    #[tokio::test]
    async fn callers_ask_one_request_after_the_other() {
        tokio::time::pause();
        let callers = [100, 200].map(|each| Patient(Duration::from_millis(each)));
        let figures = measure(callers.into(), &Plan::FULL, std::process::id()).await.unwrap();
        // tokio's timer rounds each sleep up by less than a millisecond.
        assert!((figures.rps - 15.0).abs() < 0.5, "{figures:?}");
        assert!((figures.p50_ms - 100.0).abs() < 4.0 && (figures.p99_ms - 200.0).abs() < 6.0, "{figures:?}");
    }

    #[tokio::test]
    async fn a_refused_request_ends_the_measurement() {
        tokio::time::pause();
        let error = measure(vec![Refused], &Plan::SMOKE, std::process::id()).await.unwrap_err();
        assert_eq!(error.to_string(), "denied");
    }

    #[tokio::test]
    async fn a_server_that_answers_nothing_is_an_error() {
        tokio::time::pause();
        let silent = vec![Patient(Duration::from_secs(20))];
        let error = measure(silent, &Plan::SMOKE, std::process::id()).await.unwrap_err();
        assert!(error.to_string().starts_with("no request was answered"), "{error}");
        let silent = vec![Patient(Duration::from_secs(3600))];
        let error = measure(silent, &Plan::SMOKE, std::process::id()).await.unwrap_err();
        assert!(error.to_string().starts_with("a request was not answered in time"), "{error}");
    }

    #[test]
    fn a_median_is_not_moved_by_one_slow_round() {
        assert!((median(vec![900.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
