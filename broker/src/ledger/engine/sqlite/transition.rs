//! What happens to one lease after it was written.
//!
//! Every function here refuses before it writes, and then writes once: an entry of one change needs no savepoint.

use bursar_core::backend::StoreHandle;
use bursar_core::lease::{LeaseEvent, LeaseState, TtlBound};
use bursar_core::{LeaseId, Version};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::super::codes::{bound_code, micros, state_code};
use super::super::held::Held;
use super::super::tally::{Holders, Move};
use super::batch::{Batch, Fault};
use super::rows;
use crate::ledger::error::LedgerError;

/// The store's answer to an intent.
pub(super) struct Activation<'entry> {
    pub(super) handle: &'entry StoreHandle,
    pub(super) version: Option<&'entry Version>,
    pub(super) expires_at: Timestamp,
    pub(super) max_expires_at: Option<Timestamp>,
    pub(super) renewable: bool,
    pub(super) ttl_bound: TtlBound,
    pub(super) sealed: Option<&'entry [u8]>,
    pub(super) at: Timestamp,
}

/// Something that happened.
pub(super) struct Happening<'entry> {
    pub(super) event: LeaseEvent,
    pub(super) at: Timestamp,
    pub(super) error: Option<&'entry str>,
    pub(super) next_attempt_at: Option<Timestamp>,
}

impl Batch<'_> {
    pub(super) fn activate(&mut self, id: LeaseId, activation: &Activation<'_>) -> Result<(), Fault> {
        let held = self.held(id)?;
        let to = held.issued(id).map_err(Fault::Refused)?;
        let mut update = self.connection.prepare_cached(ACTIVATE)?;
        update.execute(params![
            id.to_bytes(),
            state_code(to),
            activation.handle.as_str(),
            activation.version.map(Version::as_str),
            micros(activation.expires_at),
            activation.max_expires_at.map(micros),
            activation.renewable,
            bound_code(activation.ttl_bound),
            micros(activation.at),
        ])?;
        if let Some(sealed) = activation.sealed {
            self.keep_credential(id, sealed)?;
        }
        self.tally.add(Move { from: Some(held.state), to, count: 1, holders: held.holders });
        Ok(())
    }

    /// Refused where a lease is not active any more.
    pub(super) fn repeat(&mut self, id: LeaseId) -> Result<(), Fault> {
        match self.held(id)?.state {
            state if state.is_live() => Ok(()),
            state => Err(Fault::Refused(LedgerError::NotActive { id, state })),
        }
    }

    pub(super) fn renew(
        &mut self,
        id: LeaseId,
        expires_at: Timestamp,
        ttl_bound: TtlBound,
        at: Timestamp,
    ) -> Result<(), Fault> {
        let mut update = self.connection.prepare_cached(RENEW)?;
        let live = state_code(LeaseState::Active);
        let renewed = update.execute(params![
            id.to_bytes(),
            micros(expires_at),
            bound_code(ttl_bound),
            micros(at),
            live
        ])?;
        match renewed {
            0 => Err(Fault::Refused(LedgerError::NotActive { id, state: self.held(id)?.state })),
            _ => Ok(()),
        }
    }

    pub(super) fn happen(&mut self, id: LeaseId, happening: &Happening<'_>) -> Result<(), Fault> {
        let held = self.held(id)?;
        let to = held.happened(id, happening.event, happening.at).map_err(Fault::Refused)?;
        let due = (to != LeaseState::Gone).then(|| micros(happening.next_attempt_at.unwrap_or(happening.at)));
        let mut update = self.connection.prepare_cached(HAPPEN)?;
        update.execute(params![
            id.to_bytes(),
            state_code(to),
            due,
            happening.event == LeaseEvent::Attempt,
            happening.error,
            to == LeaseState::Gone,
            micros(happening.at),
        ])?;
        if held.dynamic {
            self.drop_credential(id, held.state)?;
        }
        self.tally.add(Move { from: Some(held.state), to, count: 1, holders: held.holders });
        Ok(())
    }

    fn held(&self, id: LeaseId) -> Result<Held, Fault> {
        let mut select = self.connection.prepare_cached(HELD)?;
        let held = select.query_row([id.to_bytes()], |row| {
            Ok(Held {
                state: rows::state(row, 0)?,
                dynamic: row.get(1)?,
                expires_at: row.get(2)?,
                holders: Holders { principal: row.get(3)?, backend: row.get(4)?, node: row.get(5)? },
            })
        });
        held.optional()?.ok_or(Fault::Refused(LedgerError::LeaseMissing { id }))
    }
}

const HELD: &str = "SELECT state, dynamic, expires_at, principal, backend, node FROM leases WHERE id = ?1";

const ACTIVATE: &str = "UPDATE leases SET state = ?2, handle = ?3, version = coalesce(?4, version), expires_at = ?5, \
     max_expires_at = ?6, renewable = ?7, ttl_bound = ?8, renewed_at = ?9 WHERE id = ?1";

/// No other state is live. Renewals are the most frequent change, so the row is found once.
const RENEW: &str = "UPDATE leases SET expires_at = ?2, ttl_bound = ?3, renewed_at = max(renewed_at, ?4) \
     WHERE id = ?1 AND state = ?5";

/// What is gone has no handle, since nothing is left that it could name, and no slot: the next read gets a lease anew.
const HAPPEN: &str = "UPDATE leases SET state = ?2, next_attempt_at = ?3, attempts = attempts + ?4, \
     last_error = coalesce(?5, last_error), handle = CASE WHEN ?6 THEN NULL ELSE handle END, \
     slot = CASE WHEN ?6 THEN NULL ELSE slot END, gone_at = CASE WHEN ?6 THEN ?7 END WHERE id = ?1";
