//! Who holds the most leases that are not gone: the largest of the sums of `tally.rs`.

use rusqlite::Connection;

use super::super::codes::{at_most, holder_code, read};
use crate::ledger::error::LedgerError;
use crate::ledger::query::HolderKind;

pub(super) fn top(
    connection: &Connection,
    kind: HolderKind,
    limit: usize,
) -> Result<Vec<(String, u64)>, LedgerError> {
    let mut select = connection.prepare_cached(TOP)?;
    let top =
        select.query_map((holder_code(kind), at_most(limit)), |row| Ok((row.get(0)?, read(row.get(1)?))))?;
    Ok(top.collect::<Result<_, _>>()?)
}

const TOP: &str = "SELECT name, leases FROM holders WHERE kind = ?1 ORDER BY leases DESC, name LIMIT ?2";
