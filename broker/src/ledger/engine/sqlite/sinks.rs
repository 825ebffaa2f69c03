//! How far each sink has confirmed the log.

use rusqlite::{Connection, OptionalExtension};

use super::super::codes::{read, stored};
use super::batch::{Batch, Fault};
use crate::ledger::error::LedgerError;

impl Batch<'_> {
    /// Every record below `position` is at the sink. Never goes back: what is confirmed stays confirmed.
    pub(super) fn shipped(&self, sink: &str, position: u64) -> Result<(), Fault> {
        self.connection.prepare_cached(PUT)?.execute((sink, stored(position)))?;
        Ok(())
    }
}

/// The first record that the sink has not confirmed; 0 for a sink that never confirmed any.
pub(super) fn position(connection: &Connection, sink: &str) -> Result<u64, LedgerError> {
    let mut select = connection.prepare_cached(GET)?;
    let position: Option<i64> = select.query_row([sink], |row| row.get(0)).optional()?;
    Ok(read(position.unwrap_or_default()))
}

const GET: &str = "SELECT position FROM sinks WHERE name = ?1";
const PUT: &str = "INSERT INTO sinks (name, position) VALUES (?1, ?2) \
     ON CONFLICT (name) DO UPDATE SET position = max(position, excluded.position)";
