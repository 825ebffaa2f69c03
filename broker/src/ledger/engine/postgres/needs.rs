//! What a transaction has to know before its entries are applied: looked up in one round trip for all of them.

use std::collections::{BTreeMap, HashMap};

use bursar_core::LeaseId;
use bursar_core::audit::AuditRecord;
use bursar_core::tlog::{Hash, TILE_HEIGHT, leaf_hash};
use tokio_postgres::Row;

use super::super::codes::{at_most, holder_code, kind_code, micros, read, stored};
use super::super::revisions::Revisions;
use super::super::{TILE, Work, slot};
use super::connection::{Answer, Call, Connection};
use super::failure::Fault;
use super::leases::Leases;
use super::rows::{COLUMNS, first_column, get, id};
use crate::ledger::entry::{Change, ObjectKind};
use crate::ledger::query::HolderKind;
use crate::ledger::quota::Meter;

/// The keys of what is asked.
#[derive(Default)]
pub(super) struct Needs {
    slots: Vec<Vec<u8>>,
    ids: Vec<Vec<u8>>,
    holders: (Vec<i64>, Vec<String>),
    objects: (Vec<i64>, Vec<String>),
    revocations: Vec<i64>,
    orders: bool,
    hasten: Vec<(String, i64, i64)>,
    forget: Vec<(i64, i64)>,
    prune: bool,
}

/// What was found.
#[derive(Default)]
pub(super) struct Known {
    pub(super) epoch: i64,
    pub(super) batch: i64,
    pub(super) leases: Leases,
    pub(super) held: HashMap<HolderKind, HashMap<String, i64>>,
    pub(super) objects: HashMap<(ObjectKind, String), Revisions>,
    pub(super) revocations: BTreeMap<i64, Order>,
    /// The number of the last bulk revocation, and the newest lease; asked only where there is an order.
    pub(super) last_order: i64,
    pub(super) newest: Option<LeaseId>,
    /// By what the changes say: backend, time and limit.
    pub(super) hasten: HashMap<(String, i64, i64), Vec<LeaseId>>,
    /// Leases and bulk revocations, by time and limit.
    pub(super) forget: HashMap<(i64, i64), (Vec<LeaseId>, Vec<i64>)>,
    pub(super) prune: Ground,
}

/// An open bulk revocation.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) record: AuditRecord,
    pub(super) marked: i64,
    pub(super) open: bool,
}

/// The oldest records: where they begin, and of each tile its leaf hashes and root.
#[derive(Default)]
pub(super) struct Ground {
    pub(super) first: u64,
    pub(super) tiles: BTreeMap<u64, (Vec<Hash>, Option<Hash>)>,
}

impl Needs {
    /// Of all entries. With `ids_of_new`, also whether the ids of new leases are there: only where some seemed to be.
    pub(super) fn of(work: &[Work], meter: &Meter, ids_of_new: bool) -> Self {
        let mut needs = Self::default();
        let entries = work.iter().filter_map(|work| match work {
            Work::Commit(entry) => Some(entry),
            Work::Beat | Work::Sign => None,
        });
        for change in entries.flat_map(|entry| &entry.changes) {
            needs.add(change, meter, ids_of_new);
        }
        needs
    }

    fn add(&mut self, change: &Change, meter: &Meter, ids_of_new: bool) {
        match change {
            Change::Grant(lease) | Change::Intent(lease) => {
                if matches!(change, Change::Grant(_)) {
                    self.slots.push(slot::of_static(lease));
                }
                if ids_of_new {
                    self.ids.push(lease.id.to_bytes().to_vec());
                }
                for (kind, name, quota) in meter.limits(lease) {
                    if quota.live.is_some() {
                        self.holders.0.push(holder_code(kind));
                        self.holders.1.push(name.to_owned());
                    }
                }
            }
            Change::Activate { id, .. }
            | Change::Repeat { id }
            | Change::Renew { id, .. }
            | Change::Apply { id, .. } => self.ids.push(id.to_bytes().to_vec()),
            Change::OrderRevocation { .. } => self.orders = true,
            Change::Mark { revocation, ids, .. } => {
                self.revocations.push(stored(revocation.0));
                self.ids.extend(ids.iter().map(|id| id.to_bytes().to_vec()));
            }
            Change::Hasten { backend, at, limit } => {
                self.hasten.push((backend.as_str().to_owned(), micros(*at), at_most(*limit)));
            }
            Change::Forget { before, limit } => self.forget.push((micros(*before), at_most(*limit))),
            Change::PutObject { kind, name, .. } | Change::RemoveObject { kind, name, .. } => {
                self.objects.0.push(kind_code(*kind));
                self.objects.1.push(name.clone());
            }
            Change::Shipped { .. } => {}
            Change::Prune { .. } => self.prune = true,
        }
    }

    /// Begins the transaction, takes the row of `log`, and looks everything up.
    pub(super) fn load(&self, connection: &mut Connection, log: i64) -> Result<Known, Fault> {
        let by_slot =
            format!("SELECT {COLUMNS} FROM bursar.leases WHERE slot IS NOT NULL AND slot = ANY($1::bytea[])");
        let by_id = format!("SELECT {COLUMNS} FROM bursar.leases WHERE id = ANY($1::bytea[])");
        let stuck = format!(
            "SELECT {COLUMNS} FROM bursar.leases WHERE state = 5 AND backend = $1 AND next_attempt_at > $2 LIMIT $3"
        );
        let gone = format!(
            "SELECT {COLUMNS} FROM bursar.leases WHERE gone_at IS NOT NULL AND gone_at <= $1 ORDER BY gone_at LIMIT $2"
        );
        let mut calls = vec![Call::rows(OWN, [&log as _])];
        if !self.slots.is_empty() {
            calls.push(Call::rows(&by_slot, [&self.slots as _]));
        }
        if !self.ids.is_empty() {
            calls.push(Call::rows(&by_id, [&self.ids as _]));
        }
        if !self.holders.0.is_empty() {
            calls.push(Call::rows(HELD, [&self.holders.0 as _, &self.holders.1 as _]));
        }
        if !self.objects.0.is_empty() {
            calls.push(Call::rows(REVISIONS, [&self.objects.0 as _, &self.objects.1 as _]));
        }
        if !self.revocations.is_empty() {
            calls.push(Call::rows(ORDERS, [&self.revocations as _]));
        }
        if self.orders {
            calls.push(Call::rows(LAST_ORDER, []));
            calls.push(Call::rows("SELECT id FROM bursar.leases ORDER BY id DESC LIMIT 1", []));
        }
        let mut answers = connection.all(Some("BEGIN"), calls, None)?.into_iter().map(Answer::rows);
        let mut next = || answers.next().unwrap_or_default();

        let mut known = Known::default();
        let own = next();
        let own = own.first().ok_or(Fault::Fenced)?;
        (known.epoch, known.batch) = (get(own, 0)?, get(own, 1)?);
        if !self.slots.is_empty() {
            known.leases.take(next())?;
        }
        if !self.ids.is_empty() {
            known.leases.take(next())?;
        }
        if !self.holders.0.is_empty() {
            for row in next() {
                let kind = HolderKind::ALL
                    .into_iter()
                    .find(|kind| get(&row, 0).is_ok_and(|code: i64| code == holder_code(*kind)));
                let kind = kind.ok_or(Fault::Damaged { table: "bursar.holders" })?;
                known.held.entry(kind).or_default().insert(get(&row, 1)?, get(&row, 2)?);
            }
        }
        if !self.objects.0.is_empty() {
            for row in next() {
                let kind = ObjectKind::ALL
                    .into_iter()
                    .find(|kind| get(&row, 0).is_ok_and(|code: i64| code == kind_code(*kind)));
                let kind = kind.ok_or(Fault::Damaged { table: "bursar.objects" })?;
                let revisions = Revisions { current: read(get(&row, 2)?), last: read(get(&row, 3)?) };
                known.objects.insert((kind, get(&row, 1)?), revisions);
            }
        }
        if !self.revocations.is_empty() {
            for row in next() {
                known.revocations.insert(get(&row, 0)?, order(&row)?);
            }
        }
        if self.orders {
            known.last_order = next().first().map(|row| get(row, 0)).transpose()?.unwrap_or_default();
            known.newest = next().first().map(|row| id(row, 0)).transpose()?;
        }
        for (backend, at, limit) in &self.hasten {
            let rows = connection.one(Call::rows(&stuck, [backend as _, at as _, limit as _]))?;
            let ids = rows.iter().map(|row| id(row, 0)).collect::<Result<_, _>>()?;
            known.hasten.insert((backend.clone(), *at, *limit), ids);
            known.leases.take(rows)?;
        }
        for (before, limit) in &self.forget {
            let rows = connection.one(Call::rows(&gone, [before as _, limit as _]))?;
            let ids = rows.iter().map(|row| id(row, 0)).collect::<Result<_, _>>()?;
            known.leases.take(rows)?;
            let done = connection.one(Call::rows(DONE, [before as _]))?;
            known.forget.insert((*before, *limit), (ids, first_column(&done)?));
        }
        if self.prune {
            known.prune = Ground::load(connection, log)?;
        }
        Ok(known)
    }
}

impl Ground {
    fn load(connection: &mut Connection, log: i64) -> Result<Self, Fault> {
        let first = connection.one(Call::rows(FIRST, [&log as _]))?;
        let first = first.first().map(|row| get::<Option<i64>>(row, 0)).transpose()?.flatten();
        let mut ground = Self { first: read(first.unwrap_or_default()), tiles: BTreeMap::new() };
        for start in (0..TILES).map(|tile| ground.first + tile * TILE) {
            let (from, to, place) = (stored(start), stored(start + TILE), stored(start / TILE));
            let level = i64::from(TILE_HEIGHT);
            let lines = Call::rows(LINES, [&log as _, &from as _, &to as _]);
            let root = Call::rows(ROOT, [&log as _, &level as _, &place as _]);
            let mut answers = connection.all(None, vec![lines, root], None)?.into_iter().map(Answer::rows);
            let lines = answers.next().unwrap_or_default();
            let hashes = lines.iter().map(|row| get::<&[u8]>(row, 0).map(leaf_hash));
            let hashes = hashes.collect::<Result<Vec<_>, _>>()?;
            let root = answers.next().unwrap_or_default();
            let root = root.first().map(|row| get::<&[u8]>(row, 0)).transpose()?;
            let root = root.and_then(|hash| <[u8; Hash::LENGTH]>::try_from(hash).ok()).map(Hash::from);
            ground.tiles.insert(start, (hashes, root));
        }
        Ok(ground)
    }
}

fn order(row: &Row) -> Result<Order, Fault> {
    let record = AuditRecord::from_line(get(row, 1)?);
    let record = record.map_err(|_| Fault::Damaged { table: "bursar.revocations" })?;
    Ok(Order { record, marked: get(row, 2)?, open: true })
}

impl Leases {
    /// Keeps rows that were read; they become leases once somebody asks.
    fn take(&mut self, rows: Vec<Row>) -> Result<(), Fault> {
        for row in rows {
            let id = id(&row, 0)?;
            if let Some(slot) = get(&row, 20)? {
                self.occupy(slot, id);
            }
            self.keep(id, row);
        }
        Ok(())
    }
}

/// Locked, so that no other process that goes by this broker's name writes between here and the end.
const OWN: &str = "SELECT epoch, batch FROM bursar.logs WHERE id = $1 FOR UPDATE";

/// Of all brokers. What others have under way is not in it, so that several together may go past a quota by a batch each.
const HELD: &str = "SELECT h.kind, h.name, sum(h.leases)::bigint FROM bursar.holders AS h \
     JOIN (SELECT DISTINCT kind, name FROM unnest($1::bigint[], $2::text[]) AS wanted (kind, name)) AS w \
     ON h.kind = w.kind AND h.name = w.name GROUP BY h.kind, h.name";

const REVISIONS: &str = "SELECT w.kind, w.name, \
     coalesce((SELECT o.revision FROM bursar.objects AS o WHERE o.kind = w.kind AND o.name = w.name), 0), \
     coalesce((SELECT max(h.revision) FROM bursar.object_history AS h WHERE h.kind = w.kind AND h.name = w.name), 0) \
     FROM (SELECT DISTINCT kind, name FROM unnest($1::bigint[], $2::text[]) AS wanted (kind, name)) AS w";

const ORDERS: &str = "SELECT id, record, marked FROM bursar.revocations WHERE id = ANY($1::bigint[]) AND marked_at IS NULL \
     ORDER BY id FOR UPDATE";

const LAST_ORDER: &str = "SELECT revocations FROM bursar.ledger WHERE single = 0 FOR UPDATE";

/// Bulk revocations with nothing left to do.
const DONE: &str = "SELECT id FROM bursar.revocations AS r WHERE marked_at <= $1 AND NOT EXISTS ( \
     SELECT 1 FROM bursar.leases WHERE revocation = r.id AND revocation IS NOT NULL AND next_attempt_at IS NOT NULL)";

const FIRST: &str = "SELECT min(seq) FROM bursar.audit WHERE log = $1";
const LINES: &str = "SELECT line FROM bursar.audit WHERE log = $1 AND seq >= $2 AND seq < $3 ORDER BY seq";
const ROOT: &str = "SELECT hash FROM bursar.tiles WHERE log = $1 AND level = $2 AND place = $3";

/// As many as one change prunes.
const TILES: u64 = 4;
