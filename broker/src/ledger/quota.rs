//! Quotas: how many leases a principal or a backend may have, and how many new ones a minute.
//!
//! Only what is new counts: a live lease that is handed out again, a renewal and a revocation never meet a quota. How many
//! leases somebody has is a sum in the database, exact at any moment and after any restart (`engine/sqlite/tally.rs`).
//! How fast they come is remembered here, by the generic cell rate algorithm (ITU-T I.371): one time for each holder, at
//! which his whole allowance would be back. Whoever has it back needs no memory, so there is some only for those who were
//! granted something within the last minute, and of those for a bounded number.

use std::collections::{BTreeMap, HashMap};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use bursar_core::Lease;

use super::query::HolderKind;

/// Every quota.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Of each principal.
    pub principal: Quota,
    /// By name; of each that is not here there is none.
    pub backends: BTreeMap<String, Quota>,
}

/// What one holder may have; without a limit where it is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Leases that are not gone.
    pub live: Option<NonZeroU64>,
    /// New leases a minute: as many at once, and evenly after that.
    pub issued_per_minute: Option<NonZeroU32>,
}

/// A lease that was not granted, since its holder has as much as he may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaExceeded {
    pub of: HolderKind,
    pub holder: String,
    pub limit: Limit,
    /// When one may be granted, or when to look again.
    pub retry_after: Duration,
}

/// The limit that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Live(u64),
    IssuedPerMinute(u32),
}

impl Quotas {
    /// The quota of one holder.
    pub fn of(&self, kind: HolderKind, name: &str) -> Quota {
        match kind {
            HolderKind::Principal => self.principal,
            HolderKind::Backend => self.backends.get(name).copied().unwrap_or_default(),
            HolderKind::Node => Quota::default(),
        }
    }
}

impl Limit {
    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live(_) => "live",
            Self::IssuedPerMinute(_) => "issued_per_minute",
        }
    }
}

impl QuotaExceeded {
    pub(super) fn live(of: HolderKind, holder: &str, limit: u64) -> Self {
        Self { of, holder: holder.to_owned(), limit: Limit::Live(limit), retry_after: LOOK_AGAIN }
    }
}

impl std::fmt::Display for QuotaExceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { of, holder, limit, .. } = self;
        let of = of.as_str();
        match limit {
            Limit::Live(limit) => write!(
                f,
                "the {of} `{holder}` has {limit} leases, as many as its quota allows; revoke some, or wait until some end"
            ),
            Limit::IssuedPerMinute(limit) => write!(
                f,
                "the {of} `{holder}` was granted new leases faster than the {limit} a minute of its quota; ask again later, \
                 and keep what is granted"
            ),
        }
    }
}

impl std::error::Error for QuotaExceeded {}

/// What the writer goes by: the quotas, and how much of the rates is used up.
#[derive(Debug)]
pub(super) struct Meter {
    quotas: Quotas,
    principals: HashMap<String, i64>,
    backends: HashMap<String, i64>,
    /// What was noted since the last batch began, with what was there before.
    noted: Vec<(HolderKind, String, Option<i64>)>,
}

impl Meter {
    pub(super) fn new(quotas: Quotas) -> Self {
        Self { quotas, principals: HashMap::new(), backends: HashMap::new(), noted: Vec::new() }
    }

    /// The holders of `lease` that have a quota.
    pub(super) fn limits<'a>(&self, lease: &'a Lease) -> [(HolderKind, &'a str, Quota); 2] {
        let (principal, backend) = (lease.principal.as_str(), lease.reference.backend.as_str());
        [(HolderKind::Principal, principal), (HolderKind::Backend, backend)]
            .map(|(kind, name)| (kind, name, self.quotas.of(kind, name)))
    }

    /// Notes one more new lease at `at`, in microseconds, if every rate allows it.
    ///
    /// # Errors
    /// The first rate that does not; nothing is noted then.
    pub(super) fn note(
        &mut self,
        limits: [(HolderKind, &str, Quota); 2],
        at: i64,
    ) -> Result<(), QuotaExceeded> {
        let at = at.saturating_mul(1000);
        let rated = limits.into_iter().filter_map(|(kind, name, quota)| {
            let rate = quota.issued_per_minute?;
            let full = self.of(kind).get(name).copied().unwrap_or(at).max(at);
            Some((kind, name, rate, full.saturating_add(MINUTE / i64::from(rate.get()))))
        });
        let rated: Vec<_> = rated.collect();
        for (kind, name, rate, full) in &rated {
            let early = full.saturating_sub(MINUTE).saturating_sub(at);
            if early > 0 {
                return Err(QuotaExceeded {
                    of: *kind,
                    holder: (*name).to_owned(),
                    limit: Limit::IssuedPerMinute(rate.get()),
                    retry_after: Duration::from_nanos(early.unsigned_abs()),
                });
            }
        }
        for (kind, name, _, full) in rated {
            self.make_room(kind, at);
            let before = self.of_mut(kind).insert(name.to_owned(), full);
            self.noted.push((kind, name.to_owned(), before));
        }
        Ok(())
    }

    /// Forgets how to undo what was noted: it is as durable as it gets.
    pub(super) fn begin(&mut self) {
        self.noted.clear();
    }

    /// The point to which [`Meter::undo`] returns.
    pub(super) fn mark(&self) -> usize {
        self.noted.len()
    }

    /// Gives back what was noted for an entry that is refused.
    pub(super) fn undo(&mut self, mark: usize) {
        while self.noted.len() > mark {
            let Some((kind, name, before)) = self.noted.pop() else { return };
            match before {
                Some(before) => drop(self.of_mut(kind).insert(name, before)),
                None => drop(self.of_mut(kind).remove(&name)),
            }
        }
    }

    /// How many holders' rates are remembered.
    pub(super) fn remembered(&self) -> u64 {
        u64::try_from(self.principals.len() + self.backends.len()).unwrap_or(u64::MAX)
    }

    /// Lets go of those who have their whole allowance back, and should that not do, of the half that is nearest to it:
    /// that half may be granted up to a minute's worth again, and nobody is refused for want of memory.
    fn make_room(&mut self, kind: HolderKind, at: i64) {
        let remembered = self.of_mut(kind);
        if remembered.len() < MOST {
            return;
        }
        remembered.retain(|_, full| *full > at);
        if remembered.len() < MOST / 2 {
            return;
        }
        let mut ends: Vec<i64> = remembered.values().copied().collect();
        let middle = ends.len() / 2;
        let (_, median, _) = ends.select_nth_unstable(middle);
        remembered.retain(|_, full| *full > *median);
    }

    fn of(&self, kind: HolderKind) -> &HashMap<String, i64> {
        match kind {
            HolderKind::Backend => &self.backends,
            HolderKind::Principal | HolderKind::Node => &self.principals,
        }
    }

    fn of_mut(&mut self, kind: HolderKind) -> &mut HashMap<String, i64> {
        match kind {
            HolderKind::Backend => &mut self.backends,
            HolderKind::Principal | HolderKind::Node => &mut self.principals,
        }
    }
}

/// In nanoseconds.
const MINUTE: i64 = 60_000_000_000;
/// When a lease ends is not known to whoever is refused for having too many.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Holders of one kind whose rates are remembered.
const MOST: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> Meter {
        Meter::new(Quotas::default())
    }

    fn rate(per_minute: u32) -> Quota {
        Quota { live: None, issued_per_minute: NonZeroU32::new(per_minute) }
    }

    /// By a principal with a rate, at a backend without one.
    fn note(meter: &mut Meter, name: &str, per_minute: u32, second: i64) -> Result<(), QuotaExceeded> {
        let limits =
            [(HolderKind::Principal, name, rate(per_minute)), (HolderKind::Backend, "b", Quota::default())];
        meter.note(limits, second * 1_000_000)
    }

    #[test]
    fn a_minutes_worth_is_granted_at_once_and_evenly_after_that() {
        let mut meter = meter();
        for _ in 0..60 {
            note(&mut meter, "a", 60, 1000).expect("within the rate");
        }
        let refused = note(&mut meter, "a", 60, 1000).expect_err("over the rate");
        assert_eq!(
            (refused.limit, refused.retry_after),
            (Limit::IssuedPerMinute(60), Duration::from_secs(1))
        );
        note(&mut meter, "a", 60, 1001).expect("one came back");
        assert!(note(&mut meter, "a", 60, 1001).is_err());
        note(&mut meter, "b", 60, 1001).expect("somebody else");
    }

    #[test]
    fn what_one_rate_refuses_counts_for_no_other() {
        let mut meter = meter();
        let limits = [(HolderKind::Principal, "a", rate(60)), (HolderKind::Backend, "b", rate(1))];
        meter.note(limits, 0).expect("the first");
        for _ in 0..100 {
            assert_eq!(meter.note(limits, 0).expect_err("over the rate").of, HolderKind::Backend);
        }
        for _ in 0..59 {
            note(&mut meter, "a", 60, 0).expect("only one is used up");
        }
    }

    #[test]
    fn an_entry_that_is_refused_gives_back_what_it_took() {
        let mut meter = meter();
        note(&mut meter, "a", 2, 0).expect("granted");
        meter.begin();
        let mark = meter.mark();
        note(&mut meter, "a", 2, 0).expect("granted");
        note(&mut meter, "b", 2, 0).expect("granted");
        meter.undo(mark);
        assert_eq!(meter.remembered(), 1);
        note(&mut meter, "a", 2, 0).expect("it is back");
        assert!(note(&mut meter, "a", 2, 0).is_err());
    }

    #[test]
    fn memory_is_bounded_and_those_who_used_most_are_kept() {
        let mut meter = meter();
        for _ in 0..2 {
            note(&mut meter, "storming", 2, 0).expect("granted");
        }
        for number in 0..3 * MOST {
            note(&mut meter, &number.to_string(), 1000, 0).expect("granted");
        }
        assert!(meter.remembered() <= u64::try_from(MOST).expect("a number"), "{}", meter.remembered());
        assert!(note(&mut meter, "storming", 2, 0).is_err(), "the one that used most was forgotten");
    }
}
