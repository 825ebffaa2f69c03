//! Changes of many leases at once, and of the broker's own objects.

use bursar_core::audit::AuditRecord;
use bursar_core::{BackendName, LeaseId, LeaseState};
use jiff::Timestamp;

use super::super::codes::{at_most, micros, read, stored};
use super::super::held::{Taken, carried_out};
use super::super::revisions::Revisions;
use super::super::tally::{Holders, Move};
use super::batch::{Batch, NewObject, NewOrder, ObjectChange, Step};
use super::failure::Fault;
use super::needs::Order;
use crate::ledger::entry::{ObjectKind, Outcome, RevocationId, RevokeSelector};

impl Batch<'_> {
    pub(super) fn order_revocation(
        &mut self,
        selector: &RevokeSelector,
        record: &AuditRecord,
        at: Timestamp,
    ) -> Outcome {
        self.known.last_order += 1;
        let id = self.known.last_order;
        let newest = self.known.newest.max(self.known.leases.newest());
        self.written.orders.push(NewOrder {
            id,
            at: micros(at),
            selector: selector.clone(),
            record: record.to_line(),
            newest: newest.map(LeaseId::to_bytes).unwrap_or_default().to_vec(),
        });
        let order = Order { record: record.clone(), marked: 0, open: true };
        self.known.revocations.insert(id, order);
        Outcome::Ordered(RevocationId(read(id)))
    }

    /// One step of a bulk revocation.
    pub(super) fn carry_out(
        &mut self,
        revocation: RevocationId,
        ids: &[LeaseId],
        place: Option<&[u8]>,
        at: Timestamp,
    ) -> Result<Outcome, Fault> {
        let id = stored(revocation.0);
        let Some(order) = self.known.revocations.get(&id).filter(|order| order.open).cloned() else {
            return Ok(Outcome::Many { count: 0 });
        };
        let (mut marked, mut dynamic) = (0, 0);
        for lease in ids {
            let Some(taken) = self.still_open(*lease)? else { continue };
            marked += 1;
            dynamic += i64::from(taken.dynamic);
            let mut record = taken.record(&order.record, *lease, at);
            self.take_back(*lease, id, taken, at);
            self.record(&mut record);
        }
        let ended = place.is_none().then(|| micros(at));
        let all = order.marked + marked;
        if let Some(order) = self.known.revocations.get_mut(&id) {
            (order.marked, order.open) = (all, ended.is_none());
        }
        self.written.steps.push(Step { id, place: place.map(<[u8]>::to_vec), marked, dynamic, ended });
        if ended.is_some() {
            self.record(&mut carried_out(order.record, read(all), at));
        }
        Ok(Outcome::Many { count: read(marked) })
    }

    /// Those that were stuck when the transaction began.
    pub(super) fn hasten(
        &mut self,
        backend: &BackendName,
        at: Timestamp,
        limit: usize,
    ) -> Result<Outcome, Fault> {
        let key = (backend.as_str().to_owned(), micros(at), at_most(limit));
        let candidates = self.known.hasten.get(&key).cloned().unwrap_or_default();
        let mut count = 0;
        for id in candidates {
            let row = self.known.leases.find(id)?;
            let later = row.is_some_and(|row| {
                row.lease.state == LeaseState::Stuck && row.next_attempt_at > Some(micros(at))
            });
            if later {
                self.known.leases.change(id, |row| row.next_attempt_at = Some(micros(at)));
                count += 1;
            }
        }
        Ok(Outcome::Many { count })
    }

    /// Those that were gone when the transaction began.
    pub(super) fn forget(&mut self, before: Timestamp, limit: usize) -> Result<Outcome, Fault> {
        let key = (micros(before), at_most(limit));
        let (ids, orders) = self.known.forget.get(&key).cloned().unwrap_or_default();
        let mut count = 0;
        for id in ids {
            if self.known.leases.find(id)?.is_none() {
                continue;
            }
            self.known.leases.forget(id);
            count += 1;
        }
        self.written.forgotten += stored(count);
        self.written.forgotten_orders.extend(orders);
        Ok(Outcome::Many { count })
    }

    pub(super) fn put_object(
        &mut self,
        kind: ObjectKind,
        name: &str,
        new: NewObject,
        expected: Option<u64>,
    ) -> Result<Outcome, Fault> {
        let now = self.revisions(kind, name);
        let revision = now.next(expected).map_err(Fault::Ledger)?;
        let new = Some(NewObject { revision: stored(revision), ..new });
        let was = stored(now.current);
        self.written.objects.push(ObjectChange { kind, name: name.to_owned(), was, new });
        let last = if kind.has_history() { now.current.max(now.last) } else { now.last };
        self.known.objects.insert((kind, name.to_owned()), Revisions { current: revision, last });
        Ok(Outcome::Put { revision })
    }

    pub(super) fn remove_object(
        &mut self,
        kind: ObjectKind,
        name: &str,
        expected: Option<u64>,
    ) -> Result<Outcome, Fault> {
        let now = self.revisions(kind, name);
        now.remove(kind, name, expected).map_err(Fault::Ledger)?;
        let was = stored(now.current);
        self.written.objects.push(ObjectChange { kind, name: name.to_owned(), was, new: None });
        let last = if kind.has_history() { now.current } else { now.last };
        self.known.objects.insert((kind, name.to_owned()), Revisions { current: 0, last });
        Ok(Outcome::Done)
    }

    fn revisions(&self, kind: ObjectKind, name: &str) -> Revisions {
        self.known.objects.get(&(kind, name.to_owned())).copied().unwrap_or_default()
    }

    /// The lease, if nobody took it back yet.
    fn still_open(&mut self, id: LeaseId) -> Result<Option<Taken>, Fault> {
        let taken = self.known.leases.find(id)?.map(|row| {
            let lease = &row.lease;
            Taken {
                state: lease.state,
                dynamic: lease.dynamic,
                path: lease.reference.path.as_str().to_owned(),
                version: lease.reference.version.as_ref().map(|version| version.as_str().to_owned()),
                environment: lease.environment.clone(),
                holders: Holders::of(lease),
            }
        });
        Ok(taken.filter(Taken::is_open))
    }

    fn take_back(&mut self, id: LeaseId, revocation: i64, taken: Taken, at: Timestamp) {
        let to = taken.to();
        self.known.leases.change(id, |row| {
            row.lease.state = to;
            row.revocation = Some(revocation);
            match to {
                LeaseState::Gone => row.leave(at),
                _ => row.next_attempt_at = Some(micros(at)),
            }
        });
        if taken.dynamic && taken.state == LeaseState::Active {
            self.drop_credential(id);
        }
        self.tally.add(Move { from: Some(taken.state), to, count: 1, holders: taken.holders });
    }
}
