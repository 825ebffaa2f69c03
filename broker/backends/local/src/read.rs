//! Reading values and versions.

use bursar_core::SecretPath;
use bursar_core::backend::{Fetched, VersionInfo, VersionState};
use bursar_core::secret::SecretData;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::Fault;
use crate::keys::{DataKey, Purpose, Sealed};
use crate::number::Number;

/// The value of one version, or of the newest. A newest version that cannot be read hides the older ones: falling back
/// would bring back the very value that somebody replaced.
pub(crate) fn value(
    connection: &Connection,
    key: &DataKey,
    path: &SecretPath,
    number: Option<Number>,
    now: Timestamp,
) -> Result<Fetched, Fault> {
    let mut statement = connection.prepare_cached(if number.is_some() { NUMBERED } else { NEWEST })?;
    let mut rows = match number {
        Some(number) => statement.query(params![path.as_str(), number])?,
        None => statement.query([path.as_str()])?,
    };
    let row = rows.next()?.ok_or(Fault::NotFound)?;
    let info = info(row)?;
    if !info.is_readable(now) {
        return Err(Fault::NotFound);
    }
    let place = Place { path, number: Number::from_row(row.get(0)?), expires_at: info.expires_at };
    let sealed = Sealed { salt: row.get(4)?, body: row.get(5)? };
    let plain = key.open(place.purpose(), &place.context(), sealed).map_err(|_| Fault::Unreadable)?;
    let (version, expires_at) = (Some(info.version), info.expires_at);
    Ok(Fetched { data: SecretData::from_bytes(&plain)?, version, expires_at })
}

/// All versions of `path`, newest first.
pub(crate) fn versions(connection: &Connection, path: &SecretPath) -> Result<Vec<VersionInfo>, Fault> {
    let mut statement = connection.prepare_cached(VERSIONS)?;
    let mut rows = statement.query([path.as_str()])?;
    let mut versions = Vec::new();
    while let Some(row) = rows.next()? {
        versions.push(info(row)?);
    }
    if versions.is_empty() { Err(Fault::NotFound) } else { Ok(versions) }
}

/// What is known of the newest version.
pub(crate) fn newest(connection: &Connection, path: &SecretPath) -> Result<VersionInfo, Fault> {
    let mut statement = connection.prepare_cached(NEWEST)?;
    statement.query_row([path.as_str()], |row| Ok(info(row))).optional()?.ok_or(Fault::NotFound)?
}

/// Of a row that begins with number, writing, expiry and state.
fn info(row: &Row<'_>) -> Result<VersionInfo, Fault> {
    let time = |micros| Timestamp::from_microsecond(micros).map_err(|_| Fault::Unreadable);
    let state = match row.get(3)? {
        KEPT => VersionState::Kept,
        DELETED => VersionState::Deleted,
        _ => VersionState::Destroyed,
    };
    Ok(VersionInfo {
        version: Number::from_row(row.get(0)?).into(),
        created_at: Some(time(row.get(1)?)?),
        expires_at: row.get::<_, Option<i64>>(2)?.map(time).transpose()?,
        state,
    })
}

/// What a sealed value is bound to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) path: &'a SecretPath,
    pub(crate) number: Number,
    pub(crate) expires_at: Option<Timestamp>,
}

impl Place<'_> {
    /// One of its own where there is an end, so that the end cannot be taken away.
    pub(crate) fn purpose(&self) -> Purpose {
        if self.expires_at.is_some() { Purpose::ExpiringValue } else { Purpose::Value }
    }

    /// Numbers and times have a fixed length, so no two places of a purpose are alike.
    pub(crate) fn context(&self) -> Vec<u8> {
        let end = self.expires_at.map(|end| end.as_microsecond().to_be_bytes());
        let end = end.as_ref().map(<[u8; 8]>::as_slice).unwrap_or_default();
        [self.number.to_be_bytes().as_slice(), end, self.path.as_str().as_bytes()].concat()
    }
}

pub(crate) const KEPT: i64 = 0;
pub(crate) const DELETED: i64 = 1;
pub(crate) const DESTROYED: i64 = 2;

const NEWEST: &str = "SELECT number, created_at, expires_at, state, salt, sealed FROM version WHERE path = ?1 \
     ORDER BY number DESC LIMIT 1";
const NUMBERED: &str =
    "SELECT number, created_at, expires_at, state, salt, sealed FROM version WHERE path = ?1 AND number = ?2";
const VERSIONS: &str = "SELECT number, created_at, expires_at, state FROM version WHERE path = ?1 \
     ORDER BY number DESC";
