//! What the database holds, and whether a file is one of ours.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::keys::StoreId;

/// What a file says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// No table yet: new, or its maker died before it was complete.
    Empty,
    Current,
    /// Of an earlier release, which [`migrate`] brings up to date.
    Older,
    Newer {
        found: i64,
    },
    Foreign,
}

pub(crate) fn state(connection: &Connection) -> rusqlite::Result<State> {
    let application: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application, version, objects) {
        (0, 0, 0) => State::Empty,
        (APPLICATION, VERSION, _) => State::Current,
        (APPLICATION, FIRST, _) => State::Older,
        (APPLICATION, found, _) if found > VERSION => State::Newer { found },
        _ => State::Foreign,
    })
}

/// Makes the tables, unless another process was faster, in which case `row` is dropped.
pub(crate) fn create(connection: &mut Connection, row: &StoreRow) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if state(&transaction)? == State::Empty {
        transaction.execute_batch(STORE)?;
        transaction.execute_batch(SECRETS)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.execute(
            "INSERT INTO store (one, id, wrapped_key, proof_salt, proof) VALUES (1, ?1, ?2, ?3, ?4)",
            params![row.id.0, row.wrapped_key, row.proof_salt, row.proof],
        )?;
    }
    transaction.commit()
}

/// Brings the tables of the first schema up to date, all of it or nothing. What is sealed stays as it is.
pub(crate) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if state(&transaction)? == State::Older {
        transaction.execute_batch("ALTER TABLE version RENAME TO first")?;
        transaction.execute_batch(SECRETS)?;
        transaction.execute_batch(
            "INSERT INTO version (path, number, created_at, state, salt, sealed)
                 SELECT path, number, created_at, deleted, salt, sealed FROM first;
             DROP TABLE first",
        )?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

/// The one row of table `store`.
#[derive(Debug)]
pub(crate) struct StoreRow {
    pub(crate) id: StoreId,
    pub(crate) wrapped_key: Vec<u8>,
    pub(crate) proof_salt: [u8; 32],
    pub(crate) proof: Vec<u8>,
}

impl StoreRow {
    pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        connection.query_row("SELECT id, wrapped_key, proof_salt, proof FROM store", [], |row| {
            Ok(Self {
                id: StoreId(row.get(0)?),
                wrapped_key: row.get(1)?,
                proof_salt: row.get(2)?,
                proof: row.get(3)?,
            })
        })
    }

    /// Replaces the wrapped key within `transaction`.
    pub(crate) fn replace_key(transaction: &Transaction<'_>, wrapped: &[u8]) -> rusqlite::Result<()> {
        transaction.execute("UPDATE store SET wrapped_key = ?1", [wrapped]).map(drop)
    }
}

const STORE: &str = "
    CREATE TABLE store (
        one         INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
        id          BLOB    NOT NULL,
        wrapped_key BLOB    NOT NULL,
        proof_salt  BLOB    NOT NULL,
        proof       BLOB    NOT NULL
    ) STRICT;
";

/// The key of `version` is also the order of listing: paths compare as bytes. What is destroyed keeps its number, so that
/// it is not given out again, and nothing else; a list passes it over.
const SECRETS: &str = "
    CREATE TABLE version (
        path       TEXT    NOT NULL COLLATE BINARY,
        number     INTEGER NOT NULL CHECK (number > 0),
        created_at INTEGER NOT NULL, -- microseconds since 1970, UTC
        expires_at INTEGER,          -- the same
        state      INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2)), -- kept, deleted, destroyed
        salt       BLOB    NOT NULL,
        sealed     BLOB    NOT NULL, -- last, so that reading the others skips its pages
        PRIMARY KEY (path, number)
    ) STRICT;
    CREATE INDEX listed ON version (path) WHERE state < 2;
    CREATE TABLE label (
        path   TEXT NOT NULL PRIMARY KEY COLLATE BINARY,
        salt   BLOB NOT NULL,
        sealed BLOB NOT NULL
    ) STRICT;
";

/// `BSRL`, in the header of the file.
const APPLICATION: i64 = 0x4253_524c;
/// The schema that this program writes, and the newest that it reads.
pub(crate) const VERSION: i64 = 2;
/// Without expiry, destruction and labels.
const FIRST: i64 = 1;
