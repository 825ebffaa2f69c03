//! New leases: of static secrets, and the intents that come before dynamic ones.

use bursar_core::lease::Lease;
use bursar_core::{LeaseId, LeaseState, SpiffeId, Version};
use rusqlite::types::Type;
use rusqlite::{CachedStatement, OptionalExtension, ffi, params};

use super::super::codes::{bound_code, bound_of, micros, state_code};
use super::super::live::{self, Live};
use super::super::slot;
use super::super::tally::{Holders, Move};
use super::batch::{Batch, Fault};
use super::rows::{damaged, time};
use crate::ledger::entry::Outcome;
use crate::ledger::error::LedgerError;

impl Batch<'_> {
    /// Writes an active static lease, or gives back the live one that it repeats: extended, or as it is where that would
    /// gain next to nothing. Reads that are repeated all the time thus write their records and no more.
    pub(super) fn grant(&mut self, lease: &Lease) -> Result<Outcome, Fault> {
        let slot = slot::of_static(lease);
        let Some(live) = self.live(&slot)? else {
            self.admit(lease)?;
            self.add(lease, &Row { state: LeaseState::Active, dynamic: false, slot: &slot })?;
            return Ok(live::granted_anew(lease));
        };
        if live.serves(lease) {
            return Ok(live.granted());
        }
        let extended = live.extended(lease);
        let mut extend = self.connection.prepare_cached(EXTEND)?;
        extend.execute(params![
            extended.id.to_bytes(),
            micros(extended.expires_at),
            bound_code(extended.ttl_bound),
            micros(lease.issued_at),
            lease.max_expires_at.map(micros),
            lease.renewable,
            lease.reason,
        ])?;
        Ok(extended.granted())
    }

    /// Writes down that a store is about to be asked for a credential.
    pub(super) fn intent(&mut self, lease: &Lease) -> Result<Outcome, Fault> {
        self.admit(lease)?;
        let slot = slot::of_dynamic(lease);
        self.add(lease, &Row { state: LeaseState::Intent, dynamic: true, slot: &slot })?;
        Ok(Outcome::Done)
    }

    fn add(&mut self, lease: &Lease, row: &Row<'_>) -> Result<(), Fault> {
        row.insert(&mut self.statements.insert, lease)?;
        self.tally.add(Move { from: None, to: row.state, count: 1, holders: Holders::of(lease) });
        Ok(())
    }

    fn live(&mut self, slot: &[u8]) -> Result<Option<Live>, Fault> {
        let live = self.statements.live.query_row([slot], |row| {
            let at = |column| time(row.get(column)?).ok_or_else(|| damaged(column, Type::Integer));
            Ok(Live {
                id: LeaseId::from_bytes(row.get(0)?),
                issued_at: at(1)?,
                expires_at: at(2)?,
                ttl_bound: bound_of(row.get(3)?).ok_or_else(|| damaged(3, Type::Integer))?,
                renewable: row.get(4)?,
                reason: row.get(5)?,
            })
        });
        Ok(live.optional()?)
    }
}

/// What the ledger decides about a new row.
struct Row<'slot> {
    state: LeaseState,
    dynamic: bool,
    slot: &'slot [u8],
}

impl Row<'_> {
    /// Refused where a lease of this id is there. Nothing else can have the slot: that of a static lease was looked for,
    /// that of a dynamic one holds its id.
    fn insert(&self, insert: &mut CachedStatement<'_>, lease: &Lease) -> Result<(), Fault> {
        let inserted = insert.execute(params![
            lease.id.to_bytes(),
            state_code(self.state),
            self.dynamic,
            self.slot,
            micros(lease.issued_at),
            micros(lease.renewed_at),
            micros(lease.expires_at),
            lease.max_expires_at.map(micros),
            lease.renewable,
            bound_code(lease.ttl_bound),
            lease.reference.backend.as_str(),
            lease.reference.path.as_str(),
            lease.reference.version.as_ref().map(Version::as_str),
            lease.principal.as_str(),
            lease.node.as_ref().map(SpiffeId::as_str),
            lease.instance,
            lease.environment,
            lease.reason,
        ]);
        match inserted {
            Ok(_) => Ok(()),
            Err(rusqlite::Error::SqliteFailure(failure, _))
                if failure.code == ffi::ErrorCode::ConstraintViolation =>
            {
                Err(Fault::Refused(LedgerError::LeaseExists { id: lease.id }))
            }
            Err(other) => Err(Fault::Engine(other)),
        }
    }
}

pub(super) const INSERT: &str = "INSERT INTO leases (id, state, dynamic, slot, issued_at, renewed_at, expires_at, \
     max_expires_at, renewable, ttl_bound, backend, path, version, principal, node, instance, environment, reason) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";

pub(super) const LIVE: &str =
    "SELECT id, issued_at, expires_at, ttl_bound, renewable, reason FROM leases WHERE slot = ?1";

const EXTEND: &str = "UPDATE leases SET expires_at = ?2, ttl_bound = ?3, renewed_at = max(renewed_at, ?4), \
     max_expires_at = ?5, renewable = ?6, reason = coalesce(?7, reason) WHERE id = ?1";
