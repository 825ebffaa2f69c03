//! What a look at the whole ledger asks beside the questions of every day.

use bursar_core::{Lease, LeaseId, LeaseState};
use rusqlite::Connection;

use super::super::VisitRecord;
use super::super::codes::{holder_code, read, state_of, stored};
use super::rows::{self, LEASE_COLUMNS};
use crate::ledger::error::LedgerError;
use crate::ledger::query::HolderKind;

/// What SQLite itself can tell of its file.
pub(super) fn damage(connection: &Connection) -> Result<Vec<String>, LedgerError> {
    let mut pragma = connection.prepare("PRAGMA integrity_check(20)")?;
    let found = pragma.query_map([], |row| row.get::<_, String>(0))?;
    let mut found: Vec<_> = found.collect::<Result<_, _>>()?;
    found.retain(|finding| finding != "ok");
    Ok(found)
}

pub(super) fn pruned_beyond(connection: &Connection, place: u64) -> Result<u64, LedgerError> {
    let beyond = "SELECT count(*) FROM leaves WHERE place >= ?1 OR place < 0";
    Ok(connection.query_row(beyond, [stored(place)], |row| row.get(0).map(read))?)
}

pub(super) fn tiles(connection: &Connection) -> Result<u64, LedgerError> {
    Ok(connection.query_row("SELECT count(*) FROM tiles", [], |row| row.get(0).map(read))?)
}

pub(super) fn each_record(connection: &Connection, visit: &mut VisitRecord<'_>) -> Result<(), LedgerError> {
    let mut select = connection.prepare("SELECT seq, at, line FROM audit ORDER BY seq")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let line = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        visit(read(row.get(0)?), row.get(1)?, line)?;
    }
    Ok(())
}

pub(super) fn each_lease(
    connection: &Connection,
    visit: &mut dyn FnMut(Result<Lease, LedgerError>),
) -> Result<(), LedgerError> {
    let mut select = connection.prepare(&format!("SELECT {LEASE_COLUMNS} FROM leases"))?;
    let mut found = select.query([])?;
    while let Some(row) = found.next()? {
        visit(rows::lease(row, 0).map_err(LedgerError::from));
    }
    Ok(())
}

pub(super) fn stray_credentials(connection: &Connection) -> Result<Vec<LeaseId>, LedgerError> {
    let mut select = connection.prepare(STRAY_CREDENTIALS)?;
    let stray = select.query_map([], |row| row.get(0).map(LeaseId::from_bytes))?;
    Ok(stray.collect::<Result<_, _>>()?)
}

pub(super) fn wrong_counts(connection: &Connection) -> Result<Vec<(Option<LeaseState>, u64)>, LedgerError> {
    let mut select = connection.prepare(STATES)?;
    let wrong = select.query_map([], |row| Ok((state_of(row.get(0)?), row.get(1).map(read)?)))?;
    Ok(wrong.collect::<Result<_, _>>()?)
}

pub(super) fn wrong_holders(connection: &Connection, kind: HolderKind) -> Result<Vec<String>, LedgerError> {
    let mut select = connection.prepare(&HOLDERS.replace("COLUMN", kind.as_str()))?;
    let wrong = select.query_map([holder_code(kind)], |row| row.get(0))?;
    Ok(wrong.collect::<Result<_, _>>()?)
}

const STATES: &str = "SELECT state, leases FROM lease_counts AS sums \
     WHERE leases <> (SELECT count(*) FROM leases WHERE leases.state = sums.state) \
     UNION ALL SELECT state, 0 FROM leases WHERE state NOT IN (SELECT state FROM lease_counts) GROUP BY state";

const STRAY_CREDENTIALS: &str = "SELECT lease FROM credentials WHERE NOT EXISTS ( \
     SELECT 1 FROM leases WHERE leases.id = credentials.lease AND leases.state = 1 AND leases.dynamic)";

/// State 6 is gone, and nobody holds it. The columns have the names of the kinds.
const HOLDERS: &str = "SELECT coalesce(counted.name, held.name) FROM \
     (SELECT name, leases FROM holders WHERE kind = ?1) AS counted FULL JOIN \
     (SELECT COLUMN AS name, count(*) AS leases FROM leases WHERE state <> 6 AND COLUMN IS NOT NULL GROUP BY COLUMN) \
     AS held ON counted.name = held.name WHERE counted.leases IS NOT held.leases";
