//! One state of the ledger: a transaction that reads, begun with the first question that is asked of it.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::Arc;

use bursar_core::backend::StoreHandle;
use bursar_core::tlog::Hash;
use bursar_core::{BackendName, Lease, LeaseId, LeaseState};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::slot::CredentialSlot;
use super::super::{Snapshot, Snapshots, VisitLine, VisitRecord, Vouched};
use super::access::Access;
use super::connection::{Answer, Call, Connection};
use super::failure::Fault;
use super::{lists, log, objects, revocations, rows};
use crate::ledger::entry::{Object, ObjectKind, RevocationId};
use crate::ledger::error::LedgerError;
use crate::ledger::query::{
    HolderKind, Kept, LeaseFilter, Page, Paged, RecordOrder, Revocable, Revocation, Walked,
};

/// A session that reads what one broker may see: its own log, and the leases and objects of all.
pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) log: i64,
}

/// What one question sees.
pub(super) struct State<'c> {
    connection: RefCell<&'c mut Connection>,
    begun: Cell<bool>,
    pub(super) log: i64,
}

impl Reader {
    pub(super) fn new(access: &Arc<Access>, log: i64) -> std::io::Result<Self> {
        Ok(Self { connection: Connection::new(Arc::clone(access))?, log })
    }
}

impl State<'_> {
    /// The rows of one statement.
    pub(super) fn ask<'v>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = &'v (dyn ToSql + Sync)>,
    ) -> Result<Vec<Row>, Fault> {
        let begin = (!self.begun.replace(true))
            .then_some("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY");
        let values: Vec<_> = values.into_iter().collect();
        let answers = self.connection.borrow_mut().all(begin, vec![Call::rows(sql, values)], None)?;
        Ok(answers.into_iter().flat_map(Answer::rows).collect())
    }

    /// The first row of one statement.
    pub(super) fn ask_one<'v>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = &'v (dyn ToSql + Sync)>,
    ) -> Result<Option<Row>, Fault> {
        Ok(self.ask(sql, values)?.into_iter().next())
    }
}

impl Snapshots for Reader {
    fn on_one(&mut self, question: &mut dyn FnMut(&dyn Snapshot)) -> Result<(), LedgerError> {
        self.connection.connect()?;
        let state =
            State { connection: RefCell::new(&mut self.connection), begun: Cell::new(false), log: self.log };
        question(&state);
        // What it answered stands; a session that cannot end its transaction is closed.
        if state.begun.get() && self.connection.script("ROLLBACK").is_err() {
            self.connection.disconnect();
        }
        Ok(())
    }

    /// One statement, and one transaction of its own.
    fn leases(&mut self, ids: &[LeaseId], found: &mut dyn FnMut(Result<Option<Lease>, LedgerError>)) {
        let wanted: Vec<Vec<u8>> = ids.iter().map(|id| id.to_bytes().to_vec()).collect();
        let sql = format!("SELECT {} FROM bursar.leases WHERE id = ANY($1::bytea[])", rows::COLUMNS);
        let asked =
            self.connection.connect().and_then(|_| self.connection.one(Call::rows(&sql, [&wanted as _])));
        let there = asked.and_then(|there| {
            there
                .iter()
                .map(|row| Ok((rows::id(row, 0)?, rows::lease(row))))
                .collect::<Result<Vec<_>, Fault>>()
        });
        match there {
            Err(fault) => {
                let error = LedgerError::from(fault);
                ids.iter().for_each(|_| found(Err(error.clone())));
            }
            Ok(there) => {
                let mut there: std::collections::HashMap<_, _> =
                    there.into_iter().map(|(id, lease)| (id, lease.map_err(LedgerError::from))).collect();
                for id in ids {
                    found(match there.get_mut(id) {
                        Some(lease) => lease.clone().map(Some),
                        None => Ok(None),
                    });
                }
            }
        }
    }
}

impl Snapshot for State<'_> {
    fn leases(&self, filter: &LeaseFilter, page: &Page) -> Result<Paged<Lease>, LedgerError> {
        Ok(lists::leases(self, filter, page)?)
    }

    fn lease_counts(&self) -> Result<Vec<(LeaseState, u64)>, LedgerError> {
        Ok(lists::counts(self)?)
    }

    fn top_holders(&self, kind: HolderKind, limit: usize) -> Result<Vec<(String, u64)>, LedgerError> {
        Ok(lists::top(self, kind, limit)?)
    }

    fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Lease>, LedgerError> {
        Ok(lists::due(self, now, limit)?)
    }

    fn ending(&self, times: &[Timestamp]) -> Result<Vec<u64>, LedgerError> {
        Ok(lists::ending(self, times)?)
    }

    fn to_revoke(
        &self,
        backend: &BackendName,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Revocable>, LedgerError> {
        Ok(lists::to_revoke(self, backend, now, limit)?)
    }

    fn waiting_backends(&self) -> Result<Vec<BackendName>, LedgerError> {
        Ok(lists::waiting_backends(self)?)
    }

    fn open_revocations(&self) -> Result<Vec<RevocationId>, LedgerError> {
        Ok(revocations::open(self)?)
    }

    fn walk(
        &self,
        revocation: RevocationId,
        from: Option<&[u8]>,
        limit: usize,
    ) -> Result<Walked, LedgerError> {
        Ok(revocations::walk(self, revocation, from, limit)?)
    }

    fn revocations(&self, id: Option<RevocationId>, limit: usize) -> Result<Vec<Revocation>, LedgerError> {
        Ok(revocations::revocations(self, id, limit)?)
    }

    fn intents(&self, before: Timestamp, limit: usize) -> Result<Vec<Lease>, LedgerError> {
        Ok(lists::intents(self, before, limit)?)
    }

    fn handle(&self, id: LeaseId) -> Result<Option<StoreHandle>, LedgerError> {
        Ok(lists::handle(self, id)?)
    }

    fn kept(&self, slot: &CredentialSlot) -> Result<Option<Kept>, LedgerError> {
        Ok(lists::kept(self, slot)?)
    }

    fn lease_of_handle(
        &self,
        backend: &BackendName,
        handle: &StoreHandle,
    ) -> Result<Option<LeaseId>, LedgerError> {
        Ok(lists::of_handle(self, backend, handle)?)
    }

    fn object(&self, kind: ObjectKind, name: &str) -> Result<Option<Object>, LedgerError> {
        Ok(objects::object(self, kind, name)?)
    }

    fn objects(&self, kind: ObjectKind, page: &Page) -> Result<Paged<Object>, LedgerError> {
        Ok(objects::objects(self, kind, page)?)
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
        Ok(log::shipped(self, sink)?)
    }

    fn log_size(&self) -> Result<u64, LedgerError> {
        Ok(log::size(self)?)
    }

    fn first_kept(&self) -> Result<u64, LedgerError> {
        Ok(log::first_kept(self)?)
    }

    fn head(&self) -> Result<Option<(Vec<u8>, Vouched)>, LedgerError> {
        Ok(log::head(self)?)
    }

    fn record(&self, seq: u64) -> Result<Option<(i64, Vec<u8>)>, LedgerError> {
        Ok(log::record(self, seq)?)
    }

    fn lines(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LedgerError> {
        Ok(log::lines(self, from, limit)?)
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

    /// The server knows its own files.
    fn damage(&self) -> Result<Vec<String>, LedgerError> {
        Ok(Vec::new())
    }

    fn pruned_beyond(&self, place: u64) -> Result<u64, LedgerError> {
        Ok(log::pruned_beyond(self, place)?)
    }

    fn tiles(&self) -> Result<u64, LedgerError> {
        Ok(log::tiles(self)?)
    }

    fn each_record(&self, visit: &mut VisitRecord<'_>) -> Result<(), LedgerError> {
        log::each_record(self, visit)
    }

    fn each_lease(&self, visit: &mut dyn FnMut(Result<Lease, LedgerError>)) -> Result<(), LedgerError> {
        Ok(lists::each(self, visit)?)
    }

    fn stray_credentials(&self) -> Result<Vec<LeaseId>, LedgerError> {
        Ok(lists::stray_credentials(self)?)
    }

    fn wrong_counts(&self) -> Result<Vec<(Option<LeaseState>, u64)>, LedgerError> {
        Ok(lists::wrong_counts(self)?)
    }

    fn wrong_holders(&self, kind: HolderKind) -> Result<Vec<String>, LedgerError> {
        Ok(lists::wrong_holders(self, kind)?)
    }
}
