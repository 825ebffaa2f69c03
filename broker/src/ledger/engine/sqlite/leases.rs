//! Questions about leases that one index answers.

use bursar_core::backend::StoreHandle;
use bursar_core::{BackendName, Lease, LeaseId, LeaseState};
use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{CachedStatement, Connection, OptionalExtension};

use super::super::codes::{at_most, micros, read};
use super::rows::{self, LEASE_COLUMNS};
use crate::ledger::error::LedgerError;
use crate::ledger::query::Revocable;

/// Looks leases up by their ids, one after the other.
pub(super) struct Lookup<'c> {
    select: CachedStatement<'c>,
}

impl<'c> Lookup<'c> {
    pub(super) fn on(connection: &'c Connection) -> Result<Self, LedgerError> {
        let select =
            connection.prepare_cached(&format!("SELECT {LEASE_COLUMNS} FROM leases WHERE id = ?1"))?;
        Ok(Self { select })
    }

    pub(super) fn lease(&mut self, id: LeaseId) -> Result<Option<Lease>, LedgerError> {
        Ok(self.select.query_row([id.to_bytes()], |row| rows::lease(row, 0)).optional()?)
    }
}

pub(super) fn handle(connection: &Connection, id: LeaseId) -> Result<Option<StoreHandle>, LedgerError> {
    let mut select = connection.prepare_cached("SELECT handle FROM leases WHERE id = ?1")?;
    let handle: Option<Option<String>> = select.query_row([id.to_bytes()], |row| row.get(0)).optional()?;
    Ok(handle.flatten().map(StoreHandle::new))
}

pub(super) fn of_handle(
    connection: &Connection,
    backend: &BackendName,
    handle: &StoreHandle,
) -> Result<Option<LeaseId>, LedgerError> {
    let mut select = connection.prepare_cached(OF_HANDLE)?;
    let id = select.query_row((backend.as_str(), handle.as_str()), |row| row.get(0).map(LeaseId::from_bytes));
    Ok(id.optional()?)
}

pub(super) fn counts(connection: &Connection) -> Result<Vec<(LeaseState, u64)>, LedgerError> {
    let mut select = connection.prepare_cached("SELECT state, leases FROM lease_counts ORDER BY state")?;
    let counts = select.query_map([], |row| Ok((rows::state(row, 0)?, read(row.get(1)?))))?;
    let counts: Vec<_> = counts.collect::<Result<_, _>>()?;
    let of = |state| counts.iter().find(|(found, _)| *found == state).map_or(0, |(_, count)| *count);
    Ok(LeaseState::ALL.into_iter().map(|state| (state, of(state))).collect())
}

pub(super) fn due(connection: &Connection, now: Timestamp, limit: usize) -> Result<Vec<Lease>, LedgerError> {
    let mut select = connection.prepare_cached(&format!("SELECT {LEASE_COLUMNS} {DUE}"))?;
    let due = select.query_map((micros(now), at_most(limit)), |row| rows::lease(row, 0))?;
    Ok(due.collect::<Result<_, _>>()?)
}

pub(super) fn ending(connection: &Connection, times: &[Timestamp]) -> Result<Vec<u64>, LedgerError> {
    let mut select = connection.prepare_cached(ENDING)?;
    let count = |time: &Timestamp| {
        let count: i64 = select.query_row([micros(*time)], |row| row.get(0))?;
        Ok(read(count))
    };
    times.iter().map(count).collect()
}

pub(super) fn to_revoke(
    connection: &Connection,
    backend: &BackendName,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Revocable>, LedgerError> {
    let mut select = connection.prepare_cached(&format!("SELECT handle, {LEASE_COLUMNS} {TO_REVOKE}"))?;
    let values = (backend.as_str(), micros(now), at_most(limit));
    let found = select.query_map(values, |row| {
        let handle: Option<String> = row.get(0)?;
        Ok(Revocable { lease: rows::lease(row, 1)?, handle: handle.map(StoreHandle::new) })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

pub(super) fn waiting_backends(connection: &Connection) -> Result<Vec<BackendName>, LedgerError> {
    let mut select = connection.prepare_cached(WAITING_BACKENDS)?;
    let names = select.query_map([], |row| {
        let name: String = row.get(0)?;
        BackendName::parse(&name).map_err(|_| rows::damaged(0, Type::Text))
    })?;
    Ok(names.collect::<Result<_, _>>()?)
}

pub(super) fn intents(
    connection: &Connection,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<Lease>, LedgerError> {
    let mut select = connection.prepare_cached(&format!("SELECT {LEASE_COLUMNS} {INTENTS}"))?;
    let found = select.query_map((micros(before), at_most(limit)), |row| rows::lease(row, 0))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// What is asked all day, whether or not anything is to be done.
#[cfg(test)]
pub(in crate::ledger) const STANDING_QUERIES: [&str; 3] = [DUE, TO_REVOKE, INTENTS];

const OF_HANDLE: &str = "SELECT id FROM leases WHERE backend = ?1 AND handle = ?2";

/// The second condition is the first one to the minute, in the words of the index.
const DUE: &str = "FROM leases WHERE state = 1 AND expires_at <= ?1 AND expires_at >> 26 <= ?1 >> 26 \
     ORDER BY expires_at >> 26, id LIMIT ?2";

/// As far as a count goes: it is for a metric, and must not cost more the more leases there are.
const ENDING: &str = "SELECT count(*) FROM (SELECT 1 FROM leases INDEXED BY lease_due \
     WHERE state = 1 AND expires_at <= ?1 AND expires_at >> 26 <= ?1 >> 26 LIMIT 1000000)";

const TO_REVOKE: &str = "FROM leases WHERE backend = ?1 AND next_attempt_at IS NOT NULL AND next_attempt_at <= ?2 \
     ORDER BY next_attempt_at LIMIT ?3";

/// Steps from one name to the next along the index, however many leases wait under each.
const WAITING_BACKENDS: &str = "WITH RECURSIVE names (name) AS ( \
     SELECT min(backend) FROM leases WHERE next_attempt_at IS NOT NULL \
     UNION ALL SELECT (SELECT min(backend) FROM leases WHERE next_attempt_at IS NOT NULL AND backend > names.name) \
     FROM names WHERE names.name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL";

const INTENTS: &str = "FROM leases WHERE state = 0 AND issued_at <= ?1 ORDER BY issued_at LIMIT ?2";
