//! One call: who makes it, and the audit record that grows with it.

use std::sync::Arc;

use bursar_core::audit::{Action, Actor, AuditRecord, Decision, Outcome};
use bursar_core::{LeaseId, SpiffeId, Version};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::approvals::ApprovalId;
use crate::failure::Failure;
use crate::identity::{Caller, Method};

/// What the identity layer knows of a call before anybody looks at its message. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Call {
    pub caller: Arc<Caller>,
    pub request_id: Arc<str>,
    pub trace_id: Option<Arc<str>>,
    /// Wall time at arrival.
    pub time: Timestamp,
    pub arrived: Instant,
}

impl Call {
    /// Begins the record of what this call asks for. Nothing of it is kept until it is committed.
    pub fn asks(&self, action: Action, resource: impl Into<Arc<str>>) -> Draft {
        Draft {
            call: self.clone(),
            action,
            resource: resource.into(),
            environment: None,
            version: None,
            lease_id: None,
            decision: Decision::Deny,
            policies: Arc::default(),
            approvals: Vec::new(),
            kept_until: None,
            reason: None,
        }
    }
}

/// An audit record whose end is not known yet. Cheap to clone: it becomes a record of its own when it ends.
#[derive(Debug, Clone)]
pub struct Draft {
    call: Call,
    action: Action,
    resource: Arc<str>,
    environment: Option<Arc<str>>,
    version: Option<Version>,
    lease_id: Option<LeaseId>,
    decision: Decision,
    policies: Arc<[Arc<str>]>,
    approvals: Vec<ApprovalId>,
    kept_until: Option<Timestamp>,
    reason: Option<Arc<str>>,
}

impl Draft {
    /// The reason that the caller gave; an empty one is none.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.reason = (!reason.is_empty()).then(|| reason.into());
        self
    }

    /// What it is about, when that turned out to be more than one thing.
    #[must_use]
    pub fn about(mut self, resource: String) -> Self {
        self.resource = resource.into();
        self
    }

    /// The environment through which a secret was asked for.
    #[must_use]
    pub fn within(mut self, environment: Option<&str>) -> Self {
        self.environment = environment.map(Arc::from);
        self
    }

    /// What policy said.
    #[must_use]
    pub fn decided(mut self, decision: Decision, policies: Arc<[Arc<str>]>) -> Self {
        self.decision = decision;
        self.policies = policies;
        self
    }

    /// The approvals that policies were shown, or the one that it is about.
    #[must_use]
    pub fn approved(mut self, approvals: Vec<ApprovalId>) -> Self {
        self.approvals = approvals;
        self
    }

    /// Until when the copy may be used that the caller is given to keep.
    #[must_use]
    pub fn kept_until(mut self, until: Timestamp) -> Self {
        self.kept_until = Some(until);
        self
    }

    /// Allowed without a policy: the caller looks at what is its own.
    #[must_use]
    pub fn allowed_as_owner(mut self) -> Self {
        self.decision = Decision::Allow;
        self
    }

    /// The lease that it is about.
    #[must_use]
    pub fn lease(mut self, id: LeaseId) -> Self {
        self.lease_id = Some(id);
        self
    }

    /// The version that was disclosed or written.
    #[must_use]
    pub fn version(mut self, version: Option<&Version>) -> Self {
        self.version = version.cloned();
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
        self.action = Action::Revoke;
        self.resource = leases.into();
        self.ok()
    }

    /// The record of a failure.
    pub fn failed(self, failure: &Failure) -> AuditRecord {
        self.ended(failure.outcome(), Some(failure.kind()))
    }

    fn ended(self, outcome: Outcome, error: Option<&str>) -> AuditRecord {
        let text = |text: Arc<str>| String::from(&*text);
        let call = self.call;
        AuditRecord {
            seq: 0,
            time: call.time,
            request_id: text(call.request_id),
            trace_id: call.trace_id.map(text),
            actor: call.caller.actor(),
            action: self.action,
            resource: text(self.resource),
            environment: self.environment.map(text),
            version: self.version.map(|version| version.to_string()),
            lease_id: self.lease_id.map(|id| id.to_string()),
            decision: self.decision,
            policies: self.policies.iter().map(ToString::to_string).collect(),
            approvals: self.approvals.iter().map(ToString::to_string).collect(),
            kept_until: self.kept_until,
            reason: self.reason.map(text),
            outcome,
            error_kind: error.map(str::to_owned),
            latency_us: u64::try_from(call.arrived.elapsed().as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// The broker as the one who did something, in the name of `principal`.
pub fn own_actor(principal: &SpiffeId) -> Actor {
    Actor {
        principal: principal.to_string(),
        method: Method::Broker.as_str().to_owned(),
        credential: None,
        node: None,
        selectors: Vec::new(),
        peer: None,
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
        approvals: Vec::new(),
        kept_until: None,
        reason: None,
        outcome: Outcome::Ok,
        error_kind: None,
        latency_us: 0,
    }
}
