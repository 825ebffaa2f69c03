//! One transaction: entries applied one after the other, the log's new leaves, its sealed head, and the commit.
//!
//! A change refuses before it writes, so an entry with one change that is refused has left nothing behind; only an entry
//! with several runs under a savepoint. The read path (one grant, one record) therefore never pays for one.

use bursar_core::audit::AuditRecord;
use bursar_core::tlog::{Node, Signer, leaf_hash};
use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, Transaction, TransactionBehavior};

use super::super::codes::{micros, stored};
use super::super::tally::Tally;
use super::super::{LogTail, moved};
use super::objects::NewObject;
use super::transition::{Activation, Happening};
use super::{grant, tally};
use crate::kill::{self, Point};
use crate::ledger::SignedHead;
use crate::ledger::entry::{Change, Committed, Entry, Outcome};
use crate::ledger::error::LedgerError;
use crate::ledger::quota::Meter;

/// A transaction under way. Dropped, it is undone.
pub(super) struct Batch<'c> {
    pub(super) connection: Transaction<'c>,
    /// What nearly every entry needs, looked up once for all of them.
    pub(super) statements: Statements<'c>,
    pub(super) tally: Tally,
    pub(super) meter: &'c mut Meter,
    tail: LogTail,
    size_before: u64,
}

/// The statements of the read path.
pub(super) struct Statements<'c> {
    append: CachedStatement<'c>,
    pub(super) live: CachedStatement<'c>,
    pub(super) insert: CachedStatement<'c>,
}

/// Why an entry did not go in.
#[derive(Debug)]
pub(super) enum Fault {
    /// The entry asks for what cannot be; the batch goes on without it.
    Refused(LedgerError),
    /// Disk or engine failed; the batch is lost.
    Engine(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error)
    }
}

impl<'c> Batch<'c> {
    /// Begins to write after `tail`, by the quotas of `meter`.
    pub(super) fn begin(
        connection: &'c Connection,
        tail: &LogTail,
        meter: &'c mut Meter,
    ) -> rusqlite::Result<Self> {
        meter.begin();
        Ok(Self {
            meter,
            connection: Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?,
            statements: Statements {
                append: connection.prepare_cached(APPEND)?,
                live: connection.prepare_cached(grant::LIVE)?,
                insert: connection.prepare_cached(grant::INSERT)?,
            },
            tally: Tally::default(),
            tail: tail.clone(),
            size_before: tail.frontier.size(),
        })
    }

    /// Applies all of an entry, or nothing of it.
    pub(super) fn apply(&mut self, entry: Entry) -> Result<Committed, Fault> {
        let first_seq = self.tail.frontier.size();
        let outcomes = match entry.changes.as_slice() {
            [] => Vec::new(),
            [change] => vec![self.change(change)?],
            changes => self.changes(changes)?,
        };
        let moved = moved(&entry.changes, &outcomes);
        for mut record in entry.records {
            if let Some((_, to)) = moved.iter().find(|(from, _)| record.lease_id.as_ref() == Some(from)) {
                record.lease_id = Some(to.clone());
            }
            self.record(record)?;
        }
        Ok(Committed { first_seq, outcomes })
    }

    /// Writes about as much as a small batch does, so that success means that there is space for one.
    pub(super) fn beat(&mut self, at: Timestamp) -> Result<(), Fault> {
        self.connection.prepare_cached(BEAT)?.execute([micros(at)])?;
        Ok(())
    }

    /// Makes it durable, with the log's edge sealed, and signed too where `sign` says so or nothing was signed before.
    /// Answers the new tail, and how many records are below the stored checkpoint where that is a new one.
    pub(super) fn commit(self, signer: &Signer, sign: bool) -> rusqlite::Result<(LogTail, Option<u64>)> {
        tally::write(&self.connection, &self.tally)?;
        let edge = &self.tail.frontier;
        let grew = edge.size() > self.size_before;
        let signed = (sign || (grew && self.size_before == 0)).then(|| SignedHead::sign(edge, signer));
        if grew || sign {
            let mut put = self.connection.prepare_cached(PUT_HEAD)?;
            put.execute((edge.to_bytes(), signer.seal(edge), signed.as_ref().map(|head| &head.note)))?;
        }
        kill::at(Point::HeadSealed);
        self.connection.commit()?;
        Ok((self.tail, signed.map(|head| head.size)))
    }

    /// The number of records, with those of this batch.
    pub(super) fn size(&self) -> u64 {
        self.tail.frontier.size()
    }

    fn changes(&mut self, changes: &[Change]) -> Result<Vec<Outcome>, Fault> {
        let (mark, noted) = (self.tally.mark(), self.meter.mark());
        self.connection.prepare_cached("SAVEPOINT entry")?.execute([])?;
        let outcomes = changes.iter().map(|change| self.change(change)).collect();
        if let Err(Fault::Refused(_)) = outcomes {
            self.connection.prepare_cached("ROLLBACK TO entry")?.execute([])?;
            self.tally.undo(mark);
            self.meter.undo(noted);
        }
        self.connection.prepare_cached("RELEASE entry")?.execute([])?;
        outcomes
    }

    fn change(&mut self, change: &Change) -> Result<Outcome, Fault> {
        match change {
            Change::Grant(lease) => self.grant(lease),
            Change::Intent(lease) => self.intent(lease),
            Change::Activate {
                id,
                handle,
                version,
                expires_at,
                max_expires_at,
                renewable,
                ttl_bound,
                sealed,
                at,
            } => {
                let activation = Activation {
                    handle,
                    version: version.as_ref(),
                    expires_at: *expires_at,
                    max_expires_at: *max_expires_at,
                    renewable: *renewable,
                    ttl_bound: *ttl_bound,
                    sealed: sealed.as_deref(),
                    at: *at,
                };
                self.activate(*id, &activation).map(|()| Outcome::Done)
            }
            Change::Repeat { id } => self.repeat(*id).map(|()| Outcome::Done),
            Change::Renew { id, expires_at, ttl_bound, at } => {
                self.renew(*id, *expires_at, *ttl_bound, *at).map(|()| Outcome::Done)
            }
            Change::Apply { id, event, at, error, next_attempt_at } => {
                let happening = Happening {
                    event: *event,
                    at: *at,
                    error: error.as_deref(),
                    next_attempt_at: *next_attempt_at,
                };
                self.happen(*id, &happening).map(|()| Outcome::Done)
            }
            Change::OrderRevocation { selector, record, at } => self.order_revocation(selector, record, *at),
            Change::Mark { revocation, ids, place, at } => {
                self.mark(*revocation, ids, place.as_deref(), *at).map(|count| Outcome::Many { count })
            }
            Change::Hasten { backend, at, limit } => {
                self.hasten(backend, *at, *limit).map(|count| Outcome::Many { count })
            }
            Change::Forget { before, limit } => {
                self.forget(*before, *limit).map(|count| Outcome::Many { count })
            }
            Change::PutObject { kind, name, body, expected, by, at } => {
                let new = NewObject { body, by, at: *at };
                self.put_object(*kind, name, &new, *expected).map(|revision| Outcome::Put { revision })
            }
            Change::RemoveObject { kind, name, expected } => {
                self.remove_object(*kind, name, *expected).map(|()| Outcome::Done)
            }
            Change::Shipped { sink, position } => self.shipped(sink, *position).map(|()| Outcome::Done),
            Change::Prune { below } => self.prune(*below).map(|()| Outcome::Done),
        }
    }

    pub(super) fn record(&mut self, mut record: AuditRecord) -> Result<(), Fault> {
        record.seq = self.tail.frontier.size();
        let line = record.to_line();
        self.tail.latest = self.tail.latest.max(micros(record.time));
        self.statements.append.execute((stored(record.seq), self.tail.latest, &line))?;

        let mut tiles: Vec<Node> = Vec::new();
        self.tail.frontier.append(leaf_hash(&line), |node| tiles.extend(node.is_tile_root().then_some(node)));
        for tile in tiles {
            let mut insert = self.connection.prepare_cached(PUT_TILE)?;
            insert.execute((tile.level, stored(tile.index), tile.hash.as_bytes()))?;
        }
        Ok(())
    }
}

const APPEND: &str = "INSERT INTO audit (seq, at, line) VALUES (?1, ?2, ?3)";
const PUT_TILE: &str = "INSERT INTO tiles (level, place, hash) VALUES (?1, ?2, ?3)";
const PUT_HEAD: &str = "INSERT INTO head (only, frontier, seal, note) VALUES (0, ?1, ?2, coalesce(?3, '')) \
     ON CONFLICT (only) DO UPDATE SET frontier = ?1, seal = ?2, note = coalesce(?3, note)";
const BEAT: &str = "INSERT INTO heartbeat (only, at, weight) VALUES (0, ?1, zeroblob(65536)) \
     ON CONFLICT (only) DO UPDATE SET at = excluded.at, weight = excluded.weight";

#[cfg(test)]
mod tests;
