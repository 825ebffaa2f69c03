//! New leases: of static secrets, and the intents that come before dynamic ones.

use bursar_core::lease::Lease;
use bursar_core::{LeaseId, LeaseState, SpiffeId, Version};
use rusqlite::types::Type;
use rusqlite::{Connection, ffi, params};

use super::batch::{Batch, Fault};
use super::codes::{bound_code, micros, state_code};
use super::rows::{damaged, time};
use super::slot;
use super::tally::{Holders, Move};
use crate::ledger::entry::Outcome;
use crate::ledger::error::LedgerError;

impl Batch<'_> {
    /// Writes an active static lease, or extends the live one that it repeats.
    pub(super) fn grant(&mut self, lease: &Lease) -> Result<Outcome, Fault> {
        let slot = slot::of_static(lease);
        let row = Row { state: LeaseState::Active, dynamic: false, slot: &slot };
        if row.insert(&self.connection, lease)? {
            self.tally.add(Move {
                from: None,
                to: LeaseState::Active,
                count: 1,
                holders: Holders::of(lease),
            });
            return Ok(Outcome::Granted {
                id: lease.id,
                issued_at: lease.issued_at,
                expires_at: lease.expires_at,
                renewed: false,
            });
        }
        let mut extend = self.connection.prepare_cached(EXTEND)?;
        let extended = extend.query_row(
            params![
                slot,
                micros(lease.expires_at),
                micros(lease.issued_at),
                lease.max_expires_at.map(micros),
                lease.renewable,
                bound_code(lease.ttl_bound),
                lease.reason,
            ],
            |row| {
                let at = |column| time(row.get(column)?).ok_or_else(|| damaged(column, Type::Integer));
                Ok(Outcome::Granted {
                    id: LeaseId::from_bytes(row.get(0)?),
                    issued_at: at(1)?,
                    expires_at: at(2)?,
                    renewed: true,
                })
            },
        )?;
        Ok(extended)
    }

    /// Writes down that a store is about to be asked for a credential.
    pub(super) fn intent(&mut self, lease: &Lease) -> Result<Outcome, Fault> {
        let slot = slot::of_dynamic(lease);
        let row = Row { state: LeaseState::Intent, dynamic: true, slot: &slot };
        // The id is in the slot, so that only a lease of this id can have it.
        if !row.insert(&self.connection, lease)? {
            return Err(Fault::Refused(LedgerError::LeaseExists { id: lease.id }));
        }
        self.tally.add(Move { from: None, to: LeaseState::Intent, count: 1, holders: Holders::of(lease) });
        Ok(Outcome::Done)
    }
}

/// What the ledger decides about a new row.
struct Row<'slot> {
    state: LeaseState,
    dynamic: bool,
    slot: &'slot [u8],
}

impl Row<'_> {
    /// False where a live lease has the slot.
    fn insert(&self, connection: &Connection, lease: &Lease) -> Result<bool, Fault> {
        let mut insert = connection.prepare_cached(INSERT)?;
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
            Ok(rows) => Ok(rows == 1),
            Err(rusqlite::Error::SqliteFailure(failure, _))
                if failure.extended_code == ffi::SQLITE_CONSTRAINT_PRIMARYKEY =>
            {
                Err(Fault::Refused(LedgerError::LeaseExists { id: lease.id }))
            }
            Err(other) => Err(Fault::Engine(other)),
        }
    }
}

const INSERT: &str = "INSERT INTO leases (id, state, dynamic, slot, issued_at, renewed_at, expires_at, \
     max_expires_at, renewable, ttl_bound, backend, path, version, principal, node, instance, environment, reason) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18) \
     ON CONFLICT (slot) WHERE slot IS NOT NULL DO NOTHING";

/// A read that gets no further than the lease already reaches leaves its end, and what bound it, alone. The limits on
/// renewal are those of the newest read: it was decided anew.
const EXTEND: &str = "UPDATE leases SET \
     ttl_bound = CASE WHEN ?2 > expires_at THEN ?6 ELSE ttl_bound END, \
     expires_at = max(expires_at, ?2), renewed_at = max(renewed_at, ?3), \
     max_expires_at = ?4, renewable = ?5, reason = coalesce(?7, reason) \
     WHERE slot = ?1 RETURNING id, issued_at, expires_at";
