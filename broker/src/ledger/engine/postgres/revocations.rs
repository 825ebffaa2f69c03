//! Bulk revocations: where their leases are, and how far they got.

use bursar_core::audit::AuditRecord;
use tokio_postgres::Row;

use super::super::codes::{at_most, read, selector_of, stored};
use super::super::slot;
use super::failure::Fault;
use super::lists::{Condition, below};
use super::rows::{first_column, get, id, time};
use super::snapshot::State;
use crate::ledger::entry::{RevocationId, RevokeSelector};
use crate::ledger::query::{Revocation, Walked};

pub(super) fn open(state: &State<'_>) -> Result<Vec<RevocationId>, Fault> {
    let rows = state.ask("SELECT id FROM bursar.revocations WHERE marked_at IS NULL ORDER BY id", [])?;
    Ok(first_column(&rows)?.into_iter().map(|id| RevocationId(read(id))).collect())
}

/// One step looks at a bounded number of leases: its answer may be empty while more follows.
pub(super) fn walk(
    state: &State<'_>,
    revocation: RevocationId,
    from: Option<&[u8]>,
    limit: usize,
) -> Result<Walked, Fault> {
    let Some(order) = state.ask_one(WALK, [&stored(revocation.0) as _])? else {
        return Ok(Walked::default());
    };
    let (backend, name): (Option<&str>, Option<&str>) = (get(&order, 1)?, get(&order, 2)?);
    let selector = selector_of(get(&order, 0)?, backend, name).ok_or_else(damaged)?;
    let (newest, place): (&[u8], &[u8]) = (get(&order, 3)?, get(&order, 4)?);
    let place = from.unwrap_or(place);
    let rows = match &selector {
        RevokeSelector::Principal(principal) => {
            // The principal's slots lie side by side, with now and then one of another that shares the beginning.
            let [first, above] = slot::range(principal);
            let values =
                [&principal.as_str() as _, &newest as _, &first as _, &above as _, &place as _, &EFFORT as _];
            state.ask(BY_SLOT, values)?
        }
        _ => {
            let mut condition = Condition::after(3);
            name_leases(&mut condition, &selector);
            let sql = format!(
                "SELECT id, id, ({}) IS TRUE FROM bursar.leases WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3",
                condition.sql("slot IS NOT NULL")
            );
            let values = [&place as _, &newest as _, &EFFORT as _];
            state.ask(&sql, values.into_iter().chain(condition.values()))?
        }
    };
    let mut walked = Walked::default();
    for row in &rows {
        if get(row, 2)? {
            walked.ids.push(id(row, 0)?);
        }
        if walked.ids.len() >= limit {
            walked.place = Some(get(row, 1)?);
            return Ok(walked);
        }
    }
    if rows.len() as i64 == EFFORT {
        walked.place = rows.last().map(|row| get(row, 1)).transpose()?;
    }
    Ok(walked)
}

pub(super) fn revocations(
    state: &State<'_>,
    id: Option<RevocationId>,
    limit: usize,
) -> Result<Vec<Revocation>, Fault> {
    let rows = state.ask(SHOWN, [&id.map(|id| stored(id.0)) as _, &at_most(limit) as _])?;
    rows.iter().map(shown).collect()
}

fn name_leases(condition: &mut Condition, selector: &RevokeSelector) {
    match selector {
        RevokeSelector::PathPrefix { backend, path } => {
            condition.is("backend", backend.as_str());
            if let Some(path) = path {
                below(condition, path);
            }
        }
        RevokeSelector::Principal(principal) => condition.is("principal", principal.as_str()),
        RevokeSelector::Node(node) => condition.is("node", node.as_str()),
        RevokeSelector::Environment(name) => condition.is("environment", name),
    }
}

fn shown(row: &Row) -> Result<Revocation, Fault> {
    let record = AuditRecord::from_line(get(row, 2)?).map_err(|_| damaged())?;
    Ok(Revocation {
        id: RevocationId(read(get(row, 0)?)),
        ordered_at: time(get(row, 1)?)?,
        ordered_by: record.actor.principal,
        leases: record.resource,
        reason: record.reason,
        marked: read(get(row, 3)?),
        dynamic: read(get(row, 4)?),
        marked_at: get::<Option<i64>>(row, 5)?.map(time).transpose()?,
        waiting: read(get(row, 6)?),
        stuck: read(get(row, 7)?),
    })
}

fn damaged() -> Fault {
    Fault::Damaged { table: "bursar.revocations" }
}

const WALK: &str = "SELECT selector, backend, name, newest, place FROM bursar.revocations \
     WHERE id = $1 AND marked_at IS NULL";

const BY_SLOT: &str = "SELECT id, slot, principal = $1 AND id <= $2 FROM bursar.leases \
     WHERE slot IS NOT NULL AND slot >= $3 AND slot < $4 AND slot > $5 ORDER BY slot LIMIT $6";

const SHOWN: &str = "SELECT r.id, r.ordered_at, r.record, r.marked, r.dynamic, r.marked_at, \
     (SELECT count(*) FROM bursar.leases AS l WHERE l.revocation = r.id AND l.revocation IS NOT NULL \
      AND l.next_attempt_at IS NOT NULL), \
     (SELECT count(*) FROM bursar.leases AS l WHERE l.revocation = r.id AND l.revocation IS NOT NULL \
      AND l.next_attempt_at IS NOT NULL AND l.state = 5) \
     FROM bursar.revocations AS r WHERE $1::bigint IS NULL OR r.id = $1 ORDER BY r.id DESC LIMIT $2";

/// Leases that one step looks at.
const EFFORT: i64 = 10_000;
