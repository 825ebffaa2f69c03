//! The tables, their version, and whether what is found is them.
//!
//! All tables are in the schema `bursar`, and every statement says so: no `search_path` can lead elsewhere. Columns are
//! those of SQLite's tables under the same names, with the same codes and units (`engine/codes.rs`); numbers are `bigint`
//! throughout. What differs is for the sake of several brokers over one database:
//!
//! - `logs` has a row for each broker: where its log ends, how many transactions it has committed (`batch`), and who may
//!   write it (`epoch`, `home`, `held_until`; see `fence.rs`). Records, nodes, hashes of pruned records and places of sinks
//!   are by log.
//! - Sums are by log too, and the sum of all logs is what holds: brokers never wait for each other's sums. One of them may
//!   be negative, where a lease was granted by one broker and taken back by another.
//! - `leases.revision` counts the changes of a row. A change says which one it saw, so that nobody locks what he reads.
//! - `leases.log` names the log that has the record of the grant.
//! - `ledger` says which schema this is, whose, and which number the last bulk revocation has: no sequence, since what
//!   engines promise of those differs.
//!
//! There is no `lease_held`: PostgreSQL reads a table's rows to know whether they are visible, so an index that repeats
//! columns saves little, and costs each new lease.

use bursar_postgres::sqlstate;

use super::connection::{Call, Connection, Fault};
use crate::ledger::error::OpenError;

/// What a database has.
pub(super) enum Found {
    Nothing,
    Version { version: i64, trust_domain: String },
}

/// Looks without changing anything.
pub(super) fn look(connection: &mut Connection) -> Result<Found, Fault> {
    let select = Call::rows("SELECT version, trust_domain FROM bursar.ledger WHERE single = 0", []);
    let found = match connection.one(select) {
        Ok(found) => found,
        Err(fault) if MISSING.iter().any(|code| fault.is(code)) => return Ok(Found::Nothing),
        Err(fault) => return Err(fault),
    };
    Ok(match found.first() {
        Some(row) => Found::Version { version: row.try_get(0)?, trust_domain: row.try_get(1)? },
        None => Found::Nothing,
    })
}

/// Makes the tables, in one transaction. Two who do so at the same time meet each other's names, and one of them fails.
pub(super) fn create(connection: &mut Connection, trust_domain: &str) -> Result<(), Fault> {
    // Where an administrator made the schema, the broker may not make any.
    let there =
        connection.one(Call::rows("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'bursar'", []))?;
    let schema = if there.is_empty() { "CREATE SCHEMA bursar;" } else { "" };
    connection.script(&format!("BEGIN; {schema} {TABLES}"))?;
    connection.one(Call::count(
        "INSERT INTO bursar.ledger (single, version, trust_domain, revocations) VALUES (0, $1, $2, 0)",
        [&VERSION as _, &trust_domain as _],
    ))?;
    connection.script("COMMIT")
}

/// Whether every table has its columns, and this user may do with them what a broker does.
pub(super) fn check(connection: &mut Connection, place: &str) -> Result<(), OpenError> {
    let unreadable = |fault: Fault| fault.on_open(place);
    let columns = "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = 'bursar'";
    let found = connection.one(Call::rows(columns, [])).map_err(unreadable)?;
    let found: Vec<(String, String)> = found
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, tokio_postgres::Error>>()
        .map_err(|error| unreadable(error.into()))?;
    for (table, column) in wanted() {
        // Only columns that the user has some right to are listed.
        if !found.iter().any(|(known, _)| known == table) {
            return Err(OpenError::TableMissing {
                place: place.to_owned(),
                table: format!("bursar.{table}"),
            });
        }
        if !found.iter().any(|(known, name)| known == table && name == column) {
            let what = format!("the table `bursar.{table}` has no column `{column}`");
            return Err(OpenError::Corrupt { place: place.to_owned(), what });
        }
    }
    for (table, _) in TABLE_COLUMNS {
        let table = format!("bursar.{table}");
        for right in RIGHTS {
            let asked =
                Call::rows("SELECT has_table_privilege($1::text, $2::text)", [&table as _, &right as _]);
            let rows = connection.one(asked).map_err(unreadable)?;
            let may = rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false));
            if !may {
                return Err(OpenError::Privilege { place: place.to_owned(), right, table });
            }
        }
    }
    Ok(())
}

fn wanted() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE_COLUMNS.iter().flat_map(|(table, columns)| columns.split(' ').map(move |column| (*table, column)))
}

/// The schema that this broker writes.
pub(super) const VERSION: i64 = 1;

const RIGHTS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// Answers to a question about tables that are not there.
const MISSING: [&str; 2] = [sqlstate::UNDEFINED_TABLE, sqlstate::INVALID_SCHEMA];

const TABLE_COLUMNS: [(&str, &str); 13] = [
    ("ledger", "single version trust_domain revocations"),
    ("logs", "id origin epoch home held_until batch frontier seal note"),
    ("audit", "log seq at line"),
    ("tiles", "log level place hash"),
    ("leaves", "log place hashes"),
    ("sinks", "log name position"),
    (
        "leases",
        "id log revision state dynamic slot issued_at renewed_at expires_at max_expires_at next_attempt_at renewable \
         ttl_bound attempts backend path version principal node instance environment reason last_error handle gone_at \
         revocation",
    ),
    ("credentials", "slot lease sealed"),
    ("lease_counts", "log state leases"),
    ("holders", "log kind name leases"),
    ("objects", "kind name revision body updated_at updated_by"),
    ("object_history", "kind name revision body updated_at updated_by"),
    ("revocations", "id ordered_at selector backend name record newest place marked dynamic marked_at"),
];

const TABLES: &str = "
CREATE TABLE bursar.ledger (
    single       bigint NOT NULL PRIMARY KEY CHECK (single = 0),
    version      bigint NOT NULL,
    trust_domain text   NOT NULL,
    revocations  bigint NOT NULL
);
CREATE TABLE bursar.logs (
    id         bigint      NOT NULL PRIMARY KEY,
    origin     text        NOT NULL UNIQUE,
    epoch      bigint      NOT NULL,
    home       bytea       NOT NULL,
    held_until timestamptz NOT NULL,
    batch      bigint      NOT NULL,
    frontier   bytea,
    seal       bytea,
    note       text
);
CREATE TABLE bursar.audit (
    log  bigint NOT NULL,
    seq  bigint NOT NULL,
    at   bigint NOT NULL,
    line bytea  NOT NULL,
    PRIMARY KEY (log, seq)
);
CREATE TABLE bursar.tiles (
    log   bigint NOT NULL,
    level bigint NOT NULL,
    place bigint NOT NULL,
    hash  bytea  NOT NULL,
    PRIMARY KEY (log, level, place)
);
CREATE TABLE bursar.leaves (
    log    bigint NOT NULL,
    place  bigint NOT NULL,
    hashes bytea  NOT NULL,
    PRIMARY KEY (log, place)
);
CREATE TABLE bursar.sinks (
    log      bigint NOT NULL,
    name     text   NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (log, name)
);
CREATE TABLE bursar.leases (
    id              bytea   NOT NULL PRIMARY KEY,
    log             bigint  NOT NULL,
    revision        bigint  NOT NULL,
    state           bigint  NOT NULL,
    dynamic         boolean NOT NULL,
    slot            bytea,
    issued_at       bigint  NOT NULL,
    renewed_at      bigint  NOT NULL,
    expires_at      bigint  NOT NULL,
    max_expires_at  bigint,
    next_attempt_at bigint,
    renewable       boolean NOT NULL,
    ttl_bound       bigint  NOT NULL,
    attempts        bigint  NOT NULL,
    backend         text    NOT NULL,
    path            text    NOT NULL,
    version         text,
    principal       text    NOT NULL,
    node            text,
    instance        text    NOT NULL,
    environment     text,
    reason          text,
    last_error      text,
    handle          text,
    gone_at         bigint,
    revocation      bigint
);
CREATE UNIQUE INDEX lease_slot ON bursar.leases (slot) WHERE slot IS NOT NULL;
CREATE INDEX lease_due ON bursar.leases ((expires_at >> 26), id) WHERE state = 1;
CREATE INDEX lease_to_revoke ON bursar.leases (backend, next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX lease_stuck ON bursar.leases (backend, next_attempt_at) WHERE state = 5;
CREATE INDEX lease_intents ON bursar.leases (issued_at) WHERE state = 0;
CREATE INDEX lease_by_handle ON bursar.leases (backend, handle) WHERE handle IS NOT NULL;
CREATE INDEX lease_gone ON bursar.leases (gone_at) WHERE gone_at IS NOT NULL;
CREATE INDEX lease_ordered ON bursar.leases (revocation, state)
    WHERE revocation IS NOT NULL AND next_attempt_at IS NOT NULL;
CREATE TABLE bursar.credentials (
    slot   bytea NOT NULL PRIMARY KEY,
    lease  bytea NOT NULL UNIQUE,
    sealed bytea NOT NULL
);
CREATE TABLE bursar.lease_counts (
    log    bigint NOT NULL,
    state  bigint NOT NULL,
    leases bigint NOT NULL,
    PRIMARY KEY (log, state)
);
CREATE TABLE bursar.holders (
    log    bigint NOT NULL,
    kind   bigint NOT NULL,
    name   text   NOT NULL,
    leases bigint NOT NULL,
    PRIMARY KEY (kind, name, log)
);
CREATE TABLE bursar.objects (
    kind       bigint NOT NULL,
    name       text   NOT NULL,
    revision   bigint NOT NULL,
    body       bytea  NOT NULL,
    updated_at bigint NOT NULL,
    updated_by text   NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE TABLE bursar.object_history (
    kind       bigint NOT NULL,
    name       text   NOT NULL,
    revision   bigint NOT NULL,
    body       bytea  NOT NULL,
    updated_at bigint NOT NULL,
    updated_by text   NOT NULL,
    PRIMARY KEY (kind, name, revision)
);
CREATE TABLE bursar.revocations (
    id         bigint NOT NULL PRIMARY KEY,
    ordered_at bigint NOT NULL,
    selector   bigint NOT NULL,
    backend    text,
    name       text,
    record     bytea  NOT NULL,
    newest     bytea  NOT NULL,
    place      bytea  NOT NULL,
    marked     bigint NOT NULL,
    dynamic    bigint NOT NULL,
    marked_at  bigint
);
CREATE INDEX revocation_open ON bursar.revocations (id) WHERE marked_at IS NULL;
";
