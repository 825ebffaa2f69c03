//! Leases: one principal's right to one secret version until it expires, and the states that right goes through.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use crate::reference::Reference;
use crate::spiffe::SpiffeId;

/// Names a lease. Time-ordered, so that new leases land together in an index; unguessable, though knowing one gives
/// no right: owner and policy are checked on every use.
///
/// Text form: 26 characters of Crockford's base 32, as ULID has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(ulid::Ulid);

impl LeaseId {
    /// Makes an id for a lease of `now` from 80 random bits.
    pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
        let mut wide = [0; 16];
        wide[6..].copy_from_slice(&random);
        let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
        Self(ulid::Ulid::from_parts(millis, u128::from_be_bytes(wide)))
    }

    /// The form in which ledgers store it: 16 bytes that sort by time.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    /// Reads the stored form.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(ulid::Ulid::from_bytes(bytes))
    }
}

/// Text that is no lease id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a lease id has 26 letters and digits, such as `01ARZ3NDEKTSV4RRFFQ69G5FAV`; `bursar lease list` shows them"
)]
pub struct LeaseIdError;

/// One lease, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    /// The secret, without a field; its version is the one that was disclosed.
    pub reference: Reference,
    /// Who may use it.
    pub principal: SpiffeId,
    /// The node whose agent asked for it, if one did.
    pub node: Option<SpiffeId>,
    /// Tells instances of one workload apart; empty when the caller gave none.
    pub instance: String,
    /// The environment through which it was asked for.
    pub environment: Option<String>,
    pub state: LeaseState,
    /// Whether the store made the credential for this lease, so that it has to be taken back there.
    pub dynamic: bool,
    pub issued_at: Timestamp,
    pub renewed_at: Timestamp,
    pub expires_at: Timestamp,
    /// No renewal goes past this.
    pub max_expires_at: Option<Timestamp>,
    /// Whether the holder may extend it.
    pub renewable: bool,
    /// What bound the time that was granted last.
    pub ttl_bound: TtlBound,
    /// Attempts at taking the credential back so far.
    pub attempts: u32,
    /// Why the last attempt failed: the name of a [`crate::backend::ErrorKind`].
    pub last_error: Option<String>,
    /// The reason that the caller gave.
    pub reason: Option<String>,
}

/// `intent -> active -> (expired | revoked) -> revoking -> gone`, and `revoking -> stuck -> revoking`.
///
/// A static secret has nothing to take back: its lease goes from active straight to gone, which [`LeaseState::after`]
/// reaches by [`LeaseEvent::Removed`] in the same transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseState {
    /// Written down before the store is asked to create a credential.
    Intent,
    /// Granted and in force.
    Active,
    /// Its time ran out; waits to be taken back.
    Expired,
    /// Taken back by somebody; waits to be gone at the store.
    Revoked,
    /// The store is being asked to remove the credential.
    Revoking,
    /// The attempts are used up; retried when the store is healthy again.
    Stuck,
    /// Nothing is left at the store, or an administrator gave it up. Final.
    Gone,
}

/// What happens to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEvent {
    /// The store created the credential, or a static secret was read.
    Issued,
    /// The time that was granted ended.
    Expire,
    /// Somebody took it back.
    Revoke,
    /// The revoker took it up.
    Attempt,
    /// The store says that the credential is gone, or was never there.
    Removed,
    /// The store refused or failed for the last time.
    GaveUp,
    /// An administrator gave the credential up: it may live on at the store.
    Abandoned,
}

impl LeaseState {
    /// The state after `event`, or nothing where the event cannot happen. Pure: the ledger applies the answer.
    #[must_use]
    pub fn after(self, event: LeaseEvent) -> Option<Self> {
        use LeaseEvent as E;
        match (self, event) {
            (Self::Intent, E::Issued) => Some(Self::Active),
            (Self::Active, E::Expire) => Some(Self::Expired),
            (Self::Intent | Self::Active | Self::Expired, E::Revoke) => Some(Self::Revoked),
            (Self::Expired | Self::Revoked | Self::Revoking | Self::Stuck, E::Attempt) => {
                Some(Self::Revoking)
            }
            (Self::Intent | Self::Active | Self::Revoking, E::Removed) => Some(Self::Gone),
            (Self::Revoking, E::GaveUp) => Some(Self::Stuck),
            (from, E::Abandoned) if from != Self::Gone => Some(Self::Gone),
            _ => None,
        }
    }

    /// Whether the holder may still use the secret.
    pub fn is_live(self) -> bool {
        self == Self::Active
    }

    /// Every state, in the order of a life.
    pub const ALL: [Self; 7] =
        [Self::Intent, Self::Active, Self::Expired, Self::Revoked, Self::Revoking, Self::Stuck, Self::Gone];

    /// The name that CLI, metrics and ledger use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Revoking => "revoking",
            Self::Stuck => "stuck",
            Self::Gone => "gone",
        }
    }
}

/// Which of the limits on a lease's time was the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TtlBound {
    /// What the caller asked for.
    Asked,
    /// The broker's own limits.
    Policy,
    /// The store's lease.
    Backend,
    /// The credential that the caller presented.
    Credential,
}

/// The limits on a lease's time; the smallest wins and is named.
#[derive(Debug, Clone, Copy)]
pub struct TtlLimits {
    pub asked: Option<Duration>,
    pub policy: Duration,
    pub backend: Option<Duration>,
    pub credential: Option<Duration>,
}

impl TtlLimits {
    /// The effective time to live and what bound it. Ties go to the outermost limit: asked, policy, backend, credential.
    pub fn effective(&self) -> (Duration, TtlBound) {
        let limits = [
            (self.asked, TtlBound::Asked),
            (Some(self.policy), TtlBound::Policy),
            (self.backend, TtlBound::Backend),
            (self.credential, TtlBound::Credential),
        ];
        let set = limits.into_iter().filter_map(|(limit, bound)| limit.map(|limit| (limit, bound)));
        set.min_by_key(|(limit, _)| *limit).unwrap_or((self.policy, TtlBound::Policy))
    }
}

/// `ttl` shortened by a random part of at most a tenth, so that leases that were granted together do not end together.
/// What the caller asked for is granted exactly, and so is a time of less than a minute.
pub fn spread(ttl: Duration, bound: TtlBound) -> Duration {
    if bound == TtlBound::Asked || ttl < SHORTEST_SPREAD {
        return ttl;
    }
    ttl.mul_f64(1.0 - fastrand::f64() / 10.0)
}

impl TtlBound {
    /// The name that CLI and ledger use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Policy => "policy",
            Self::Backend => "backend",
            Self::Credential => "credential",
        }
    }
}

/// A name that no enum of this module has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} `{name}`")]
pub struct UnknownName {
    what: &'static str,
    name: String,
}

impl FromStr for LeaseState {
    type Err = UnknownName;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == name);
        known.ok_or_else(|| UnknownName { what: "lease state", name: name.to_owned() })
    }
}

impl FromStr for TtlBound {
    type Err = UnknownName;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let all = [Self::Asked, Self::Policy, Self::Backend, Self::Credential];
        let known = all.into_iter().find(|bound| bound.as_str() == name);
        known.ok_or_else(|| UnknownName { what: "bound of a lease's time", name: name.to_owned() })
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for LeaseId {
    type Err = LeaseIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ulid::Ulid::from_string(text).map(Self).map_err(|_| LeaseIdError)
    }
}

const SHORTEST_SPREAD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gone_is_final() {
        use LeaseEvent::{Abandoned, Attempt, Expire, GaveUp, Issued, Removed, Revoke};
        for event in [Issued, Expire, Revoke, Attempt, Removed, GaveUp, Abandoned] {
            assert_eq!(LeaseState::Gone.after(event), None);
        }
    }

    #[test]
    fn names_read_back() {
        for state in LeaseState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
    }

    #[test]
    fn ids_sort_by_time_and_read_back() {
        let early = LeaseId::new(Timestamp::constant(1, 0), [0xff; 10]);
        let late = LeaseId::new(Timestamp::constant(2, 0), [0; 10]);
        assert!(early < late && early.to_bytes() < late.to_bytes());
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(LeaseId::from_bytes(late.to_bytes()), late);
    }

    #[test]
    fn the_smallest_limit_binds_and_is_named() {
        let limits = TtlLimits {
            asked: Some(Duration::from_secs(60)),
            policy: Duration::from_secs(3600),
            backend: Some(Duration::from_secs(30)),
            credential: None,
        };
        assert_eq!(limits.effective(), (Duration::from_secs(30), TtlBound::Backend));
    }

    #[test]
    fn what_was_asked_for_is_exact_and_the_rest_is_spread_over_its_last_tenth() {
        let hour = Duration::from_secs(3600);
        assert_eq!(spread(hour, TtlBound::Asked), hour);
        assert_eq!(spread(Duration::from_secs(59), TtlBound::Policy), Duration::from_secs(59));
        let spreads: Vec<_> = (0..1000).map(|_| spread(hour, TtlBound::Policy)).collect();
        assert!(spreads.iter().all(|ttl| (Duration::from_secs(3240)..=hour).contains(ttl)));
        let last_minutes = |from: u64, to: u64| {
            let range = Duration::from_secs(from)..Duration::from_secs(to);
            spreads.iter().filter(|ttl| range.contains(ttl)).count()
        };
        for minute in (3240..3600).step_by(60) {
            assert!(last_minutes(minute, minute + 60) > 50, "few ends in the minute from {minute} s");
        }
    }

    proptest! {
        /// Promise 2: whatever happens, a credential that exists at the store is held by a state other than gone until
        /// the store says that it was removed, or an administrator gives it up.
        #[test]
        fn only_removal_ends_a_lease(events in prop::collection::vec(0_u8..7, 0..40)) {
            use LeaseEvent::{Abandoned, Attempt, Expire, GaveUp, Issued, Removed, Revoke};
            let mut state = LeaseState::Intent;
            for event in events {
                let event = [Issued, Expire, Revoke, Attempt, Removed, GaveUp, Abandoned][usize::from(event)];
                if let Some(next) = state.after(event) {
                    prop_assert!(next != LeaseState::Gone || matches!(event, Removed | Abandoned));
                    prop_assert!(next != LeaseState::Active || state == LeaseState::Intent);
                    state = next;
                }
            }
        }
    }
}
