-- The schema of version 1 as it was released. Never changed: ledgers of that version exist.
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
PRAGMA application_id = 0x42525352;
PRAGMA user_version = 1;
