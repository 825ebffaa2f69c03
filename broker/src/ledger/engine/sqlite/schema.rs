//! The tables, and their version.
//!
//! What the hot path writes is small and mostly appended: a lease goes to the end of its table because ids sort by time,
//! a record to the end of the log. An index in another order costs each new lease a page of its own, written to the log
//! and copied to the database; with one each for path, principal, node and environment, a lease cost twice what it costs
//! now. So:
//!
//! - `lease_slot` alone lies scattered (`slot.rs`): it finds a lease by whom it belongs to;
//! - `lease_due` is in order of the minute (2^26 microseconds) in which leases end, and of ids within it: new leases that
//!   end in one minute share a page, and of those that are due only the running minute's are looked through;
//! - `lease_held` repeats in order of id what leases are listed and revoked by, and is walked for it: a million leases in
//!   about half a second;
//! - `lease_gone` grows at its end, as leases go; it finds those that are to be forgotten;
//! - the others are empty but for dynamic leases.
//!
//! How to read the columns:
//!
//! - Times are microseconds since 1970, UTC. Ids are their 16 bytes. Codes are those of `codes.rs`.
//! - `audit.line` is the leaf of the transparency log, byte for byte; `audit.at` never decreases along `seq`.
//! - `tiles` has the stored inner nodes of the Merkle tree, `head` the tree's right edge over all of `audit`, sealed by the
//!   broker's key. They change in the transaction of the records, so a log that lost its tail contradicts its head.
//!   `head.note` is the newest checkpoint that was stored: signed each second or so, over all of `audit` or the beginning.
//! - `leaves` has the leaf hashes of pruned records, 256 to a row, in the place of the rows of `audit` that went.
//! - `sinks` has the number of the first record that a sink has not confirmed.
//! - `revocations` has the bulk revocations: `record` is the audit record that each of its leases gets, `newest` the id of
//!   the newest lease when it was ordered, `place` how far the walk to its leases got.
//! - `credentials` has the sealed credentials of active dynamic leases, each under the slot by which a repeated read finds
//!   it: apart from `leases`, whose rows stay small.
//! - `lease_counts` and `holders` are sums over `leases`, kept in the transaction of each change.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::failure;
use crate::ledger::error::OpenError;

/// The schema that the database has: 0 when it is empty. Changes nothing: it may be somebody else's.
pub(super) fn version(connection: &Connection, path: &Path) -> Result<i64, OpenError> {
    let failed = |error| failure::on_open(path, error);
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed);
    if number("schema_version")? == 0 {
        return Ok(0);
    }
    if number("application_id")? != APPLICATION_ID {
        return Err(OpenError::NotALedger { place: path.display().to_string() });
    }
    let found = number("user_version")?;
    if found > VERSION {
        return Err(OpenError::NewerSchema { place: path.display().to_string(), found, supported: VERSION });
    }
    Ok(found)
}

/// Takes a database of version `from` to the present one, in one transaction. A new ledger goes the same way from 0, so
/// that there is no other shape than that of the steps.
pub(super) fn bring_up(connection: &Connection, from: i64) -> rusqlite::Result<()> {
    let done = usize::try_from(from).unwrap_or_default();
    let Some(steps) = STEPS.get(done..).filter(|steps| !steps.is_empty()) else { return Ok(()) };
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    if done > 0 {
        tracing::info!(from, to = VERSION, "the ledger's schema was brought up to date");
    }
    Ok(())
}

/// What leads from each version to the next. A step that was released is never changed: another one follows it.
const STEPS: [&str; 4] = [TABLES, SECOND, THIRD, FOURTH];

/// The schema that this broker writes.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// `BRSR`: tells a ledger from any other database.
const APPLICATION_ID: i64 = 0x4252_5352;

/// The first version.
const TABLES: &str = "
CREATE TABLE leases (
    id              BLOB    NOT NULL PRIMARY KEY,
    state           INTEGER NOT NULL,
    dynamic         INTEGER NOT NULL,
    slot            BLOB,
    issued_at       INTEGER NOT NULL,
    renewed_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    max_expires_at  INTEGER,
    next_attempt_at INTEGER,
    renewable       INTEGER NOT NULL,
    ttl_bound       INTEGER NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    backend         TEXT    NOT NULL,
    path            TEXT    NOT NULL,
    version         TEXT,
    principal       TEXT    NOT NULL,
    node            TEXT,
    instance        TEXT    NOT NULL,
    environment     TEXT,
    reason          TEXT,
    last_error      TEXT,
    handle          TEXT
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX lease_slot ON leases (slot) WHERE slot IS NOT NULL;
CREATE INDEX lease_held ON leases (id, slot, backend, path, environment, node) WHERE slot IS NOT NULL;
CREATE INDEX lease_due ON leases (expires_at >> 26, id, expires_at) WHERE state = 1;
CREATE INDEX lease_to_revoke ON leases (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX lease_intents ON leases (issued_at) WHERE state = 0;
CREATE INDEX lease_by_handle ON leases (backend, handle) WHERE handle IS NOT NULL;

CREATE TABLE lease_counts (
    state  INTEGER NOT NULL PRIMARY KEY,
    leases INTEGER NOT NULL
) STRICT;
CREATE TABLE holders (
    kind   INTEGER NOT NULL,
    name   TEXT    NOT NULL,
    leases INTEGER NOT NULL,
    UNIQUE (kind, name)
) STRICT;

CREATE TABLE objects (
    kind       INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    body       BLOB    NOT NULL,
    updated_at INTEGER NOT NULL,
    updated_by TEXT    NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE object_history (
    kind       INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    body       BLOB    NOT NULL,
    updated_at INTEGER NOT NULL,
    updated_by TEXT    NOT NULL,
    PRIMARY KEY (kind, name, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    seq  INTEGER NOT NULL PRIMARY KEY,
    at   INTEGER NOT NULL,
    line BLOB    NOT NULL
) STRICT;
CREATE TABLE tiles (
    level INTEGER NOT NULL,
    place INTEGER NOT NULL,
    hash  BLOB    NOT NULL,
    PRIMARY KEY (level, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE head (
    only     INTEGER NOT NULL PRIMARY KEY CHECK (only = 0),
    frontier BLOB    NOT NULL,
    note     TEXT    NOT NULL
) STRICT;
CREATE TABLE heartbeat (
    only   INTEGER NOT NULL PRIMARY KEY CHECK (only = 0),
    at     INTEGER NOT NULL,
    weight BLOB    NOT NULL
) STRICT;
";

/// The second version: sinks, pruning, bulk revocations that are carried out in steps, a queue for each backend, and
/// when a lease went.
const SECOND: &str = "
CREATE TABLE sinks (
    name     TEXT    NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE leaves (
    place  INTEGER NOT NULL PRIMARY KEY,
    hashes BLOB    NOT NULL
) STRICT;

ALTER TABLE leases ADD COLUMN gone_at INTEGER;
ALTER TABLE leases ADD COLUMN revocation INTEGER;
UPDATE leases SET gone_at = max(renewed_at, expires_at) WHERE state = 6;
CREATE INDEX lease_gone ON leases (gone_at) WHERE gone_at IS NOT NULL;
DROP INDEX lease_to_revoke;
CREATE INDEX lease_to_revoke ON leases (backend, next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX lease_stuck ON leases (backend, next_attempt_at) WHERE state = 5;
CREATE INDEX lease_ordered ON leases (revocation, state) WHERE revocation IS NOT NULL AND next_attempt_at IS NOT NULL;

CREATE TABLE revocations (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    ordered_at INTEGER NOT NULL,
    selector   INTEGER NOT NULL,
    backend    TEXT,
    name       TEXT,
    record     BLOB    NOT NULL,
    newest     BLOB    NOT NULL,
    place      BLOB    NOT NULL,
    marked     INTEGER NOT NULL DEFAULT 0,
    dynamic    INTEGER NOT NULL DEFAULT 0,
    marked_at  INTEGER
) STRICT;
CREATE INDEX revocation_open ON revocations (id) WHERE marked_at IS NULL;
";

/// The third version: the edge of the log is sealed with each transaction, and signed on a schedule. The edge of an older
/// log has no seal until its next transaction, and a checkpoint over all of it instead.
const THIRD: &str = "
ALTER TABLE head ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
";

/// The fourth version: credentials that are handed out again, and how many leases each principal holds.
const FOURTH: &str = "
CREATE TABLE credentials (
    slot   BLOB NOT NULL UNIQUE,
    lease  BLOB NOT NULL UNIQUE,
    sealed BLOB NOT NULL
) STRICT;

INSERT INTO holders (kind, name, leases)
    SELECT 0, principal, count(*) FROM leases WHERE state <> 6 GROUP BY principal;
";
