//! A lease as a row.

use bursar_core::lease::Lease;
use bursar_core::{BackendName, LeaseId, Reference, SecretPath, SpiffeId, Version};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::FromSqlOwned;

use super::super::codes::{bound_of, state_of};
use super::super::live::Live;
use super::failure::Fault;

/// The columns that [`LeaseRow::of`] reads, in its order; those of [`lease`] come first.
pub(super) const COLUMNS: &str = "id, state, dynamic, issued_at, renewed_at, expires_at, max_expires_at, renewable, \
     ttl_bound, attempts, backend, path, version, principal, node, instance, environment, reason, last_error, revision, \
     slot, next_attempt_at, handle, gone_at, revocation";

/// All that is stored of a lease.
#[derive(Debug, Clone)]
pub(super) struct LeaseRow {
    pub(super) lease: Lease,
    pub(super) revision: i64,
    pub(super) slot: Option<Vec<u8>>,
    pub(super) next_attempt_at: Option<i64>,
    pub(super) handle: Option<String>,
    pub(super) gone_at: Option<i64>,
    pub(super) revocation: Option<i64>,
}

impl LeaseRow {
    pub(super) fn of(row: &Row) -> Result<Self, Fault> {
        Ok(Self {
            lease: lease(row)?,
            revision: get(row, 19)?,
            slot: get(row, 20)?,
            next_attempt_at: get(row, 21)?,
            handle: get(row, 22)?,
            gone_at: get(row, 23)?,
            revocation: get(row, 24)?,
        })
    }

    pub(super) fn live(&self) -> Live {
        let Lease { id, issued_at, expires_at, ttl_bound, renewable, ref reason, .. } = self.lease;
        Live { id, issued_at, expires_at, ttl_bound, renewable, reason: reason.clone() }
    }
}

/// What of a row a repeated read needs.
pub(super) fn live(row: &Row) -> Result<Live, Fault> {
    Ok(Live {
        id: id(row, 0)?,
        issued_at: time(get(row, 3)?)?,
        expires_at: time(get(row, 5)?)?,
        renewable: get(row, 7)?,
        ttl_bound: bound_of(get(row, 8)?).ok_or_else(damaged)?,
        reason: get(row, 17)?,
    })
}

/// Reads a lease out of a row that begins with [`COLUMNS`].
pub(super) fn lease(row: &Row) -> Result<Lease, Fault> {
    let text = |column| get::<&str>(row, column);
    let optional = |column| get::<Option<&str>>(row, column);
    let version =
        optional(12)?.map(|version| Version::from_store(version).map_err(|_| damaged())).transpose()?;
    let node = optional(14)?.map(|node| SpiffeId::parse(node).map_err(|_| damaged())).transpose()?;
    Ok(Lease {
        id: id(row, 0)?,
        state: state_of(get(row, 1)?).ok_or_else(damaged)?,
        dynamic: get(row, 2)?,
        issued_at: time(get(row, 3)?)?,
        renewed_at: time(get(row, 4)?)?,
        expires_at: time(get(row, 5)?)?,
        max_expires_at: get::<Option<i64>>(row, 6)?.map(time).transpose()?,
        renewable: get(row, 7)?,
        ttl_bound: bound_of(get(row, 8)?).ok_or_else(damaged)?,
        attempts: u32::try_from(get::<i64>(row, 9)?).map_err(|_| damaged())?,
        reference: Reference {
            backend: BackendName::parse(text(10)?).map_err(|_| damaged())?,
            path: SecretPath::from_store(text(11)?).map_err(|_| damaged())?,
            field: None,
            version,
        },
        principal: SpiffeId::parse(text(13)?).map_err(|_| damaged())?,
        node,
        instance: get(row, 15)?,
        environment: get(row, 16)?,
        reason: get(row, 17)?,
        last_error: get(row, 18)?,
    })
}

pub(super) fn id(row: &Row, column: usize) -> Result<LeaseId, Fault> {
    <[u8; 16]>::try_from(get::<&[u8]>(row, column)?).map(LeaseId::from_bytes).map_err(|_| damaged())
}

pub(super) fn get<'row, T: tokio_postgres::types::FromSql<'row>>(
    row: &'row Row,
    column: usize,
) -> Result<T, Fault> {
    row.try_get(column).map_err(|_| damaged())
}

/// The first column of every row.
pub(super) fn first_column<T: FromSqlOwned>(rows: &[Row]) -> Result<Vec<T>, Fault> {
    rows.iter().map(|row| get(row, 0)).collect()
}

/// Reads a time column.
pub(super) fn time(micros: i64) -> Result<Timestamp, Fault> {
    Timestamp::from_microsecond(micros).map_err(|_| damaged())
}

pub(super) fn damaged() -> Fault {
    Fault::Damaged { table: "bursar.leases" }
}
