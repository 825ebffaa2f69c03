//! What people wrote on a secret: one sealed row for each secret that has any, as JSON.

use bursar_core::SecretPath;
use bursar_core::backend::{LabelChange, Labels};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use zeroize::Zeroizing;

use crate::error::Fault;
use crate::keys::{DataKey, Purpose, Sealed};

/// The labels of a secret; of one that is not there, none.
pub(crate) fn read(connection: &Connection, key: &DataKey, path: &SecretPath) -> Result<Labels, Fault> {
    let sealed = connection
        .prepare_cached(READ)?
        .query_row([path.as_str()], |row| Ok(Sealed { salt: row.get(0)?, body: row.get(1)? }));
    let Some(sealed) = sealed.optional()? else { return Ok(Labels::new()) };
    let plain = key.open(Purpose::Labels, path.as_str().as_bytes(), sealed);
    serde_json::from_slice(&plain.map_err(|_| Fault::Unreadable)?).map_err(|_| Fault::Unreadable)
}

/// Changes the labels of a secret that has a version.
pub(crate) fn change(
    connection: &mut Connection,
    key: &DataKey,
    path: &SecretPath,
    change: LabelChange,
) -> Result<Labels, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !transaction.prepare_cached(ANY)?.exists([path.as_str()])? {
        return Err(Fault::NotFound);
    }
    let mut labels = read(&transaction, key, path)?;
    labels.retain(|name, _| !change.remove.contains(name));
    labels.extend(change.set);
    if labels.len() > MOST {
        return Err(Fault::TooLarge);
    }
    let plain = Zeroizing::new(serde_json::to_vec(&labels).map_err(|_| Fault::Unreadable)?);
    let sealed = key.seal(Purpose::Labels, path.as_str().as_bytes(), plain)?;
    transaction.prepare_cached(WRITE)?.execute(params![path.as_str(), sealed.salt, sealed.body])?;
    transaction.commit()?;
    Ok(labels)
}

const READ: &str = "SELECT salt, sealed FROM label WHERE path = ?1";
const ANY: &str = "SELECT 1 FROM version WHERE path = ?1 AND state < 2";
const WRITE: &str = "INSERT OR REPLACE INTO label (path, salt, sealed) VALUES (?1, ?2, ?3)";
/// As many as Vault takes.
const MOST: usize = 64;
