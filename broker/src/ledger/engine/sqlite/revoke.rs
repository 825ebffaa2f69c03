//! Bulk revocation: an order that is written down, and the steps that carry it out.
//!
//! One statement for all of an order's leases would hold the only writer for as long as they are many: 25 seconds for a
//! million. A step takes some hundreds, so that other commits wait for milliseconds, and what is left to do is in the
//! order's row, so that a restart goes on. The walk to the leases is done by a connection that reads (`revocations.rs`).

use bursar_core::LeaseId;
use bursar_core::audit::AuditRecord;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::super::codes::{micros, selector_codes, state_code, stored};
use super::super::held::{Taken, carried_out};
use super::super::tally::{Holders, Move};
use super::batch::{Batch, Fault};
use super::rows;
use crate::ledger::entry::{Outcome, RevocationId, RevokeSelector};

impl Batch<'_> {
    pub(super) fn order_revocation(
        &mut self,
        selector: &RevokeSelector,
        record: &AuditRecord,
        at: Timestamp,
    ) -> Result<Outcome, Fault> {
        let newest: Option<[u8; 16]> =
            self.connection.prepare_cached(NEWEST)?.query_row([], |row| row.get(0)).optional()?;
        let (code, backend, name) = selector_codes(selector);
        let mut insert = self.connection.prepare_cached(ORDER)?;
        let id: i64 = insert.query_row(
            params![micros(at), code, backend, name, record.to_line(), newest.unwrap_or_default()],
            |row| row.get(0),
        )?;
        Ok(Outcome::Ordered(RevocationId(u64::try_from(id).unwrap_or_default())))
    }

    pub(super) fn mark(
        &mut self,
        revocation: RevocationId,
        ids: &[LeaseId],
        place: Option<&[u8]>,
        at: Timestamp,
    ) -> Result<u64, Fault> {
        let open = self
            .connection
            .prepare_cached(OPEN)?
            .query_row([stored(revocation.0)], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?)));
        let Some((line, marked_before)) = open.optional()? else { return Ok(0) };
        let Ok(template) = AuditRecord::from_line(&line) else {
            return Err(Fault::Engine(rows::damaged(0, rusqlite::types::Type::Blob)));
        };
        let (mut marked, mut dynamic) = (0_u64, 0_u64);
        for id in ids {
            let Some(lease) = self.to_mark(*id)? else { continue };
            marked += 1;
            dynamic += u64::from(lease.dynamic);
            let record = lease.record(&template, *id, at);
            self.take_back(*id, revocation, lease, at)?;
            self.record(record)?;
        }
        let ended = place.is_none().then(|| micros(at));
        let step = params![stored(revocation.0), place, stored(marked), stored(dynamic), ended];
        self.connection.prepare_cached(STEP)?.execute(step)?;
        if ended.is_some() {
            let all = u64::try_from(marked_before).unwrap_or_default() + marked;
            self.record(carried_out(template, all, at))?;
        }
        Ok(marked)
    }

    /// The lease, if nobody took it back yet.
    fn to_mark(&self, id: LeaseId) -> Result<Option<Taken>, Fault> {
        let mut select = self.connection.prepare_cached(HELD)?;
        let taken = select.query_row([id.to_bytes()], |row| {
            Ok(Taken {
                state: rows::state(row, 0)?,
                dynamic: row.get(1)?,
                path: row.get(2)?,
                version: row.get(3)?,
                environment: row.get(4)?,
                holders: Holders { principal: row.get(5)?, backend: row.get(6)?, node: row.get(7)? },
            })
        });
        Ok(taken.optional()?.filter(Taken::is_open))
    }

    fn take_back(
        &mut self,
        id: LeaseId,
        revocation: RevocationId,
        lease: Taken,
        at: Timestamp,
    ) -> Result<(), Fault> {
        let to = lease.to();
        let sql = if lease.dynamic { REVOKE } else { END };
        let mut update = self.connection.prepare_cached(sql)?;
        update.execute(params![id.to_bytes(), state_code(to), micros(at), stored(revocation.0)])?;
        if lease.dynamic {
            self.drop_credential(id, lease.state)?;
        }
        self.tally.add(Move { from: Some(lease.state), to, count: 1, holders: lease.holders });
        Ok(())
    }
}

const NEWEST: &str = "SELECT id FROM leases ORDER BY id DESC LIMIT 1";

/// A walk begins before every id and every slot.
const ORDER: &str = "INSERT INTO revocations (ordered_at, selector, backend, name, record, newest, place) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, x'') RETURNING id";

const OPEN: &str = "SELECT record, marked FROM revocations WHERE id = ?1 AND marked_at IS NULL";

const STEP: &str = "UPDATE revocations SET place = coalesce(?2, place), marked = marked + ?3, dynamic = dynamic + ?4, \
     marked_at = ?5 WHERE id = ?1";

const HELD: &str =
    "SELECT state, dynamic, path, version, environment, principal, backend, node FROM leases WHERE id = ?1";

/// What [`LeaseState::after`] makes of a revocation.
const REVOKE: &str = "UPDATE leases SET state = ?2, next_attempt_at = ?3, revocation = ?4 WHERE id = ?1";

/// And gone where nothing is to be taken back.
const END: &str = "UPDATE leases SET state = ?2, slot = NULL, gone_at = ?3, revocation = ?4 WHERE id = ?1";
