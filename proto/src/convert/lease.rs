//! Leases. `version` and `ttl` on the wire are there for clients in other languages; they follow from `reference` and
//! from the times, so they are written and not read.

use std::time::Duration;

use bursar_core::lease::{Lease, LeaseState, TtlBound};
use bursar_core::{Reference, SpiffeId};

use super::{WireError, duration_to_wire, filled, timestamp_from_wire, timestamp_to_wire};
use crate::v1;

impl From<Lease> for v1::Lease {
    fn from(lease: Lease) -> Self {
        let granted = lease.expires_at.duration_since(lease.renewed_at);
        Self {
            id: lease.id.to_string(),
            reference: lease.reference.to_string(),
            version: lease.reference.version.map(|version| version.to_string()).unwrap_or_default(),
            principal: lease.principal.to_string(),
            node: lease.node.map(|node| node.to_string()).unwrap_or_default(),
            instance: lease.instance,
            environment: lease.environment.unwrap_or_default(),
            state: v1::LeaseState::from(lease.state).into(),
            issued_at: Some(timestamp_to_wire(lease.issued_at)),
            renewed_at: Some(timestamp_to_wire(lease.renewed_at)),
            expires_at: Some(timestamp_to_wire(lease.expires_at)),
            max_expires_at: lease.max_expires_at.map(timestamp_to_wire),
            renewable: lease.renewable,
            ttl: Some(duration_to_wire(Duration::try_from(granted).unwrap_or_default())),
            ttl_bound: v1::TtlBound::from(lease.ttl_bound).into(),
            dynamic: lease.dynamic,
            attempts: lease.attempts,
            last_error_kind: lease.last_error.unwrap_or_default(),
            reason: lease.reason.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::Lease> for Lease {
    type Error = WireError;

    fn try_from(lease: v1::Lease) -> Result<Self, WireError> {
        let spiffe_id =
            |field, text: &str| SpiffeId::parse(text).map_err(|source| WireError::SpiffeId { field, source });
        Ok(Self {
            id: lease.id.parse().map_err(|source| WireError::LeaseId { field: "id", source })?,
            reference: Reference::parse(&lease.reference)
                .map_err(|source| WireError::Reference { field: "reference", source })?,
            principal: spiffe_id("principal", &lease.principal)?,
            node: filled(lease.node).map(|node| spiffe_id("node", &node)).transpose()?,
            instance: lease.instance,
            environment: filled(lease.environment),
            state: lease_state_from_wire("state", lease.state)?,
            dynamic: lease.dynamic,
            issued_at: timestamp_from_wire("issued_at", lease.issued_at)?,
            renewed_at: timestamp_from_wire("renewed_at", lease.renewed_at)?,
            expires_at: timestamp_from_wire("expires_at", lease.expires_at)?,
            max_expires_at: lease
                .max_expires_at
                .map(|end| timestamp_from_wire("max_expires_at", Some(end)))
                .transpose()?,
            renewable: lease.renewable,
            ttl_bound: ttl_bound_from_wire("ttl_bound", lease.ttl_bound)?,
            attempts: lease.attempts,
            last_error: filled(lease.last_error_kind),
            reason: filled(lease.reason),
        })
    }
}

/// Reads a `LeaseState`; `field` is named in errors.
///
/// # Errors
/// [`WireError::UnknownValue`] when it is unspecified or of a later release.
pub fn lease_state_from_wire(field: &'static str, value: i32) -> Result<LeaseState, WireError> {
    match v1::LeaseState::try_from(value) {
        Ok(v1::LeaseState::Intent) => Ok(LeaseState::Intent),
        Ok(v1::LeaseState::Active) => Ok(LeaseState::Active),
        Ok(v1::LeaseState::Expired) => Ok(LeaseState::Expired),
        Ok(v1::LeaseState::Revoked) => Ok(LeaseState::Revoked),
        Ok(v1::LeaseState::Revoking) => Ok(LeaseState::Revoking),
        Ok(v1::LeaseState::Stuck) => Ok(LeaseState::Stuck),
        Ok(v1::LeaseState::Gone) => Ok(LeaseState::Gone),
        Ok(v1::LeaseState::Unspecified) | Err(_) => Err(WireError::UnknownValue { field, value }),
    }
}

/// Reads a `TtlBound`; `field` is named in errors.
///
/// # Errors
/// [`WireError::UnknownValue`] when it is unspecified or of a later release.
pub fn ttl_bound_from_wire(field: &'static str, value: i32) -> Result<TtlBound, WireError> {
    match v1::TtlBound::try_from(value) {
        Ok(v1::TtlBound::Asked) => Ok(TtlBound::Asked),
        Ok(v1::TtlBound::Policy) => Ok(TtlBound::Policy),
        Ok(v1::TtlBound::Backend) => Ok(TtlBound::Backend),
        Ok(v1::TtlBound::Credential) => Ok(TtlBound::Credential),
        Ok(v1::TtlBound::Unspecified) | Err(_) => Err(WireError::UnknownValue { field, value }),
    }
}

impl From<LeaseState> for v1::LeaseState {
    fn from(state: LeaseState) -> Self {
        match state {
            LeaseState::Intent => Self::Intent,
            LeaseState::Active => Self::Active,
            LeaseState::Expired => Self::Expired,
            LeaseState::Revoked => Self::Revoked,
            LeaseState::Revoking => Self::Revoking,
            LeaseState::Stuck => Self::Stuck,
            LeaseState::Gone => Self::Gone,
        }
    }
}

impl From<TtlBound> for v1::TtlBound {
    fn from(bound: TtlBound) -> Self {
        match bound {
            TtlBound::Asked => Self::Asked,
            TtlBound::Policy => Self::Policy,
            TtlBound::Backend => Self::Backend,
            TtlBound::Credential => Self::Credential,
        }
    }
}

#[cfg(test)]
mod tests;
