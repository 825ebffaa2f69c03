//! Opening a store, and binding it to another key-encryption key.
//!
//! Nothing is written to a file before it is known to be ours or empty, and nothing to one of ours before the key
//! opened it: a wrong key or a wrong path changes no byte.

use std::path::Path;

use bursar_core::Secret;
use ring::error::Unspecified;
use rusqlite::{Connection, TransactionBehavior};
use zeroize::Zeroizing;

use crate::error::{Fault, OpenError};
use crate::file;
use crate::keys::{DataKey, KEY_LENGTH, Purpose, Sealed};
use crate::schema::{self, State, StoreRow};

/// Opens the store at `path`, or makes it, and answers with its writing connection and its data key. One that is still
/// bound to `previous` is bound to `kek`.
pub(crate) fn open(
    path: &Path,
    kek: &Secret,
    previous: Option<&Secret>,
) -> Result<(Connection, DataKey), OpenError> {
    check_length(path, kek)?;
    previous.map_or(Ok(()), |previous| check_length(path, previous))?;
    file::prepare(path)?;
    let _turn = file::turn(path)?;
    let database = |source| OpenError::database(path, source);
    let mut connection = file::connect(path).map_err(database)?;
    match schema::state(&connection).map_err(database)? {
        State::Current | State::Older => {}
        State::Newer { found } => {
            return Err(OpenError::NewerSchema { path: path.to_owned(), found, known: schema::VERSION });
        }
        State::Foreign => return Err(OpenError::Foreign { path: path.to_owned() }),
        State::Empty => {
            let row = new_row(kek).map_err(|_| OpenError::NoRandomness { path: path.to_owned() })?;
            schema::create(&mut connection, &row).map_err(database)?;
        }
    }
    let row = StoreRow::read(&connection).map_err(database)?;
    let key = match (DataKey::unwrap(kek, row.id, &row.wrapped_key), previous) {
        (Ok(key), _) => key,
        (Err(_), Some(previous)) => {
            let key = DataKey::unwrap(previous, row.id, &row.wrapped_key)
                .map_err(|_| OpenError::WrongKey { path: path.to_owned() })?;
            rewrap(&mut connection, path, &key, kek)?;
            key
        }
        (Err(_), None) => return Err(OpenError::WrongKey { path: path.to_owned() }),
    };
    schema::migrate(&mut connection).map_err(database)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(database)?;
    Ok((connection, key))
}

/// Wraps `key` by `kek`, in place of what wrapped it before, and empties the write-ahead log of the old wrapping.
fn rewrap(connection: &mut Connection, path: &Path, key: &DataKey, kek: &Secret) -> Result<(), OpenError> {
    let wrapped = key.wrap(kek).map_err(|_| OpenError::NoRandomness { path: path.to_owned() })?;
    let replace = |connection: &mut Connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        StoreRow::replace_key(&transaction, &wrapped)?;
        transaction.commit()?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))
    };
    if replace(connection).map_err(|source| OpenError::database(path, source))? {
        tracing::warn!("the old wrapped key stays in the write-ahead log until its next checkpoint");
    }
    tracing::info!(store = %path.display(), "the store's key is wrapped by the new seal key");
    Ok(())
}

/// Whether `key` is still the key of the file behind `connection`.
pub(crate) fn prove(connection: &Connection, key: &DataKey) -> Result<(), Fault> {
    let row = StoreRow::read(connection)?;
    let proof = Sealed { salt: row.proof_salt, body: row.proof };
    key.open(Purpose::Proof, b"", proof).map(drop).map_err(|_| Fault::Sealed)
}

fn check_length(path: &Path, kek: &Secret) -> Result<(), OpenError> {
    if kek.len() == KEY_LENGTH {
        return Ok(());
    }
    Err(OpenError::KeyLength { path: path.to_owned(), length: kek.len() })
}

fn new_row(kek: &Secret) -> Result<StoreRow, Unspecified> {
    let key = DataKey::generate()?;
    let proof = key.seal(Purpose::Proof, b"", Zeroizing::new(Vec::new()))?;
    Ok(StoreRow { id: key.store(), wrapped_key: key.wrap(kek)?, proof_salt: proof.salt, proof: proof.body })
}
