//! Audit records. The wire form is for reading; what is signed and verified is the stored line, which only
//! `Audit.Export` sends.

use std::time::Duration;

use bursar_core::audit::{Actor, AuditRecord, Decision, Outcome};

use super::{
    WireError, duration_from_wire, duration_to_wire, filled, timestamp_from_wire, timestamp_to_wire,
};
use crate::v1;

impl From<AuditRecord> for v1::AuditRecord {
    fn from(record: AuditRecord) -> Self {
        Self {
            sequence: record.seq,
            time: Some(timestamp_to_wire(record.time)),
            request_id: record.request_id,
            trace_id: record.trace_id.unwrap_or_default(),
            actor: Some(record.actor.into()),
            action: record.action.as_str().to_owned(),
            resource: record.resource,
            environment: record.environment.unwrap_or_default(),
            version: record.version.unwrap_or_default(),
            lease_id: record.lease_id.unwrap_or_default(),
            decision: v1::Decision::from(record.decision).into(),
            policies: record.policies,
            approvals: record.approvals,
            kept_until: record.kept_until.map(timestamp_to_wire),
            reason: record.reason.unwrap_or_default(),
            outcome: v1::Outcome::from(record.outcome).into(),
            error_kind: record.error_kind.unwrap_or_default(),
            latency: Some(duration_to_wire(Duration::from_micros(record.latency_us))),
        }
    }
}

impl TryFrom<v1::AuditRecord> for AuditRecord {
    type Error = WireError;

    fn try_from(record: v1::AuditRecord) -> Result<Self, WireError> {
        let latency = duration_from_wire("latency", record.latency)?;
        let latency = latency.ok_or(WireError::Missing { field: "latency" })?;
        let kept_until = record.kept_until.map(|until| timestamp_from_wire("kept_until", Some(until)));
        Ok(Self {
            seq: record.sequence,
            time: timestamp_from_wire("time", record.time)?,
            request_id: record.request_id,
            trace_id: filled(record.trace_id),
            actor: record.actor.ok_or(WireError::Missing { field: "actor" })?.into(),
            action: record.action.parse().map_err(|source| WireError::Action { field: "action", source })?,
            resource: record.resource,
            environment: filled(record.environment),
            version: filled(record.version),
            lease_id: filled(record.lease_id),
            decision: decision_from_wire("decision", record.decision)?,
            policies: record.policies,
            approvals: record.approvals,
            kept_until: kept_until.transpose()?,
            reason: filled(record.reason),
            outcome: outcome_from_wire("outcome", record.outcome)?,
            error_kind: filled(record.error_kind),
            latency_us: u64::try_from(latency.as_micros())
                .map_err(|_| WireError::OutOfRange { field: "latency" })?,
        })
    }
}

impl From<Actor> for v1::AuditActor {
    fn from(actor: Actor) -> Self {
        Self {
            principal: actor.principal,
            method: actor.method,
            credential_fingerprint: actor.credential.unwrap_or_default(),
            node: actor.node.unwrap_or_default(),
            selectors: actor.selectors,
            peer: actor.peer.unwrap_or_default(),
        }
    }
}

impl From<v1::AuditActor> for Actor {
    fn from(actor: v1::AuditActor) -> Self {
        Self {
            principal: actor.principal,
            method: actor.method,
            credential: filled(actor.credential_fingerprint),
            node: filled(actor.node),
            selectors: actor.selectors,
            peer: filled(actor.peer),
        }
    }
}

/// Reads a `Decision`; `field` is named in errors.
///
/// # Errors
/// [`WireError::UnknownValue`] when it is unspecified or of a later release.
pub fn decision_from_wire(field: &'static str, value: i32) -> Result<Decision, WireError> {
    match v1::Decision::try_from(value) {
        Ok(v1::Decision::Allow) => Ok(Decision::Allow),
        Ok(v1::Decision::Deny) => Ok(Decision::Deny),
        Ok(v1::Decision::Unspecified) | Err(_) => Err(WireError::UnknownValue { field, value }),
    }
}

/// Reads an `Outcome`; `field` is named in errors.
///
/// # Errors
/// [`WireError::UnknownValue`] when it is unspecified or of a later release.
pub fn outcome_from_wire(field: &'static str, value: i32) -> Result<Outcome, WireError> {
    match v1::Outcome::try_from(value) {
        Ok(v1::Outcome::Ok) => Ok(Outcome::Ok),
        Ok(v1::Outcome::Denied) => Ok(Outcome::Denied),
        Ok(v1::Outcome::Failed) => Ok(Outcome::Failed),
        Ok(v1::Outcome::Asked) => Ok(Outcome::Asked),
        Ok(v1::Outcome::Unspecified) | Err(_) => Err(WireError::UnknownValue { field, value }),
    }
}

impl From<Decision> for v1::Decision {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Allow => Self::Allow,
            Decision::Deny => Self::Deny,
        }
    }
}

impl From<Outcome> for v1::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Ok,
            Outcome::Denied => Self::Denied,
            Outcome::Failed => Self::Failed,
            Outcome::Asked => Self::Asked,
        }
    }
}

#[cfg(test)]
mod tests;
