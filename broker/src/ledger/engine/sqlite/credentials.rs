//! The credentials of dynamic leases, sealed, for whoever reads the same again.
//!
//! A row is there from the transaction that makes its lease active to the one in which the lease is active no longer, or
//! another lease takes its place. What is in it was sealed outside: the ledger cannot open it.

use bursar_core::{LeaseId, LeaseState};
use rusqlite::{Connection, OptionalExtension};

use super::super::slot::CredentialSlot;
use super::batch::{Batch, Fault};
use super::rows::{self, LEASE_COLUMNS};
use crate::ledger::error::LedgerError;
use crate::ledger::query::Kept;

impl Batch<'_> {
    /// Keeps the credential of a lease that has become active, in the place of any other in its slot.
    pub(super) fn keep_credential(&self, id: LeaseId, sealed: &[u8]) -> Result<(), Fault> {
        let mut select =
            self.connection.prepare_cached(&format!("SELECT {LEASE_COLUMNS} FROM leases WHERE id = ?1"))?;
        let slot = select.query_row([id.to_bytes()], |row| Ok(CredentialSlot::of(&rows::lease(row, 0)?)))?;
        let mut keep = self.connection.prepare_cached(KEEP)?;
        keep.execute((slot.as_bytes(), id.to_bytes(), sealed))?;
        Ok(())
    }

    /// To be called whenever a dynamic lease leaves a state.
    pub(super) fn drop_credential(&self, id: LeaseId, from: LeaseState) -> Result<(), Fault> {
        if from == LeaseState::Active {
            self.connection
                .prepare_cached("DELETE FROM credentials WHERE lease = ?1")?
                .execute([id.to_bytes()])?;
        }
        Ok(())
    }
}

pub(super) fn kept(connection: &Connection, slot: &CredentialSlot) -> Result<Option<Kept>, LedgerError> {
    let mut select = connection.prepare_cached(&format!("SELECT sealed, {LEASE_COLUMNS} {KEPT}"))?;
    let kept = select
        .query_row([slot.as_bytes()], |row| Ok(Kept { sealed: row.get(0)?, lease: rows::lease(row, 1)? }));
    Ok(kept.optional()?)
}

/// Lets go of all of them.
pub(super) fn drop_all(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM credentials", []).map(drop)
}

const KEEP: &str = "INSERT INTO credentials (slot, lease, sealed) VALUES (?1, ?2, ?3) \
     ON CONFLICT (slot) DO UPDATE SET lease = excluded.lease, sealed = excluded.sealed";

const KEPT: &str =
    "FROM credentials JOIN leases ON leases.id = credentials.lease WHERE credentials.slot = ?1";
