//! Named bytes: environments, policies, nodes, join tokens, sealed keys. Each write is a check-and-set where the caller
//! says which revision it saw.

use bursar_core::SpiffeId;
use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::codes::{at_most, kind_code, micros, read, stored};
use super::super::page_of;
use super::super::revisions::Revisions;
use super::batch::{Batch, Fault};
use super::rows::{damaged, time};
use crate::ledger::entry::{Object, ObjectKind};
use crate::ledger::error::LedgerError;
use crate::ledger::query::{Page, Paged};

/// What is to be written.
pub(super) struct NewObject<'entry> {
    pub(super) body: &'entry [u8],
    pub(super) by: &'entry SpiffeId,
    pub(super) at: Timestamp,
}

impl Batch<'_> {
    /// Answers the new revision.
    pub(super) fn put_object(
        &mut self,
        kind: ObjectKind,
        name: &str,
        new: &NewObject<'_>,
        expected: Option<u64>,
    ) -> Result<u64, Fault> {
        let revision = self.revisions(kind, name)?.next(expected).map_err(Fault::Refused)?;
        self.keep(kind, name)?;
        let mut put = self.connection.prepare_cached(PUT)?;
        put.execute(params![
            kind_code(kind),
            name,
            stored(revision),
            new.body,
            micros(new.at),
            new.by.as_str()
        ])?;
        Ok(revision)
    }

    pub(super) fn remove_object(
        &mut self,
        kind: ObjectKind,
        name: &str,
        expected: Option<u64>,
    ) -> Result<(), Fault> {
        self.revisions(kind, name)?.remove(kind, name, expected).map_err(Fault::Refused)?;
        self.keep(kind, name)?;
        self.connection.prepare_cached(REMOVE)?.execute((kind_code(kind), name))?;
        Ok(())
    }

    /// The history is looked into where there is no object.
    fn revisions(&self, kind: ObjectKind, name: &str) -> Result<Revisions, Fault> {
        let current = self.revision(REVISION, kind, name)?;
        let last = if current > 0 { current } else { self.revision(LAST_REVISION, kind, name)? };
        Ok(Revisions { current, last })
    }

    /// 0 where there is none.
    fn revision(&self, query: &str, kind: ObjectKind, name: &str) -> Result<u64, Fault> {
        let mut select = self.connection.prepare_cached(query)?;
        let found: Option<Option<i64>> =
            select.query_row((kind_code(kind), name), |row| row.get(0)).optional()?;
        Ok(read(found.flatten().unwrap_or_default()))
    }

    /// Moves the revision that is about to go into the history.
    fn keep(&self, kind: ObjectKind, name: &str) -> Result<(), Fault> {
        if kind.has_history() {
            self.connection.prepare_cached(KEEP)?.execute((kind_code(kind), name))?;
        }
        Ok(())
    }
}

/// One object as it is now.
pub(super) fn object(
    connection: &Connection,
    kind: ObjectKind,
    name: &str,
) -> Result<Option<Object>, LedgerError> {
    let mut select = connection.prepare_cached(GET)?;
    Ok(select.query_row((kind_code(kind), name), read_object).optional()?)
}

/// The objects of a kind in order of name.
pub(super) fn objects(
    connection: &Connection,
    kind: ObjectKind,
    page: &Page,
) -> Result<Paged<Object>, LedgerError> {
    let after = page.token.as_deref().unwrap_or_default();
    let mut select = connection.prepare_cached(LIST)?;
    let found = select.query_map((kind_code(kind), after, at_most(page.limit() + 1)), read_object)?;
    Ok(page_of(found.collect::<Result<_, _>>()?, page, |object: &Object| object.name.clone()))
}

/// The revisions of an object that were replaced or removed, newest first.
pub(super) fn object_history(
    connection: &Connection,
    kind: ObjectKind,
    name: &str,
    page: &Page,
) -> Result<Paged<Object>, LedgerError> {
    let before = match &page.token {
        Some(token) => token.parse().map_err(|_| LedgerError::PageToken)?,
        None => i64::MAX,
    };
    let mut select = connection.prepare_cached(HISTORY)?;
    let found = select.query_map((kind_code(kind), name, before, at_most(page.limit() + 1)), read_object)?;
    Ok(page_of(found.collect::<Result<_, _>>()?, page, |object: &Object| object.revision.to_string()))
}

fn read_object(row: &Row<'_>) -> rusqlite::Result<Object> {
    let by: String = row.get(4)?;
    Ok(Object {
        name: row.get(0)?,
        revision: read(row.get(1)?),
        body: row.get(2)?,
        updated_at: time(row.get(3)?).ok_or_else(|| damaged(3, Type::Integer))?,
        updated_by: SpiffeId::parse(&by).map_err(|_| damaged(4, Type::Text))?,
    })
}

const REVISION: &str = "SELECT revision FROM objects WHERE kind = ?1 AND name = ?2";
const LAST_REVISION: &str = "SELECT max(revision) FROM object_history WHERE kind = ?1 AND name = ?2";
const PUT: &str = "INSERT OR REPLACE INTO objects (kind, name, revision, body, updated_at, updated_by) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const REMOVE: &str = "DELETE FROM objects WHERE kind = ?1 AND name = ?2";
const KEEP: &str = "INSERT INTO object_history (kind, name, revision, body, updated_at, updated_by) \
     SELECT kind, name, revision, body, updated_at, updated_by FROM objects WHERE kind = ?1 AND name = ?2";
const GET: &str =
    "SELECT name, revision, body, updated_at, updated_by FROM objects WHERE kind = ?1 AND name = ?2";
const LIST: &str = "SELECT name, revision, body, updated_at, updated_by FROM objects \
     WHERE kind = ?1 AND name > ?2 ORDER BY name LIMIT ?3";
const HISTORY: &str = "SELECT name, revision, body, updated_at, updated_by FROM object_history \
     WHERE kind = ?1 AND name = ?2 AND revision < ?3 ORDER BY revision DESC LIMIT ?4";
