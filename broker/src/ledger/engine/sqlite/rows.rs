//! A lease as a row.

use bursar_core::lease::Lease;
use bursar_core::{BackendName, LeaseId, LeaseState, Reference, SecretPath, SpiffeId, Version};
use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::{FromSql, Type};

use super::super::codes::{bound_of, state_of};

/// The columns that [`lease`] reads, in its order.
pub(super) const LEASE_COLUMNS: &str = "id, state, dynamic, issued_at, renewed_at, expires_at, max_expires_at, \
     renewable, ttl_bound, attempts, backend, path, version, principal, node, instance, environment, reason, last_error";

/// Reads [`LEASE_COLUMNS`], the first of which is the row's column `first`.
pub(super) fn lease(row: &Row<'_>, first: usize) -> rusqlite::Result<Lease> {
    let mut column = Columns { row, next: first };
    let id = LeaseId::from_bytes(column.take()?);
    let state = column.take_as(state_of)?;
    let dynamic = column.take()?;
    let issued_at = column.take_as(time)?;
    let renewed_at = column.take_as(time)?;
    let expires_at = column.take_as(time)?;
    let max_expires_at = column.take_as(optional(time))?;
    let renewable = column.take()?;
    let ttl_bound = column.take_as(bound_of)?;
    let attempts = column.take()?;
    let reference = Reference {
        backend: column.take_as(|name: String| BackendName::parse(&name).ok())?,
        path: column.take_as(|path: String| SecretPath::from_store(&path).ok())?,
        field: None,
        version: column.take_as(optional(|version: String| Version::from_store(&version).ok()))?,
    };
    Ok(Lease {
        id,
        reference,
        principal: column.take_as(|id: String| SpiffeId::parse(&id).ok())?,
        node: column.take_as(optional(|id: String| SpiffeId::parse(&id).ok()))?,
        instance: column.take()?,
        environment: column.take()?,
        state,
        dynamic,
        issued_at,
        renewed_at,
        expires_at,
        max_expires_at,
        renewable,
        ttl_bound,
        attempts,
        reason: column.take()?,
        last_error: column.take()?,
    })
}

/// Reads a time column.
pub(super) fn time(micros: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(micros).ok()
}

/// What a column held is not what was written there.
pub(super) fn damaged(column: usize, found: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, found, "not a value of this column".into())
}

struct Columns<'row> {
    row: &'row Row<'row>,
    next: usize,
}

impl Columns<'_> {
    fn take<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        let column = self.next;
        self.next += 1;
        self.row.get(column)
    }

    fn take_as<T: FromSql, U>(&mut self, read: impl FnOnce(T) -> Option<U>) -> rusqlite::Result<U> {
        let column = self.next;
        let found = self.row.get_ref(column)?.data_type();
        let value = self.take()?;
        read(value).ok_or_else(|| damaged(column, found))
    }
}

/// Reads a column that may be null by `read`.
fn optional<T, U>(read: impl FnOnce(T) -> Option<U>) -> impl FnOnce(Option<T>) -> Option<Option<U>> {
    |value| match value {
        Some(value) => read(value).map(Some),
        None => Some(None),
    }
}

/// Reads the state column of a row that has it at `column`.
pub(super) fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<LeaseState> {
    state_of(row.get(column)?).ok_or_else(|| damaged(column, Type::Integer))
}
