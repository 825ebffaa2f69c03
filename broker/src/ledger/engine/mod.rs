//! Where the ledger's state is kept: SQLite, embedded in the broker.

pub(super) mod sqlite;
