//! One transaction's entries, applied in memory to what was looked up, one after the other.
//!
//! The server is asked before and told after: two round trips, however many entries there are. An entry that is refused
//! midway is taken back here; the server never hears of it.

use std::collections::{BTreeMap, HashMap};

use bursar_core::audit::AuditRecord;
use bursar_core::tlog::{Node, leaf_hash};
use bursar_core::{Lease, LeaseId};

use super::super::codes::{micros, stored};
use super::super::prune::{Pruned, span};
use super::super::revisions::Revisions;
use super::super::tally::Tally;
use super::super::{LogTail, TILE, TILE_SIZE, moved};
use super::failure::Fault;
use super::needs::{Known, Order};
use crate::ledger::entry::{Change, Committed, Entry, ObjectKind, Outcome, RevokeSelector};
use crate::ledger::error::LedgerError;
use crate::ledger::quota::{Meter, QuotaExceeded};

/// A transaction under way.
pub(super) struct Batch<'m> {
    pub(super) known: Known,
    pub(super) meter: &'m mut Meter,
    pub(super) tally: Tally,
    pub(super) tail: LogTail,
    pub(super) written: Written,
}

/// What has to be written beside leases and sums, in order.
#[derive(Default)]
pub(super) struct Written {
    /// Number, time and line of each record.
    pub(super) records: Vec<(i64, i64, Vec<u8>)>,
    pub(super) tiles: Vec<Node>,
    pub(super) credentials: Vec<Credential>,
    pub(super) objects: Vec<ObjectChange>,
    pub(super) orders: Vec<NewOrder>,
    pub(super) steps: Vec<Step>,
    /// How many leases are forgotten, which count among those that are gone.
    pub(super) forgotten: i64,
    pub(super) forgotten_orders: Vec<i64>,
    pub(super) shipped: Vec<(String, i64)>,
    pub(super) pruned: Vec<Pruned>,
}

/// What becomes of kept credentials.
pub(super) enum Credential {
    Keep { slot: Vec<u8>, lease: Vec<u8>, sealed: Vec<u8> },
    Drop { lease: Vec<u8> },
}

/// What becomes of an object. `was` is the revision that it has now; 0: there is none.
pub(super) struct ObjectChange {
    pub(super) kind: ObjectKind,
    pub(super) name: String,
    pub(super) was: i64,
    /// Absent where it is removed.
    pub(super) new: Option<NewObject>,
}

pub(super) struct NewObject {
    pub(super) revision: i64,
    pub(super) body: Vec<u8>,
    pub(super) at: i64,
    pub(super) by: String,
}

pub(super) struct NewOrder {
    pub(super) id: i64,
    pub(super) at: i64,
    pub(super) selector: RevokeSelector,
    pub(super) record: Vec<u8>,
    pub(super) newest: Vec<u8>,
}

pub(super) struct Step {
    pub(super) id: i64,
    pub(super) place: Option<Vec<u8>>,
    pub(super) marked: i64,
    pub(super) dynamic: i64,
    pub(super) ended: Option<i64>,
}

/// Where a transaction stands.
struct Mark {
    tally: usize,
    meter: usize,
    leases: usize,
    tail: LogTail,
    lengths: [usize; 9],
    forgotten: i64,
    objects: HashMap<(ObjectKind, String), Revisions>,
    orders: BTreeMap<i64, Order>,
    last_order: i64,
    first: u64,
}

impl<'m> Batch<'m> {
    pub(super) fn new(known: Known, tail: LogTail, meter: &'m mut Meter) -> Self {
        Self { known, meter, tally: Tally::default(), tail, written: Written::default() }
    }

    /// Applies all of an entry, or nothing of it. A refusal is inside.
    pub(super) fn apply(&mut self, entry: &mut Entry) -> Result<Result<Committed, LedgerError>, Fault> {
        let first_seq = self.tail.frontier.size();
        let mark = (entry.changes.len() > 1).then(|| self.mark());
        let mut outcomes = Vec::with_capacity(entry.changes.len());
        for change in &entry.changes {
            match self.change(change) {
                Ok(outcome) => outcomes.push(outcome),
                Err(Fault::Ledger(refusal)) => {
                    if let Some(mark) = mark {
                        self.undo(mark);
                    }
                    return Ok(Err(refusal));
                }
                Err(fault) => return Err(fault),
            }
        }
        let moved = moved(&entry.changes, &outcomes);
        for record in &mut entry.records {
            let to = moved.iter().find(|(from, _)| record.lease_id.as_ref() == Some(from));
            // Put back afterwards: the same entry may have to be applied again, to another lease.
            let proposed = to.map(|(_, to)| record.lease_id.replace(to.clone()));
            self.record(record);
            if let Some(proposed) = proposed {
                record.lease_id = proposed;
            }
        }
        Ok(Ok(Committed { first_seq, outcomes }))
    }

    /// Adds a record to the log; it is given its number.
    pub(super) fn record(&mut self, record: &mut AuditRecord) {
        record.seq = self.tail.frontier.size();
        let line = record.to_line();
        self.tail.latest = self.tail.latest.max(micros(record.time));
        let tiles = &mut self.written.tiles;
        self.tail.frontier.append(leaf_hash(&line), |node| tiles.extend(node.is_tile_root().then_some(node)));
        self.written.records.push((stored(record.seq), self.tail.latest, line));
    }

    /// Refuses a new lease whose holders have as much as they may. To be called before it is written.
    pub(super) fn admit(&mut self, lease: &Lease) -> Result<(), Fault> {
        let refused = |exceeded: QuotaExceeded| Fault::Ledger(LedgerError::Quota(exceeded));
        let limits = self.meter.limits(lease);
        for (kind, name, quota) in limits {
            let Some(limit) = quota.live else { continue };
            let held = &self.known.held;
            let before = || {
                Ok::<_, Fault>(held.get(&kind).and_then(|names| names.get(name)).copied().unwrap_or_default())
            };
            if self.tally.held(kind, name, before)? >= limit.get() {
                return Err(refused(QuotaExceeded::live(kind, name, limit.get())));
            }
        }
        self.meter.note(limits, micros(lease.issued_at)).map_err(refused)
    }

    fn change(&mut self, change: &Change) -> Result<Outcome, Fault> {
        match change {
            Change::Grant(lease) => self.grant(lease),
            Change::Intent(lease) => self.intent(lease),
            Change::Activate { id, .. } => self.activate(*id, change),
            Change::Repeat { id } => self.repeat(*id),
            Change::Renew { id, expires_at, ttl_bound, at } => self.renew(*id, *expires_at, *ttl_bound, *at),
            Change::Apply { id, event, at, error, next_attempt_at } => {
                self.happen(*id, *event, *at, error.as_deref(), *next_attempt_at)
            }
            Change::OrderRevocation { selector, record, at } => {
                Ok(self.order_revocation(selector, record, *at))
            }
            Change::Mark { revocation, ids, place, at } => {
                self.carry_out(*revocation, ids, place.as_deref(), *at)
            }
            Change::Hasten { backend, at, limit } => self.hasten(backend, *at, *limit),
            Change::Forget { before, limit } => self.forget(*before, *limit),
            Change::PutObject { kind, name, body, expected, by, at } => {
                let new = NewObject {
                    revision: 0,
                    body: body.clone(),
                    at: micros(*at),
                    by: by.as_str().to_owned(),
                };
                self.put_object(*kind, name, new, *expected)
            }
            Change::RemoveObject { kind, name, expected } => self.remove_object(*kind, name, *expected),
            Change::Shipped { sink, position } => {
                self.written.shipped.push((sink.clone(), stored(*position)));
                Ok(Outcome::Done)
            }
            Change::Prune { below } => self.prune(*below),
        }
    }

    /// A second one in the same transaction goes on where the first stopped, as far as records were looked up.
    fn prune(&mut self, below: u64) -> Result<Outcome, Fault> {
        let ground = &mut self.known.prune;
        for start in span(ground.first, below, self.tail.frontier.size()).step_by(TILE_SIZE) {
            let Some((hashes, root)) = ground.tiles.get(&start) else { break };
            self.written.pruned.push(Pruned::of(start, hashes, *root).map_err(Fault::Ledger)?);
            ground.first = start + TILE;
        }
        Ok(Outcome::Done)
    }

    fn mark(&self) -> Mark {
        let written = &self.written;
        Mark {
            tally: self.tally.mark(),
            meter: self.meter.mark(),
            leases: self.known.leases.mark(),
            tail: self.tail.clone(),
            lengths: [
                written.records.len(),
                written.tiles.len(),
                written.credentials.len(),
                written.objects.len(),
                written.orders.len(),
                written.steps.len(),
                written.forgotten_orders.len(),
                written.shipped.len(),
                written.pruned.len(),
            ],
            forgotten: written.forgotten,
            objects: self.known.objects.clone(),
            orders: self.known.revocations.clone(),
            last_order: self.known.last_order,
            first: self.known.prune.first,
        }
    }

    fn undo(&mut self, mark: Mark) {
        self.tally.undo(mark.tally);
        self.meter.undo(mark.meter);
        self.known.leases.undo(mark.leases);
        self.tail = mark.tail;
        let written = &mut self.written;
        let [records, tiles, credentials, objects, orders, steps, forgotten, shipped, pruned] = mark.lengths;
        written.records.truncate(records);
        written.tiles.truncate(tiles);
        written.credentials.truncate(credentials);
        written.objects.truncate(objects);
        written.orders.truncate(orders);
        written.steps.truncate(steps);
        written.forgotten_orders.truncate(forgotten);
        written.shipped.truncate(shipped);
        written.pruned.truncate(pruned);
        written.forgotten = mark.forgotten;
        self.known.objects = mark.objects;
        self.known.revocations = mark.orders;
        self.known.last_order = mark.last_order;
        self.known.prune.first = mark.first;
    }

    /// Says that the credential of a lease that left a state is not kept any more.
    pub(super) fn drop_credential(&mut self, id: LeaseId) {
        self.written.credentials.push(Credential::Drop { lease: id.to_bytes().to_vec() });
    }
}
