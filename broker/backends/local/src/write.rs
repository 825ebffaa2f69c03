//! Writing versions, marking them deleted and destroying them.

use bursar_core::backend::PutTerms;
use bursar_core::{SecretPath, Version};
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use zeroize::Zeroizing;

use crate::error::Fault;
use crate::keys::DataKey;
use crate::number::Number;
use crate::read::{DELETED, DESTROYED, KEPT, Place};

/// A version to write.
pub(crate) struct NewVersion {
    pub(crate) path: SecretPath,
    /// As [`SecretData::to_bytes`](bursar_core::secret::SecretData::to_bytes) wrote it.
    pub(crate) plain: Zeroizing<Vec<u8>>,
    /// Whose `expected` counts deleted versions, and destroyed ones while there is another.
    pub(crate) terms: PutTerms,
    pub(crate) created_at: Timestamp,
    /// How many versions stay, this one included.
    pub(crate) kept: u32,
}

/// Writes a version and destroys those that it pushes out, in one transaction.
pub(crate) fn put(connection: &mut Connection, key: &DataKey, new: NewVersion) -> Result<Version, Fault> {
    let NewVersion { path, plain, terms, created_at, kept } = new;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let newest = newest(&transaction, &path)?;
    if !as_expected(&transaction, &path, newest, terms.expected)? {
        return Err(Fault::Conflict);
    }
    let number = Number::following(newest).ok_or(Fault::Unreadable)?;
    // To the microsecond, as the row has it.
    let end = terms.expires_at.map(Timestamp::as_microsecond);
    let expires_at = end.map(Timestamp::from_microsecond).transpose().map_err(|_| Fault::Unreadable)?;
    let place = Place { path: &path, number, expires_at };
    let sealed = key.seal(place.purpose(), &place.context(), plain)?;
    let path = path.as_str();
    transaction.prepare_cached(INSERT)?.execute(params![
        path,
        number,
        created_at.as_microsecond(),
        end,
        sealed.salt,
        sealed.body
    ])?;
    transaction.prepare_cached(PUSH_OUT)?.execute(params![path, number.before(kept)])?;
    transaction.commit()?;
    Ok(number.into())
}

/// Marks `versions` deleted, or the newest when empty: all of them, or none when one is not there. Marking what is marked
/// already is success.
pub(crate) fn delete(
    connection: &mut Connection,
    path: &SecretPath,
    versions: &[Version],
) -> Result<(), Fault> {
    mark(connection, path, versions, DELETED)
}

/// The same the other way round.
pub(crate) fn undelete(
    connection: &mut Connection,
    path: &SecretPath,
    versions: &[Version],
) -> Result<(), Fault> {
    mark(connection, path, versions, KEPT)
}

/// Destroys `versions`, all of them or none when one was never there; or all that there is of the secret when empty.
pub(crate) fn destroy(
    connection: &mut Connection,
    path: &SecretPath,
    versions: &[Version],
) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if versions.is_empty() {
        if transaction.prepare_cached(DESTROY_ALL)?.execute(params![path.as_str(), DESTROYED])? == 0 {
            return Err(Fault::NotFound);
        }
        transaction.prepare_cached(UNLABEL)?.execute([path.as_str()])?;
    }
    for version in versions {
        let number = Number::parse(version).ok_or(Fault::NotFound)?;
        if transaction.prepare_cached(DESTROY)?.execute(params![path.as_str(), number, DESTROYED])? == 0 {
            return Err(Fault::NotFound);
        }
    }
    Ok(transaction.commit()?)
}

fn mark(
    connection: &mut Connection,
    path: &SecretPath,
    versions: &[Version],
    state: i64,
) -> Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let numbers = if versions.is_empty() {
        newest(&transaction, path)?.map(|number| vec![number])
    } else {
        versions.iter().map(Number::parse).collect()
    };
    for number in numbers.ok_or(Fault::NotFound)? {
        if transaction.prepare_cached(MARK)?.execute(params![path.as_str(), number, state, DESTROYED])? == 0 {
            return Err(Fault::NotFound);
        }
    }
    Ok(transaction.commit()?)
}

/// Where everything is destroyed there is nothing to be overwritten, so that counts as none too.
fn as_expected(
    transaction: &Transaction<'_>,
    path: &SecretPath,
    newest: Option<Number>,
    expected: Option<u64>,
) -> Result<bool, Fault> {
    match expected {
        None => Ok(true),
        Some(0) => Ok(!transaction.prepare_cached(ANY)?.exists([path.as_str()])?),
        Some(expected) => Ok(i64::try_from(expected) == Ok(Number::as_expected(newest))),
    }
}

fn newest(transaction: &Transaction<'_>, path: &SecretPath) -> Result<Option<Number>, Fault> {
    let number = |number: Option<i64>| number.map(Number::from_row);
    Ok(transaction.prepare_cached(NEWEST)?.query_row([path.as_str()], |row| row.get(0)).map(number)?)
}

const NEWEST: &str = "SELECT max(number) FROM version WHERE path = ?1";
const ANY: &str = "SELECT 1 FROM version WHERE path = ?1 AND state < 2";
const INSERT: &str = "INSERT INTO version (path, number, created_at, expires_at, salt, sealed) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const PUSH_OUT: &str = "DELETE FROM version WHERE path = ?1 AND number <= ?2";
const MARK: &str = "UPDATE version SET state = ?3 WHERE path = ?1 AND number = ?2 AND state <> ?4";
const DESTROY: &str =
    "UPDATE version SET state = ?3, salt = x'', sealed = x'' WHERE path = ?1 AND number = ?2";
const DESTROY_ALL: &str = "UPDATE version SET state = ?2, salt = x'', sealed = x'' WHERE path = ?1";
const UNLABEL: &str = "DELETE FROM label WHERE path = ?1";
