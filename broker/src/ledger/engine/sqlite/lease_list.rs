//! Lists of leases, newest first.
//!
//! A list is walked along `lease_held`, whose columns tell most leases that are not in it without their rows being read.
//! Where another index names the leases in question (one principal's, those that wait to be taken back) and they are
//! few, they are sorted instead: those few would be far apart on the walk.

use bursar_core::{Lease, LeaseId, LeaseState};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::condition::Condition;
use super::leases::Lookup;
use crate::ledger::error::LedgerError;
use crate::ledger::query::{LeaseFilter, Page, Paged};

pub(super) fn leases(
    connection: &Connection,
    filter: &LeaseFilter,
    page: &Page,
) -> Result<Paged<Lease>, LedgerError> {
    let before = match &page.token {
        Some(token) => token.parse::<LeaseId>().map_err(|_| LedgerError::PageToken)?.to_bytes(),
        None => [u8::MAX; 16],
    };
    let walk = Walk::of(connection, filter)?;
    let mut select = connection.prepare_cached(&walk.sql)?;
    let before = Value::Blob(before.to_vec());
    let mut found = select.query(params_from_iter(walk.values.iter().chain([&before])))?;

    let mut lookup = Lookup::on(connection)?;
    let mut items = Vec::new();
    let mut last: Option<LeaseId> = None;
    let mut effort = 0;
    while let Some(row) = found.next()? {
        if items.len() == page.limit() || effort >= EFFORT {
            return Ok(Paged { items, next: last.map(|id| id.to_string()) });
        }
        effort += 1;
        let id = LeaseId::from_bytes(row.get(0)?);
        last = Some(id);
        if row.get(1)? {
            effort += ROW;
            items.extend(lookup.lease(id)?.filter(|lease| filter.selects(lease)));
        }
    }
    Ok(Paged { items, next: None })
}

/// The query along which a list is found, newest first: ids, each with whether the lease may be in the list. Its last
/// parameter is the id to start below.
#[derive(Debug)]
struct Walk {
    sql: String,
    values: Vec<Value>,
}

impl Walk {
    fn of(connection: &Connection, filter: &LeaseFilter) -> rusqlite::Result<Self> {
        if filter.states.contains(&LeaseState::Gone) {
            return Ok(Self::along("", &Condition::any(), &Condition::any().of_filter(filter)));
        }
        if let Some(principal) = &filter.principal {
            let slots = Condition::held().of_principal(principal);
            if is_small(connection, "lease_slot", &slots)? {
                return Ok(Self::along("INDEXED BY lease_slot", &slots, &Condition::any()));
            }
        }
        if !filter.states.is_empty() && filter.states.iter().all(|state| is_waiting(*state)) {
            let waiting = Condition::waiting();
            if is_small(connection, "lease_to_revoke", &waiting)? {
                return Ok(Self::along("INDEXED BY lease_to_revoke", &waiting, &Condition::any()));
            }
        }
        let mut tested = Condition::any().of_filter(filter);
        if let Some(principal) = &filter.principal {
            tested = tested.of_principal(principal);
        }
        Ok(Self::along("INDEXED BY lease_held", &Condition::held(), &tested))
    }

    fn along(index: &str, along: &Condition, tested: &Condition) -> Self {
        let (tested_sql, along_sql) = (tested.sql(), along.sql());
        let sql = format!(
            "SELECT id, ({tested_sql}) IS TRUE FROM leases {index} WHERE {along_sql} AND id < ? ORDER BY id DESC"
        );
        Self { sql, values: [tested.values(), along.values()].concat() }
    }
}

/// Whether one page may sort all that meet the condition.
fn is_small(connection: &Connection, index: &str, condition: &Condition) -> rusqlite::Result<bool> {
    let sql = condition.sql();
    let count =
        format!("SELECT count(*) FROM (SELECT 1 FROM leases INDEXED BY {index} WHERE {sql} LIMIT {SORTED})");
    let mut select = connection.prepare_cached(&count)?;
    let found: i64 = select.query_row(params_from_iter(condition.values()), |row| row.get(0))?;
    Ok(found < SORTED)
}

/// Whether leases in this state wait to be taken back, and so have a time for the next attempt.
fn is_waiting(state: LeaseState) -> bool {
    matches!(state, LeaseState::Expired | LeaseState::Revoked | LeaseState::Revoking | LeaseState::Stuck)
}

/// What one page may cost, in steps of the walk: some 10 ms. Enough for the largest page of leases that lie together.
const EFFORT: usize = 24_000;
/// What reading a lease costs.
const ROW: usize = 20;
const SORTED: i64 = 10_000;
