//! Reading values and versions.

use bursar_core::SecretPath;
use bursar_core::backend::{Fetched, VersionInfo};
use bursar_core::secret::SecretData;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::Fault;
use crate::keys::{DataKey, Purpose, Sealed};
use crate::number::Number;

/// The value of one version, or of the newest. A deleted newest version hides the older ones: falling back would bring
/// back the very value that somebody replaced.
pub(crate) fn value(
    connection: &Connection,
    key: &DataKey,
    path: &SecretPath,
    number: Option<Number>,
) -> Result<Fetched, Fault> {
    let sealed = |row: &Row<'_>| {
        let sealed = Sealed { salt: row.get(2)?, body: row.get(3)? };
        Ok((Number::from_row(row.get(0)?), row.get::<_, bool>(1)?, sealed))
    };
    let found = match number {
        Some(number) => {
            connection.prepare_cached(NUMBERED)?.query_row(params![path.as_str(), number], sealed)
        }
        None => connection.prepare_cached(NEWEST)?.query_row([path.as_str()], sealed),
    };
    let (number, deleted, sealed) = found.optional()?.ok_or(Fault::NotFound)?;
    if deleted {
        return Err(Fault::NotFound);
    }
    let plain = key.open(Purpose::Value, &place(path, number), sealed).map_err(|_| Fault::Unreadable)?;
    Ok(Fetched { data: SecretData::from_bytes(&plain)?, version: Some(number.into()) })
}

/// All versions of `path`, newest first.
pub(crate) fn versions(connection: &Connection, path: &SecretPath) -> Result<Vec<VersionInfo>, Fault> {
    let mut statement = connection.prepare_cached(VERSIONS)?;
    let mut rows = statement.query([path.as_str()])?;
    let mut versions = Vec::new();
    while let Some(row) = rows.next()? {
        versions.push(VersionInfo {
            version: Number::from_row(row.get(0)?).into(),
            created_at: Some(Timestamp::from_microsecond(row.get(1)?).map_err(|_| Fault::Unreadable)?),
            deleted: row.get(2)?,
        });
    }
    if versions.is_empty() { Err(Fault::NotFound) } else { Ok(versions) }
}

/// What a sealed value is bound to: `path` and `number`. The number has a fixed length, so no two places are alike.
pub(crate) fn place(path: &SecretPath, number: Number) -> Vec<u8> {
    [number.to_be_bytes().as_slice(), path.as_str().as_bytes()].concat()
}

const NEWEST: &str =
    "SELECT number, deleted, salt, sealed FROM version WHERE path = ?1 ORDER BY number DESC LIMIT 1";
const NUMBERED: &str = "SELECT number, deleted, salt, sealed FROM version WHERE path = ?1 AND number = ?2";
const VERSIONS: &str = "SELECT number, created_at, deleted FROM version WHERE path = ?1 ORDER BY number DESC";
