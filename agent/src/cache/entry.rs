//! One cached answer: values, where they came from, and the leases that it stands on.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bursar_core::Secret;
use bursar_proto::convert::{duration_from_wire, duration_to_wire, wire_bytes};
use bursar_proto::v1::{
    EnvironmentsResolveResponse, Lease, ResolvedFile, ResolvedVariable, SecretsReadResponse,
};

use super::holding::Holding;
use super::moment::Moment;

/// An answer that was disclosed once and may be again.
pub struct Entry {
    payload: Payload,
    pub(super) holdings: Vec<Arc<Holding>>,
    /// When the broker was asked for it.
    pub(super) taken: Moment,
    /// The epoch of the broker's events at that moment.
    pub(super) epoch: u64,
    pub(super) stale: AtomicBool,
}

/// What was answered, without its leases.
pub struct Payload(Kind);

enum Kind {
    Secret {
        value: Secret,
        version: String,
        age: Duration,
    },
    /// Each variable and file beside the value that was taken out of it, so that copying the one copies no secret.
    Environment {
        revision: u64,
        variables: Vec<(ResolvedVariable, Secret)>,
        files: Vec<(ResolvedFile, Secret)>,
    },
}

impl Payload {
    /// Takes the value out of an answer, and leaves a lease to be looked after.
    pub fn of_read(mut answer: SecretsReadResponse) -> (Self, Vec<Lease>) {
        let leases = answer.lease.take().into_iter().collect();
        let (version, age) = (std::mem::take(&mut answer.version), age(answer.age));
        (Self(Kind::Secret { value: answer.take_value(), version, age }), leases)
    }

    /// Takes the values out of an answer, and leaves leases to be looked after.
    pub fn of_resolve(answer: EnvironmentsResolveResponse) -> (Self, Vec<Lease>) {
        let EnvironmentsResolveResponse { revision, variables, files, leases, offline: _ } = answer;
        let variable = |mut variable: ResolvedVariable| {
            let value = variable.take_value();
            (variable, value)
        };
        let file = |mut file: ResolvedFile| {
            let contents = file.take_contents();
            (file, contents)
        };
        let variables = variables.into_iter().map(variable).collect();
        let files = files.into_iter().map(file).collect();
        (Self(Kind::Environment { revision, variables, files }), leases)
    }

    fn bytes(&self) -> usize {
        match &self.0 {
            Kind::Secret { value, version, .. } => value.len() + version.len(),
            Kind::Environment { variables, files, .. } => {
                let variables = variables.iter().map(|(about, value)| about.name.len() + value.len());
                let files = files.iter().map(|(about, value)| about.path.len() + value.len());
                variables.chain(files).map(|bytes| bytes + PER_VALUE).sum()
            }
        }
    }

    /// The age that the oldest value had, and the ages that values must not pass with the age they had.
    fn ages(&self) -> (Duration, Vec<(Duration, Duration)>) {
        match &self.0 {
            Kind::Secret { age, .. } => (*age, Vec::new()),
            Kind::Environment { variables, files, .. } => {
                let of_variables = variables.iter().map(|(about, _)| (about.age, about.max_stale));
                let of_files = files.iter().map(|(about, _)| (about.age, about.max_stale));
                let ages: Vec<_> = of_variables.chain(of_files).collect();
                let oldest = ages.iter().map(|(had, _)| age(*had)).max().unwrap_or_default();
                let limit = |(had, limit): (Option<prost_types::Duration>, Option<prost_types::Duration>)| {
                    Some((age(had), duration_from_wire("max_stale", limit).ok()??))
                };
                (oldest, ages.into_iter().filter_map(limit).collect())
            }
        }
    }
}

impl Entry {
    pub(super) fn new(payload: Payload, holdings: Vec<Arc<Holding>>, taken: Moment, epoch: u64) -> Self {
        Self { payload, holdings, taken, epoch, stale: AtomicBool::new(false) }
    }

    /// The answer to a read, as of `now`. Nothing, when this is an environment.
    pub fn secret(&self, now: &Moment) -> Option<SecretsReadResponse> {
        let Kind::Secret { value, version, age } = &self.payload.0 else { return None };
        Some(SecretsReadResponse {
            value: wire_bytes(value),
            version: version.clone(),
            lease: self.holdings.first().map(|holding| holding.lease()),
            age: Some(duration_to_wire(age.saturating_add(now.since(&self.taken)))),
        })
    }

    /// The answer to a resolve, as of `now`. Nothing, when this is a single secret.
    pub fn environment(&self, now: &Moment) -> Option<EnvironmentsResolveResponse> {
        let Kind::Environment { revision, variables, files } = &self.payload.0 else { return None };
        let later = now.since(&self.taken);
        let aged = |had: Option<prost_types::Duration>| {
            had.map(|had| duration_to_wire(age(Some(had)).saturating_add(later)))
        };
        let variable = |(about, value): &(ResolvedVariable, Secret)| {
            let mut variable = about.clone();
            variable.value = wire_bytes(value);
            variable.age = aged(variable.age);
            variable
        };
        let file = |(about, contents): &(ResolvedFile, Secret)| {
            let mut file = about.clone();
            file.contents = wire_bytes(contents);
            file.age = aged(file.age);
            file
        };
        Some(EnvironmentsResolveResponse {
            revision: *revision,
            variables: variables.iter().map(variable).collect(),
            files: files.iter().map(file).collect(),
            leases: self.holdings.iter().map(|holding| holding.lease()).collect(),
            offline: None,
        })
    }

    /// Whether it is an environment.
    pub(super) fn is_environment(&self) -> bool {
        matches!(self.payload.0, Kind::Environment { .. })
    }

    /// The leases that it stands on.
    pub fn holdings(&self) -> &[Arc<Holding>] {
        &self.holdings
    }

    /// For how long after it was taken every value is as young as it has to be; without an end, where there is no limit.
    pub(super) fn young_for(&self) -> Option<Duration> {
        let (_, limits) = self.payload.ages();
        limits.into_iter().map(|(had, limit)| limit.saturating_sub(had)).min()
    }

    /// Whether every value is as young as it has to be: `max_age` is what the caller demands.
    pub(super) fn is_young(&self, now: &Moment, max_age: Option<Duration>) -> bool {
        let later = now.since(&self.taken);
        let (oldest, limits) = self.payload.ages();
        max_age.is_none_or(|limit| oldest.saturating_add(later) <= limit)
            && limits.iter().all(|(had, limit)| had.saturating_add(later) <= *limit)
    }

    pub(super) fn is_in_force(&self, now: &Moment) -> bool {
        !self.holdings.is_empty() && self.holdings.iter().all(|holding| holding.is_in_force(now))
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    pub(super) fn spoil(&self) {
        self.stale.store(true, Ordering::Release);
    }

    pub(super) fn stands_on(&self, lease_id: &str) -> bool {
        self.holdings.iter().any(|holding| holding.id() == lease_id)
    }

    /// What it takes in memory, about. In bytes.
    pub(super) fn weight(&self) -> u64 {
        u64::try_from(self.payload.bytes() + PER_ENTRY + self.holdings.len() * PER_LEASE).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leases: Vec<_> = self.holdings.iter().map(|holding| holding.id()).collect();
        f.debug_struct("Entry").field("leases", &leases).field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Secret { version, .. } => {
                f.debug_struct("Secret").field("version", version).finish_non_exhaustive()
            }
            Kind::Environment { revision, .. } => {
                f.debug_struct("Environment").field("revision", revision).finish_non_exhaustive()
            }
        }
    }
}

fn age(wire: Option<prost_types::Duration>) -> Duration {
    duration_from_wire("age", wire).ok().flatten().unwrap_or_default()
}

const PER_ENTRY: usize = 512;
const PER_LEASE: usize = 1024;
const PER_VALUE: usize = 256;
