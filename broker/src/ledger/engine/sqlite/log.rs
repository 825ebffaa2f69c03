//! The log as it is stored: records, the hashes of pruned ones, the tree's nodes, and where it ends.

use std::ops::Range;

use bursar_core::tlog::{Hash, leaf_hash};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::super::codes::{at_most, read, stored};
use super::super::{VisitLine, Vouched};
use crate::ledger::error::LedgerError;
use crate::ledger::query::RecordOrder;

pub(super) fn scan(
    connection: &Connection,
    range: Range<u64>,
    order: RecordOrder,
    needles: &[Vec<u8>],
    visit: &mut VisitLine<'_>,
) -> Result<(), LedgerError> {
    let tests: String = needles.iter().map(|_| " AND instr(line, ?) > 0").collect();
    let direction = match order {
        RecordOrder::NewestFirst => "DESC",
        RecordOrder::OldestFirst => "ASC",
    };
    let sql = format!(
        "SELECT true{tests}, seq, line FROM audit WHERE seq >= ? AND seq < ? ORDER BY seq {direction}"
    );
    let bounds = [Value::Integer(stored(range.start)), Value::Integer(stored(range.end))];
    let values = needles.iter().cloned().map(Value::Blob).chain(bounds);
    let mut select = connection.prepare_cached(&sql)?;
    let mut found = select.query(params_from_iter(values))?;
    while let Some(row) = found.next()? {
        let line = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
        if !visit(read(row.get(1)?), row.get::<_, bool>(0)?.then_some(line))? {
            break;
        }
    }
    Ok(())
}

pub(super) fn lines(connection: &Connection, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LedgerError> {
    let mut select = connection.prepare_cached(LINES)?;
    let lines = select.query_map((stored(from), at_most(limit)), |row| row.get(0))?;
    Ok(lines.collect::<Result<_, _>>()?)
}

pub(super) fn size(connection: &Connection) -> Result<u64, LedgerError> {
    let mut select = connection.prepare_cached("SELECT max(seq) FROM audit")?;
    let last: Option<i64> = select.query_row([], |row| row.get(0))?;
    Ok(last.map_or(0, |seq| read(seq) + 1))
}

pub(super) fn first_kept(connection: &Connection) -> rusqlite::Result<u64> {
    let mut select = connection.prepare_cached("SELECT min(seq) FROM audit")?;
    let first: Option<i64> = select.query_row([], |row| row.get(0))?;
    Ok(read(first.unwrap_or_default()))
}

pub(super) fn head(connection: &Connection) -> Result<Option<(Vec<u8>, Vouched)>, LedgerError> {
    let mut select = connection.prepare_cached(HEAD)?;
    let head =
        select.query_row([], |row| Ok((row.get(0)?, Vouched { seal: row.get(1)?, note: row.get(2)? })));
    Ok(head.optional()?)
}

pub(super) fn record(connection: &Connection, seq: u64) -> Result<Option<(i64, Vec<u8>)>, LedgerError> {
    let mut select = connection.prepare_cached(RECORD)?;
    Ok(select.query_row([stored(seq)], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

pub(super) fn leaf_hashes(connection: &Connection, range: Range<u64>) -> rusqlite::Result<Vec<Hash>> {
    let mut select = connection.prepare_cached(RANGE)?;
    let hashes = select.query_map((stored(range.start), stored(range.end)), |row| {
        Ok(leaf_hash(row.get_ref(0)?.as_blob()?))
    })?;
    hashes.collect()
}

pub(super) fn tile_root(connection: &Connection, level: u8, index: u64) -> rusqlite::Result<Option<Hash>> {
    let mut select = connection.prepare_cached(TILE_ROOT)?;
    let hash = select.query_row((level, stored(index)), |row| row.get::<_, [u8; Hash::LENGTH]>(0));
    Ok(hash.optional()?.map(Hash::from))
}

/// The leaf hashes of pruned records, where this place of 256 has them.
pub(super) fn pruned_hashes(connection: &Connection, place: u64) -> rusqlite::Result<Option<Vec<Hash>>> {
    let mut select = connection.prepare_cached("SELECT hashes FROM leaves WHERE place = ?1")?;
    let hashes = select.query_row([stored(place)], |row| {
        let (hashes, _) = row.get_ref(0)?.as_blob()?.as_chunks::<{ Hash::LENGTH }>();
        Ok(hashes.iter().copied().map(Hash::from).collect())
    });
    hashes.optional()
}

const HEAD: &str = "SELECT frontier, seal, note FROM head";
const LINES: &str = "SELECT line FROM audit WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
const RECORD: &str = "SELECT at, line FROM audit WHERE seq = ?1";
const RANGE: &str = "SELECT line FROM audit WHERE seq >= ?1 AND seq < ?2 ORDER BY seq";
const TILE_ROOT: &str = "SELECT hash FROM tiles WHERE level = ?1 AND place = ?2";
