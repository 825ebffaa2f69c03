//! New leases, and what happens to one of them after.

use bursar_core::lease::{Lease, LeaseEvent, LeaseState, TtlBound};
use bursar_core::{LeaseId, Version};
use jiff::Timestamp;

use super::super::codes::micros;
use super::super::held::Held;
use super::super::live;
use super::super::slot::{self, CredentialSlot};
use super::super::tally::{Holders, Move};
use super::batch::{Batch, Credential};
use super::failure::Fault;
use super::rows::LeaseRow;
use crate::ledger::entry::{Change, Outcome};
use crate::ledger::error::LedgerError;

impl Batch<'_> {
    /// Adds an active static lease, or gives back the live one that it repeats: extended, or as it is where that would
    /// gain next to nothing.
    pub(super) fn grant(&mut self, lease: &Lease) -> Result<Outcome, Fault> {
        let slot = slot::of_static(lease);
        let Some(live) = self.known.leases.live(&slot)? else {
            self.admit(lease)?;
            self.add(lease, LeaseState::Active, false, slot)?;
            return Ok(live::granted_anew(lease));
        };
        if live.serves(lease) {
            return Ok(live.granted());
        }
        let id = live.id;
        self.known.leases.find(id)?;
        let extended = live.extended(lease);
        let (expires_at, ttl_bound) = (extended.expires_at, extended.ttl_bound);
        self.known.leases.change(id, |row| {
            let old = &mut row.lease;
            (old.expires_at, old.ttl_bound) = (expires_at, ttl_bound);
            old.renewed_at = old.renewed_at.max(lease.issued_at);
            old.max_expires_at = lease.max_expires_at;
            old.renewable = lease.renewable;
            if lease.reason.is_some() {
                old.reason.clone_from(&lease.reason);
            }
        });
        Ok(extended.granted())
    }

    /// Writes down that a store is about to be asked for a credential.
    pub(super) fn intent(&mut self, lease: &Lease) -> Result<Outcome, Fault> {
        self.admit(lease)?;
        self.add(lease, LeaseState::Intent, true, slot::of_dynamic(lease))?;
        Ok(Outcome::Done)
    }

    pub(super) fn activate(&mut self, id: LeaseId, change: &Change) -> Result<Outcome, Fault> {
        let Change::Activate {
            handle,
            version,
            expires_at,
            max_expires_at,
            renewable,
            ttl_bound,
            sealed,
            at,
            ..
        } = change
        else {
            return Ok(Outcome::Done);
        };
        let held = self.held(id)?;
        let to = held.issued(id).map_err(Fault::Ledger)?;
        self.known.leases.change(id, |row| {
            row.handle = Some(handle.as_str().to_owned());
            let lease = &mut row.lease;
            lease.state = to;
            if let Some(version) = version {
                lease.reference.version = Some(Version::clone(version));
            }
            lease.expires_at = *expires_at;
            lease.max_expires_at = *max_expires_at;
            lease.renewable = *renewable;
            lease.ttl_bound = *ttl_bound;
            lease.renewed_at = *at;
        });
        if let Some(sealed) = sealed
            && let Some(row) = self.known.leases.find(id)?
        {
            self.written.credentials.push(Credential::Keep {
                slot: CredentialSlot::of(&row.lease).as_bytes().to_vec(),
                lease: id.to_bytes().to_vec(),
                sealed: sealed.clone(),
            });
        }
        self.tally.add(Move { from: Some(held.state), to, count: 1, holders: held.holders });
        Ok(Outcome::Done)
    }

    /// Refused where a lease is not active any more.
    pub(super) fn repeat(&mut self, id: LeaseId) -> Result<Outcome, Fault> {
        match self.held(id)?.state {
            state if state.is_live() => Ok(Outcome::Done),
            state => Err(Fault::Ledger(LedgerError::NotActive { id, state })),
        }
    }

    pub(super) fn renew(
        &mut self,
        id: LeaseId,
        expires_at: Timestamp,
        ttl_bound: TtlBound,
        at: Timestamp,
    ) -> Result<Outcome, Fault> {
        match self.held(id)?.state {
            LeaseState::Active => {}
            state => return Err(Fault::Ledger(LedgerError::NotActive { id, state })),
        }
        self.known.leases.change(id, |row| {
            row.lease.expires_at = expires_at;
            row.lease.ttl_bound = ttl_bound;
            row.lease.renewed_at = row.lease.renewed_at.max(at);
        });
        Ok(Outcome::Done)
    }

    pub(super) fn happen(
        &mut self,
        id: LeaseId,
        event: LeaseEvent,
        at: Timestamp,
        error: Option<&str>,
        next_attempt_at: Option<Timestamp>,
    ) -> Result<Outcome, Fault> {
        let held = self.held(id)?;
        let to = held.happened(id, event, at).map_err(Fault::Ledger)?;
        self.known.leases.change(id, |row| {
            row.lease.state = to;
            row.lease.attempts += u32::from(event == LeaseEvent::Attempt);
            if let Some(error) = error {
                row.lease.last_error = Some(error.to_owned());
            }
            match to {
                LeaseState::Gone => row.leave(at),
                _ => row.next_attempt_at = Some(micros(next_attempt_at.unwrap_or(at))),
            }
        });
        if held.dynamic && held.state == LeaseState::Active {
            self.drop_credential(id);
        }
        self.tally.add(Move { from: Some(held.state), to, count: 1, holders: held.holders });
        Ok(Outcome::Done)
    }

    fn add(&mut self, lease: &Lease, state: LeaseState, dynamic: bool, slot: Vec<u8>) -> Result<(), Fault> {
        let lease = Lease { state, dynamic, attempts: 0, last_error: None, ..lease.clone() };
        let (id, holders) = (lease.id, Holders::of(&lease));
        let row = LeaseRow {
            lease,
            revision: 1,
            slot: Some(slot),
            next_attempt_at: None,
            handle: None,
            gone_at: None,
            revocation: None,
        };
        if !self.known.leases.add(row) {
            return Err(Fault::Ledger(LedgerError::LeaseExists { id }));
        }
        self.tally.add(Move { from: None, to: state, count: 1, holders });
        Ok(())
    }

    fn held(&mut self, id: LeaseId) -> Result<Held, Fault> {
        let row = self.known.leases.find(id)?.ok_or(Fault::Ledger(LedgerError::LeaseMissing { id }))?;
        let lease = &row.lease;
        Ok(Held {
            state: lease.state,
            dynamic: lease.dynamic,
            expires_at: micros(lease.expires_at),
            holders: Holders::of(lease),
        })
    }
}

impl LeaseRow {
    /// What is gone has no handle, since nothing is left that it could name, and no slot: the next read gets a lease anew.
    pub(super) fn leave(&mut self, at: Timestamp) {
        self.lease.state = LeaseState::Gone;
        (self.slot, self.handle, self.next_attempt_at) = (None, None, None);
        self.gone_at = Some(micros(at));
    }
}
