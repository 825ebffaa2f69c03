//! One call: who makes it, and the audit record that grows with it.

use std::sync::Arc;

use bursar_core::audit::{Action, Actor, AuditRecord, Decision, Outcome};
use bursar_core::{LeaseId, Version};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::identity::Caller;

/// What the identity layer knows of a call before anybody looks at its message.
#[derive(Debug, Clone)]
pub struct Call {
    pub caller: Arc<Caller>,
    pub request_id: String,
    pub trace_id: Option<String>,
    /// Wall time at arrival.
    pub time: Timestamp,
    pub arrived: Instant,
}

impl Call {
    /// Begins the record of what this call asks for. Nothing of it is kept until it is committed.
    pub fn asks(&self, action: Action, resource: impl Into<String>) -> Draft {
        Draft {
            arrived: self.arrived,
            record: AuditRecord {
                seq: 0,
                time: self.time,
                request_id: self.request_id.clone(),
                trace_id: self.trace_id.clone(),
                actor: self.caller.actor(),
                action,
                resource: resource.into(),
                environment: None,
                version: None,
                lease_id: None,
                decision: Decision::Deny,
                policies: Vec::new(),
                reason: None,
                outcome: Outcome::Failed,
                error_kind: None,
                latency_us: 0,
            },
        }
    }
}

/// An audit record whose end is not known yet.
#[derive(Debug, Clone)]
pub struct Draft {
    arrived: Instant,
    record: AuditRecord,
}

impl Draft {
    /// The reason that the caller gave; an empty one is none.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.record.reason = (!reason.is_empty()).then(|| reason.to_owned());
        self
    }

    /// What it is about, when that turned out to be more than one thing.
    #[must_use]
    pub fn about(mut self, resource: String) -> Self {
        self.record.resource = resource;
        self
    }

    /// The environment through which a secret was asked for.
    #[must_use]
    pub fn within(mut self, environment: Option<&str>) -> Self {
        self.record.environment = environment.map(str::to_owned);
        self
    }

    /// What policy said.
    #[must_use]
    pub fn decided(mut self, decision: Decision, policies: &[Arc<str>]) -> Self {
        self.record.decision = decision;
        self.record.policies = policies.iter().map(ToString::to_string).collect();
        self
    }

    /// Allowed without a policy: the caller looks at what is its own.
    #[must_use]
    pub fn allowed_as_owner(mut self) -> Self {
        self.record.decision = Decision::Allow;
        self
    }

    /// The lease that it is about.
    #[must_use]
    pub fn lease(mut self, id: LeaseId) -> Self {
        self.record.lease_id = Some(id.to_string());
        self
    }

    /// The version that was disclosed or written.
    #[must_use]
    pub fn version(mut self, version: Option<&Version>) -> Self {
        self.record.version = version.map(ToString::to_string);
        self
    }

    /// The record of what is about to be done in another book than the ledger.
    pub fn asked(self) -> AuditRecord {
        self.ended(Outcome::Asked, None)
    }

    /// The record of a success.
    pub fn ok(self) -> AuditRecord {
        self.ended(Outcome::Ok, None)
    }

    /// The record of each lease that is taken back because of this call; of all of them, which `leases` says in words.
    pub fn as_revocation(mut self, leases: &str) -> AuditRecord {
        self.record.action = Action::Revoke;
        self.record.resource = leases.to_owned();
        self.ok()
    }

    /// The record of a failure.
    pub fn failed(self, failure: &Failure) -> AuditRecord {
        self.ended(failure.outcome(), Some(failure.kind()))
    }

    fn ended(mut self, outcome: Outcome, error: Option<&str>) -> AuditRecord {
        self.record.outcome = outcome;
        self.record.error_kind = error.map(str::to_owned);
        self.record.latency_us = u64::try_from(self.arrived.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.record
    }
}

/// The record of what the broker does by itself: expiry, the end of a revocation.
pub fn own_record(
    actor: Actor,
    time: Timestamp,
    request_id: String,
    action: Action,
    resource: String,
) -> AuditRecord {
    AuditRecord {
        seq: 0,
        time,
        request_id,
        trace_id: None,
        actor,
        action,
        resource,
        environment: None,
        version: None,
        lease_id: None,
        decision: Decision::Allow,
        policies: Vec::new(),
        reason: None,
        outcome: Outcome::Ok,
        error_kind: None,
        latency_us: 0,
    }
}
