//! Questions, each answered in a transaction that reads.

use std::ops::Range;
use std::sync::Arc;

use bursar_core::backend::StoreHandle;
use bursar_core::tlog::Hash;
use bursar_core::{BackendName, Lease, LeaseId, LeaseState};
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::super::slot::CredentialSlot;
use super::super::{Snapshot, Snapshots, VisitLine, VisitRecord, Vouched};
use super::leases::Lookup;
use super::{Files, credentials, holders, inspect, lease_list, leases, log, objects, revocations, sinks};
use crate::ledger::entry::{Object, ObjectKind, RevocationId};
use crate::ledger::error::LedgerError;
use crate::ledger::query::{
    HolderKind, Kept, LeaseFilter, Page, Paged, RecordOrder, Revocable, Revocation, Walked,
};

/// A connection that reads. The fields are dropped in their order: the files outlive the connection.
pub(super) struct Reader {
    pub(super) connection: Connection,
    /// None for a ledger that somebody else may have open.
    pub(super) _files: Option<Arc<Files>>,
}

impl Reader {
    fn begin(&self) -> rusqlite::Result<Transaction<'_>> {
        Transaction::new_unchecked(&self.connection, TransactionBehavior::Deferred)
    }
}

impl Snapshots for Reader {
    fn on_one(&mut self, question: &mut dyn FnMut(&dyn Snapshot)) -> Result<(), LedgerError> {
        let snapshot = self.begin()?;
        question(&*snapshot);
        Ok(())
    }

    fn leases(&mut self, ids: &[LeaseId], found: &mut dyn FnMut(Result<Option<Lease>, LedgerError>)) {
        let begun = self.begin().map_err(LedgerError::from);
        let mut lookup = match &begun {
            Ok(snapshot) => Lookup::on(snapshot),
            Err(error) => Err(error.clone()),
        };
        for id in ids {
            found(match &mut lookup {
                Ok(lookup) => lookup.lease(*id),
                Err(error) => Err(error.clone()),
            });
        }
    }
}

impl Snapshot for Connection {
    fn leases(&self, filter: &LeaseFilter, page: &Page) -> Result<Paged<Lease>, LedgerError> {
        lease_list::leases(self, filter, page)
    }

    fn lease_counts(&self) -> Result<Vec<(LeaseState, u64)>, LedgerError> {
        leases::counts(self)
    }

    fn top_holders(&self, kind: HolderKind, limit: usize) -> Result<Vec<(String, u64)>, LedgerError> {
        holders::top(self, kind, limit)
    }

    fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Lease>, LedgerError> {
        leases::due(self, now, limit)
    }

    fn ending(&self, times: &[Timestamp]) -> Result<Vec<u64>, LedgerError> {
        leases::ending(self, times)
    }

    fn to_revoke(
        &self,
        backend: &BackendName,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Revocable>, LedgerError> {
        leases::to_revoke(self, backend, now, limit)
    }

    fn waiting_backends(&self) -> Result<Vec<BackendName>, LedgerError> {
        leases::waiting_backends(self)
    }

    fn open_revocations(&self) -> Result<Vec<RevocationId>, LedgerError> {
        revocations::open(self)
    }

    fn walk(
        &self,
        revocation: RevocationId,
        from: Option<&[u8]>,
        limit: usize,
    ) -> Result<Walked, LedgerError> {
        revocations::walk(self, revocation, from, limit)
    }

    fn revocations(&self, id: Option<RevocationId>, limit: usize) -> Result<Vec<Revocation>, LedgerError> {
        revocations::revocations(self, id, limit)
    }

    fn intents(&self, before: Timestamp, limit: usize) -> Result<Vec<Lease>, LedgerError> {
        leases::intents(self, before, limit)
    }

    fn handle(&self, id: LeaseId) -> Result<Option<StoreHandle>, LedgerError> {
        leases::handle(self, id)
    }

    fn kept(&self, slot: &CredentialSlot) -> Result<Option<Kept>, LedgerError> {
        credentials::kept(self, slot)
    }

    fn lease_of_handle(
        &self,
        backend: &BackendName,
        handle: &StoreHandle,
    ) -> Result<Option<LeaseId>, LedgerError> {
        leases::of_handle(self, backend, handle)
    }

    fn object(&self, kind: ObjectKind, name: &str) -> Result<Option<Object>, LedgerError> {
        objects::object(self, kind, name)
    }

    fn objects(&self, kind: ObjectKind, page: &Page) -> Result<Paged<Object>, LedgerError> {
        objects::objects(self, kind, page)
    }

    fn object_history(
        &self,
        kind: ObjectKind,
        name: &str,
        page: &Page,
    ) -> Result<Paged<Object>, LedgerError> {
        objects::object_history(self, kind, name, page)
    }

    fn shipped(&self, sink: &str) -> Result<u64, LedgerError> {
        sinks::position(self, sink)
    }

    fn log_size(&self) -> Result<u64, LedgerError> {
        log::size(self)
    }

    fn first_kept(&self) -> Result<u64, LedgerError> {
        Ok(log::first_kept(self)?)
    }

    fn head(&self) -> Result<Option<(Vec<u8>, Vouched)>, LedgerError> {
        log::head(self)
    }

    fn record(&self, seq: u64) -> Result<Option<(i64, Vec<u8>)>, LedgerError> {
        log::record(self, seq)
    }

    fn lines(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LedgerError> {
        log::lines(self, from, limit)
    }

    fn leaf_hashes(&self, range: Range<u64>) -> Result<Vec<Hash>, LedgerError> {
        Ok(log::leaf_hashes(self, range)?)
    }

    fn pruned_hashes(&self, place: u64) -> Result<Option<Vec<Hash>>, LedgerError> {
        Ok(log::pruned_hashes(self, place)?)
    }

    fn tile_root(&self, level: u8, index: u64) -> Result<Option<Hash>, LedgerError> {
        Ok(log::tile_root(self, level, index)?)
    }

    fn scan(
        &self,
        range: Range<u64>,
        order: RecordOrder,
        needles: &[Vec<u8>],
        visit: &mut VisitLine<'_>,
    ) -> Result<(), LedgerError> {
        log::scan(self, range, order, needles, visit)
    }

    fn damage(&self) -> Result<Vec<String>, LedgerError> {
        inspect::damage(self)
    }

    fn pruned_beyond(&self, place: u64) -> Result<u64, LedgerError> {
        inspect::pruned_beyond(self, place)
    }

    fn tiles(&self) -> Result<u64, LedgerError> {
        inspect::tiles(self)
    }

    fn each_record(&self, visit: &mut VisitRecord<'_>) -> Result<(), LedgerError> {
        inspect::each_record(self, visit)
    }

    fn each_lease(&self, visit: &mut dyn FnMut(Result<Lease, LedgerError>)) -> Result<(), LedgerError> {
        inspect::each_lease(self, visit)
    }

    fn stray_credentials(&self) -> Result<Vec<LeaseId>, LedgerError> {
        inspect::stray_credentials(self)
    }

    fn wrong_counts(&self) -> Result<Vec<(Option<LeaseState>, u64)>, LedgerError> {
        inspect::wrong_counts(self)
    }

    fn wrong_holders(&self, kind: HolderKind) -> Result<Vec<String>, LedgerError> {
        inspect::wrong_holders(self, kind)
    }
}
