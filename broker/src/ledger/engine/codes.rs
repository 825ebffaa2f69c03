//! How enums, times and numbers stand in columns. A code is for ever: a new variant takes a new number.

use bursar_core::lease::TtlBound;
use bursar_core::{BackendName, LeaseState, SecretPath, SpiffeId};
use jiff::Timestamp;

use crate::ledger::entry::{ObjectKind, RevokeSelector};
use crate::ledger::query::HolderKind;

pub(super) fn state_code(state: LeaseState) -> i64 {
    match state {
        LeaseState::Intent => 0,
        LeaseState::Active => 1,
        LeaseState::Expired => 2,
        LeaseState::Revoked => 3,
        LeaseState::Revoking => 4,
        LeaseState::Stuck => 5,
        LeaseState::Gone => 6,
    }
}

pub(super) fn state_of(code: i64) -> Option<LeaseState> {
    LeaseState::ALL.into_iter().find(|state| state_code(*state) == code)
}

pub(super) fn bound_code(bound: TtlBound) -> i64 {
    match bound {
        TtlBound::Asked => 0,
        TtlBound::Policy => 1,
        TtlBound::Backend => 2,
        TtlBound::Credential => 3,
    }
}

pub(super) fn bound_of(code: i64) -> Option<TtlBound> {
    match code {
        0 => Some(TtlBound::Asked),
        1 => Some(TtlBound::Policy),
        2 => Some(TtlBound::Backend),
        3 => Some(TtlBound::Credential),
        _ => None,
    }
}

pub(super) fn kind_code(kind: ObjectKind) -> i64 {
    match kind {
        ObjectKind::Environment => 0,
        ObjectKind::Policy => 1,
        ObjectKind::Node => 2,
        ObjectKind::JoinToken => 3,
        ObjectKind::Key => 4,
        ObjectKind::Approval => 5,
    }
}

/// The columns `selector`, `backend` and `name` of a bulk revocation.
pub(super) fn selector_codes(selector: &RevokeSelector) -> (i64, Option<&str>, Option<&str>) {
    match selector {
        RevokeSelector::PathPrefix { backend, path } => {
            (0, Some(backend.as_str()), path.as_ref().map(SecretPath::as_str))
        }
        RevokeSelector::Principal(id) => (1, None, Some(id.as_str())),
        RevokeSelector::Node(id) => (2, None, Some(id.as_str())),
        RevokeSelector::Environment(name) => (3, None, Some(name)),
    }
}

/// The same back.
pub(super) fn selector_of(code: i64, backend: Option<&str>, name: Option<&str>) -> Option<RevokeSelector> {
    Some(match code {
        0 => RevokeSelector::PathPrefix {
            backend: BackendName::parse(backend?).ok()?,
            path: name.map(SecretPath::from_store).transpose().ok()?,
        },
        1 => RevokeSelector::Principal(SpiffeId::parse(name?).ok()?),
        2 => RevokeSelector::Node(SpiffeId::parse(name?).ok()?),
        3 => RevokeSelector::Environment(name?.to_owned()),
        _ => return None,
    })
}

/// Principals have a code and no rows.
pub(super) fn holder_code(kind: HolderKind) -> i64 {
    match kind {
        HolderKind::Principal => 0,
        HolderKind::Backend => 1,
        HolderKind::Node => 2,
    }
}

/// Microseconds since 1970.
pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// A count or a position as SQLite has it. None reaches 2^63.
pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The same back. None is negative.
pub(super) fn read(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// A `LIMIT`.
pub(super) fn at_most(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
