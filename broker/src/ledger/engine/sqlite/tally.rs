//! The sums of a transaction as rows.

use rusqlite::{Connection, OptionalExtension};

use super::super::codes::{holder_code, state_code};
use super::super::tally::Tally;
use crate::ledger::query::HolderKind;

/// The sum of one holder, before the transaction's own moves.
pub(super) fn held(connection: &Connection, kind: HolderKind, name: &str) -> rusqlite::Result<i64> {
    let mut select = connection.prepare_cached(HELD)?;
    let held: Option<i64> = select.query_row((holder_code(kind), name), |row| row.get(0)).optional()?;
    Ok(held.unwrap_or_default())
}

/// Writes the sums into the transaction.
pub(super) fn write(connection: &Connection, tally: &Tally) -> rusqlite::Result<()> {
    // Reads that are repeated move nothing, and four statements need not be looked up for them.
    if tally.is_empty() {
        return Ok(());
    }
    let mut add = connection.prepare_cached(ADD_STATE)?;
    for (state, sum) in tally.states() {
        add.execute((state_code(state), sum))?;
    }
    let mut add = connection.prepare_cached(ADD_HOLDER)?;
    let mut begin = connection.prepare_cached(BEGIN_HOLDER)?;
    let mut forget = connection.prepare_cached(FORGET_HOLDER)?;
    for ((kind, name), sum) in tally.holders() {
        if add.execute((holder_code(kind), name, sum))? == 0 {
            begin.execute((holder_code(kind), name, sum))?;
        }
        if sum < 0 {
            forget.execute((holder_code(kind), name))?;
        }
    }
    Ok(())
}

const HELD: &str = "SELECT leases FROM holders WHERE kind = ?1 AND name = ?2";

const ADD_STATE: &str = "INSERT INTO lease_counts (state, leases) VALUES (?1, ?2) \
     ON CONFLICT (state) DO UPDATE SET leases = leases + excluded.leases";

const ADD_HOLDER: &str = "UPDATE holders SET leases = leases + ?3 WHERE kind = ?1 AND name = ?2";

const BEGIN_HOLDER: &str = "INSERT INTO holders (kind, name, leases) VALUES (?1, ?2, ?3)";

/// Who holds nothing takes no row: the table is as large as the set of those who hold something.
const FORGET_HOLDER: &str = "DELETE FROM holders WHERE kind = ?1 AND name = ?2 AND leases = 0";
