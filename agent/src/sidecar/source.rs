//! Where the contents of the files come from, asked for again and again: an environment, which the SDK follows, or single
//! secrets, which are read again when 60 to 70 % of the shortest lease are over.

use std::fmt;
use std::time::Duration;

use bursar_core::Explained;
use bursar_core::retry::Retry;
use bursar_sdk::{
    Client, Contract, Error, Followed, Follower, Lease, Leased, ReadOptions, Reference, ResolveOptions,
    ResolvedEnvironment,
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::files::render::{File, Rendered, Variable, Variables};

/// Asks for one pod.
#[derive(Debug)]
pub(super) struct Source {
    client: Client,
    wanted: Wanted,
    ttl: Option<Duration>,
    /// Of an environment that was resolved once.
    follower: Option<Follower>,
    /// When secrets are read again.
    due: Instant,
    /// Questions that failed since the last that did not.
    failed: u32,
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Wanted {
    Environment(String),
    /// By the names of variables.
    Secrets(Vec<(String, Reference)>),
}

/// What there is now.
pub(super) struct Contents {
    pub(super) variables: Variables,
    pub(super) files: Rendered,
    /// When it must not be used any more, unless it is had again before.
    pub(super) end: Option<Instant>,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").field("end", &self.end).finish_non_exhaustive()
    }
}

impl Source {
    pub(super) fn new(client: Client, wanted: Wanted, ttl: Option<Duration>) -> Self {
        Self { client, wanted, ttl, follower: None, due: Instant::now(), failed: 0 }
    }

    /// Waits until there may be something else, and asks: at once the first time.
    ///
    /// # Errors
    /// [`Error`]; what there was before is good until its end. Called again, it waits longer each time.
    pub(super) async fn next(&mut self) -> Result<Contents, Error> {
        if let Some(follower) = &mut self.follower {
            loop {
                let asked = Instant::now();
                match follower.next().await? {
                    Followed::Resolved(resolved) => return Ok(of_environment(resolved, asked)),
                    Followed::Deaf(error) => {
                        let error = Explained(&error);
                        tracing::warn!(%error, "changes are not heard of, and seen when leases are extended");
                    }
                }
            }
        }
        if self.failed > 0 {
            sleep(Retry::BACKGROUND.delay(self.failed)).await;
        }
        sleep_until(self.due).await;
        let asked = self.ask().await;
        self.failed = if asked.is_ok() { 0 } else { self.failed.saturating_add(1) };
        asked
    }

    async fn ask(&mut self) -> Result<Contents, Error> {
        let asked = Instant::now();
        match &self.wanted {
            Wanted::Environment(name) => {
                let options =
                    ResolveOptions { ttl: self.ttl, reason: REASON.to_owned(), ..ResolveOptions::default() };
                let resolved = self.client.resolve(name, &options).await?;
                self.follower = Some(self.client.follow(name, options, &resolved.leases));
                Ok(of_environment(resolved, asked))
            }
            Wanted::Secrets(wanted) => {
                let options =
                    ReadOptions { ttl: self.ttl, reason: REASON.to_owned(), ..ReadOptions::default() };
                let references: Vec<_> = wanted.iter().map(|(_, reference)| reference.clone()).collect();
                let read = self.client.read_many(&references, &options).await?;
                let shortest = read.iter().filter_map(|leased| life(&leased.lease)).min().unwrap_or(LONGEST);
                self.due = asked + shortest.min(LONGEST).mul_f64(0.6 + fastrand::f64() / 10.0).max(PAUSE);
                let names = wanted.iter().map(|(name, _)| name.clone());
                let variable = |(name, Leased { value, .. })| (name, Variable::new(true, value));
                let variables = names.zip(read).map(variable).collect();
                Ok(Contents { variables, files: Rendered::new(), end: Some(asked + shortest) })
            }
        }
    }
}

fn of_environment(resolved: ResolvedEnvironment, asked: Instant) -> Contents {
    let lives = resolved.leases.iter().filter_map(life);
    let contracts = resolved.variables.iter().map(|variable| &variable.contract);
    let contracts = contracts.chain(resolved.files.iter().map(|file| &file.contract));
    let end = lives.chain(contracts.filter_map(left)).min().map(|left| asked + left.min(LONGEST));
    let variables = resolved.variables.into_iter();
    let variables =
        variables.map(|variable| (variable.name, Variable::new(variable.secret, variable.value))).collect();
    let files = resolved.files.into_iter();
    let files = files.map(|file| (file.path, File { mode: file.mode, contents: file.contents })).collect();
    Contents { variables, files, end }
}

/// How long a lease lasts from when it was asked for. By this process's clock alone: that of the broker may be another.
fn life(lease: &Lease) -> Option<Duration> {
    Duration::try_from(lease.expires_at.duration_since(lease.renewed_at)).ok()
}

/// How much older a value may become.
fn left(contract: &Contract) -> Option<Duration> {
    Some(contract.max_stale?.saturating_sub(contract.age.unwrap_or_default()))
}

/// In the audit record.
const REASON: &str = "delivery in a pod";
/// Between two reads at least, where leases are short.
const PAUSE: Duration = Duration::from_secs(1);
/// So that adding to an instant cannot overflow.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
