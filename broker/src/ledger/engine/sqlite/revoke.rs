//! Bulk revocation: one statement, however many leases it takes.

use bursar_core::{LeaseId, LeaseState};
use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};

use super::batch::{Batch, Fault};
use super::codes::{micros, read};
use super::condition::Condition;
use super::rows;
use super::tally::{Holders, Move};
use crate::ledger::entry::{Outcome, REVOKED_IDS, RevokeSelector};

impl Batch<'_> {
    pub(super) fn revoke_many(&mut self, selector: &RevokeSelector, at: Timestamp) -> Result<Outcome, Fault> {
        let (taken, values) = taken(selector);

        let mut select =
            self.connection.prepare_cached(&format!("{SUMS} WHERE {taken} GROUP BY 1, 2, 3, 4"))?;
        let moves = select.query_map(params_from_iter(&values), made)?;
        let moves: Vec<Move> = moves.collect::<Result<_, _>>()?;
        if moves.is_empty() {
            return Ok(Outcome::Revoked { count: 0, ids: Vec::new() });
        }

        let some = format!("SELECT id FROM leases WHERE {taken} LIMIT {REVOKED_IDS}");
        let mut select = self.connection.prepare_cached(&some)?;
        let ids = select.query_map(params_from_iter(&values), |row| row.get(0).map(LeaseId::from_bytes))?;
        let ids: Vec<LeaseId> = ids.collect::<Result<_, _>>()?;

        let due = Value::Integer(micros(at));
        let mut update = self.connection.prepare_cached(&format!("{REVOKE} WHERE {taken}"))?;
        update.execute(params_from_iter(std::iter::once(&due).chain(&values)))?;

        let count = moves.iter().map(|made| made.count).sum();
        moves.into_iter().for_each(|made| self.tally.add(made));
        Ok(Outcome::Revoked { count, ids })
    }
}

/// The leases to take: those that the selector names and nobody took back yet.
fn taken(selector: &RevokeSelector) -> (String, Vec<Value>) {
    let (index, also) = match selector {
        RevokeSelector::Principal(principal) => ("lease_slot", Some(principal)),
        _ => ("lease_held", None),
    };
    let named = Condition::held().of_selector(selector);
    let mut sql =
        format!("id IN (SELECT id FROM leases INDEXED BY {index} WHERE {}) AND state <= 2", named.sql());
    let mut values = named.values().to_vec();
    if let Some(principal) = also {
        sql.push_str(" AND principal = ?");
        values.push(Value::Text(principal.as_str().to_owned()));
    }
    (sql, values)
}

fn made(row: &Row<'_>) -> rusqlite::Result<Move> {
    let to = if row.get(1)? { LeaseState::Revoked } else { LeaseState::Gone };
    Ok(Move {
        from: Some(rows::state(row, 0)?),
        to,
        count: read(row.get(4)?),
        holders: Holders { backend: row.get(2)?, node: row.get(3)? },
    })
}

const SUMS: &str = "SELECT state, dynamic, backend, node, count(*) FROM leases";

/// What [`LeaseState::after`] makes of a revocation, and gone where nothing is to be taken back.
const REVOKE: &str = "UPDATE leases SET state = CASE WHEN dynamic THEN 3 ELSE 6 END, \
     slot = CASE WHEN dynamic THEN slot END, next_attempt_at = CASE WHEN dynamic THEN ? END";
