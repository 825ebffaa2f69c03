//! Bulk revocations: where their leases are, and how far they got.

use bursar_core::LeaseId;
use bursar_core::audit::AuditRecord;
use rusqlite::types::{Type, Value};
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::super::codes::{at_most, read, selector_of, stored};
use super::condition::Condition;
use super::rows::{damaged, time};
use crate::ledger::entry::{RevocationId, RevokeSelector};
use crate::ledger::error::LedgerError;
use crate::ledger::query::{Revocation, Walked};

/// Those whose leases are not all marked yet, oldest first.
pub(super) fn open(connection: &Connection) -> Result<Vec<RevocationId>, LedgerError> {
    let mut select = connection.prepare_cached(OPEN)?;
    let ids = select.query_map([], |row| Ok(RevocationId(read(row.get(0)?))))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// The next leases of a bulk revocation, after `from` or after those that are marked. One step looks at a bounded number
/// of leases: its answer may be empty while more follows.
pub(super) fn walk(
    connection: &Connection,
    revocation: RevocationId,
    from: Option<&[u8]>,
    limit: usize,
) -> Result<Walked, LedgerError> {
    let mut select = connection.prepare_cached(WALK)?;
    let order = select.query_row([stored(revocation.0)], |row| {
        let (backend, name): (Option<String>, Option<String>) = (row.get(1)?, row.get(2)?);
        let selector = selector_of(row.get(0)?, backend.as_deref(), name.as_deref());
        let selector = selector.ok_or_else(|| damaged(0, Type::Integer))?;
        Ok((selector, row.get::<_, [u8; 16]>(3)?, row.get::<_, Vec<u8>>(4)?))
    });
    let Some((selector, newest, place)) = order.optional()? else { return Ok(Walked::default()) };
    let (sql, values) = along(&selector, from.map_or(place, <[u8]>::to_vec), newest);
    let mut select = connection.prepare_cached(&sql)?;
    let mut found = select.query(params_from_iter(values))?;
    let mut walked = Walked::default();
    let mut effort = 0;
    while let Some(row) = found.next()? {
        effort += 1;
        if row.get(2)? {
            walked.ids.push(LeaseId::from_bytes(row.get(0)?));
        }
        if walked.ids.len() >= limit || effort >= EFFORT {
            walked.place = Some(row.get(1)?);
            return Ok(walked);
        }
    }
    Ok(walked)
}

/// Newest first, at most `limit` of them; only `id` where it is given.
pub(super) fn revocations(
    connection: &Connection,
    id: Option<RevocationId>,
    limit: usize,
) -> Result<Vec<Revocation>, LedgerError> {
    let mut select = connection.prepare_cached(SHOWN)?;
    let found = select.query_map((id.map(|id| stored(id.0)), at_most(limit)), shown)?;
    let mut found: Vec<Revocation> = found.collect::<Result<_, _>>()?;
    let mut left = connection.prepare_cached(LEFT)?;
    for revocation in &mut found {
        let counts = left.query_row([stored(revocation.id.0)], |row| Ok((row.get(0)?, row.get(1)?)))?;
        (revocation.waiting, revocation.stuck) = (read(counts.0), read(counts.1));
    }
    Ok(found)
}

/// Ids of leases, each with its place in the walk and whether the selector names it.
fn along(selector: &RevokeSelector, place: Vec<u8>, newest: [u8; 16]) -> (String, Vec<Value>) {
    let (place, newest) = (Value::Blob(place), Value::Blob(newest.to_vec()));
    if let RevokeSelector::Principal(principal) = selector {
        // The principal's slots lie side by side, with now and then one of another that shares the beginning.
        let slots = Condition::held().of_principal(principal);
        let sql = format!(
            "SELECT id, slot, principal = ? AND id <= ? FROM leases INDEXED BY lease_slot WHERE {} AND slot > ? \
             ORDER BY slot",
            slots.sql()
        );
        let named = [Value::Text(principal.as_str().to_owned()), newest];
        return (sql, named.into_iter().chain(slots.values().iter().cloned()).chain([place]).collect());
    }
    let named = Condition::any().of_selector(selector);
    let sql = format!(
        "SELECT id, id, ({}) IS TRUE FROM leases INDEXED BY lease_held WHERE slot IS NOT NULL AND id > ? AND id <= ? ORDER BY id",
        named.sql()
    );
    (sql, named.values().iter().cloned().chain([place, newest]).collect())
}

fn shown(row: &Row<'_>) -> rusqlite::Result<Revocation> {
    let line: Vec<u8> = row.get(2)?;
    let record = AuditRecord::from_line(&line).map_err(|_| damaged(2, Type::Blob))?;
    let marked_at: Option<i64> = row.get(5)?;
    Ok(Revocation {
        id: RevocationId(read(row.get(0)?)),
        ordered_at: time(row.get(1)?).ok_or_else(|| damaged(1, Type::Integer))?,
        ordered_by: record.actor.principal,
        leases: record.resource,
        reason: record.reason,
        marked: read(row.get(3)?),
        dynamic: read(row.get(4)?),
        marked_at: marked_at.and_then(time),
        waiting: 0,
        stuck: 0,
    })
}

const OPEN: &str =
    "SELECT id FROM revocations INDEXED BY revocation_open WHERE marked_at IS NULL ORDER BY id";

const WALK: &str =
    "SELECT selector, backend, name, newest, place FROM revocations WHERE id = ?1 AND marked_at IS NULL";

const SHOWN: &str = "SELECT id, ordered_at, record, marked, dynamic, marked_at FROM revocations \
     WHERE ?1 IS NULL OR id = ?1 ORDER BY id DESC LIMIT ?2";

const LEFT: &str = "SELECT count(*), coalesce(sum(state = 5), 0) FROM leases INDEXED BY lease_ordered \
     WHERE revocation = ?1 AND revocation IS NOT NULL AND next_attempt_at IS NOT NULL";

/// What one step may cost, in leases that are looked at: some 50 ms.
const EFFORT: usize = 100_000;
