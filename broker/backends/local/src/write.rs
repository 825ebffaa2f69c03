//! Writing versions and marking them deleted.

use bursar_core::{SecretPath, Version};
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use zeroize::Zeroizing;

use crate::error::Fault;
use crate::keys::{DataKey, Purpose};
use crate::number::Number;
use crate::read::place;

/// A version to write.
pub(crate) struct NewVersion {
    pub(crate) path: SecretPath,
    /// As [`SecretData::to_bytes`](bursar_core::secret::SecretData::to_bytes) wrote it.
    pub(crate) plain: Zeroizing<Vec<u8>>,
    /// The version that must be the newest, deleted or not; 0 when there must be none.
    pub(crate) expected: Option<u64>,
    pub(crate) created_at: Timestamp,
    /// How many versions stay, this one included.
    pub(crate) kept: u32,
}

/// Writes a version and destroys those that it pushes out, in one transaction.
pub(crate) fn put(connection: &mut Connection, key: &DataKey, new: NewVersion) -> Result<Version, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let newest = newest(&transaction, &new.path)?;
    if new.expected.is_some_and(|expected| i64::try_from(expected) != Ok(Number::as_expected(newest))) {
        return Err(Fault::Conflict);
    }
    let number = Number::following(newest).ok_or(Fault::Unreadable)?;
    let sealed = key.seal(Purpose::Value, &place(&new.path, number), new.plain)?;
    let path = new.path.as_str();
    transaction.prepare_cached(INSERT)?.execute(params![
        path,
        number,
        new.created_at.as_microsecond(),
        sealed.salt,
        sealed.body
    ])?;
    transaction.prepare_cached(DESTROY)?.execute(params![path, number.before(new.kept)])?;
    transaction.commit()?;
    Ok(number.into())
}

/// Sets or takes away the deletion mark of `versions`, or of the newest when empty: all of them, or none when one is
/// not there. Marking what is marked already is success.
pub(crate) fn mark(
    connection: &mut Connection,
    path: &SecretPath,
    versions: &[Version],
    deleted: bool,
) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let numbers = if versions.is_empty() {
        newest(&transaction, path)?.map(|number| vec![number])
    } else {
        versions.iter().map(Number::parse).collect()
    };
    for number in numbers.ok_or(Fault::NotFound)? {
        if transaction.prepare_cached(MARK)?.execute(params![path.as_str(), number, deleted])? == 0 {
            return Err(Fault::NotFound);
        }
    }
    Ok(transaction.commit()?)
}

fn newest(transaction: &Transaction<'_>, path: &SecretPath) -> Result<Option<Number>, Fault> {
    let number = |number: Option<i64>| number.map(Number::from_row);
    Ok(transaction.prepare_cached(NEWEST)?.query_row([path.as_str()], |row| row.get(0)).map(number)?)
}

const NEWEST: &str = "SELECT max(number) FROM version WHERE path = ?1";
const INSERT: &str =
    "INSERT INTO version (path, number, created_at, salt, sealed) VALUES (?1, ?2, ?3, ?4, ?5)";
const DESTROY: &str = "DELETE FROM version WHERE path = ?1 AND number <= ?2";
const MARK: &str = "UPDATE version SET deleted = ?3 WHERE path = ?1 AND number = ?2";
