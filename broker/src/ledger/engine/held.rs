//! What a change needs to know of the lease that it changes, and what it makes of it.

use bursar_core::audit::AuditRecord;
use bursar_core::lease::{LeaseEvent, LeaseState};
use bursar_core::{BackendName, LeaseId, Reference, SecretPath, Version};
use jiff::Timestamp;

use super::codes::micros;
use super::tally::Holders;
use crate::ledger::error::LedgerError;

/// A lease before something happens to it.
pub(super) struct Held {
    pub(super) state: LeaseState,
    pub(super) dynamic: bool,
    /// In microseconds.
    pub(super) expires_at: i64,
    pub(super) holders: Holders,
}

impl Held {
    /// The state that the store's answer to an intent leads to.
    pub(super) fn issued(&self, id: LeaseId) -> Result<LeaseState, LedgerError> {
        self.after(id, LeaseEvent::Issued)
    }

    /// The state that an event leads to. A static lease has nothing to take back, so what would leave it waiting for that
    /// leaves it gone.
    pub(super) fn happened(
        &self,
        id: LeaseId,
        event: LeaseEvent,
        at: Timestamp,
    ) -> Result<LeaseState, LedgerError> {
        let to = self.after(id, event)?;
        let early = event == LeaseEvent::Expire && self.expires_at > micros(at);
        // An issued credential has a handle to be kept: that is an activation.
        if early || event == LeaseEvent::Issued {
            return Err(self.impossible(id, event));
        }
        Ok(match to {
            LeaseState::Expired | LeaseState::Revoked if !self.dynamic => LeaseState::Gone,
            to => to,
        })
    }

    fn after(&self, id: LeaseId, event: LeaseEvent) -> Result<LeaseState, LedgerError> {
        self.state.after(event).ok_or_else(|| self.impossible(id, event))
    }

    fn impossible(&self, id: LeaseId, event: LeaseEvent) -> LedgerError {
        LedgerError::IllegalTransition { id, state: self.state, event }
    }
}

/// A lease that a bulk revocation has come to.
pub(super) struct Taken {
    pub(super) state: LeaseState,
    pub(super) dynamic: bool,
    pub(super) path: String,
    pub(super) version: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) holders: Holders,
}

impl Taken {
    /// Whether nobody took it back yet.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, LeaseState::Intent | LeaseState::Active | LeaseState::Expired)
    }

    /// What [`LeaseState::after`] makes of a revocation; gone where nothing is to be taken back.
    pub(super) fn to(&self) -> LeaseState {
        if self.dynamic { LeaseState::Revoked } else { LeaseState::Gone }
    }

    /// The order's record, about this lease.
    pub(super) fn record(&self, template: &AuditRecord, id: LeaseId, at: Timestamp) -> AuditRecord {
        let reference = || {
            Some(Reference {
                backend: BackendName::parse(&self.holders.backend).ok()?,
                path: SecretPath::from_store(&self.path).ok()?,
                field: None,
                version: self.version.as_deref().and_then(|version| Version::from_store(version).ok()),
            })
        };
        AuditRecord {
            time: at,
            resource: reference().map(|reference| reference.to_string()).unwrap_or_default(),
            lease_id: Some(id.to_string()),
            environment: self.environment.clone(),
            ..template.clone()
        }
    }
}

/// The record of an order that is carried out: what it took, in all.
pub(super) fn carried_out(template: AuditRecord, all: u64, at: Timestamp) -> AuditRecord {
    let resource = format!("{}: {all}", template.resource);
    AuditRecord { resource, time: at, ..template }
}
