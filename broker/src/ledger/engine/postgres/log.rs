//! The log of one broker as it is stored. What may be long is read a piece at a time.

use std::ops::Range;

use bursar_core::tlog::{Hash, leaf_hash};
use tokio_postgres::Row;

use super::super::codes::{at_most, read, stored};
use super::super::{VisitLine, VisitRecord, Vouched};
use super::failure::Fault;
use super::rows::get;
use super::snapshot::State;
use crate::ledger::error::LedgerError;
use crate::ledger::query::RecordOrder;

pub(super) fn shipped(state: &State<'_>, sink: &str) -> Result<u64, Fault> {
    let found = state.ask_one(
        "SELECT position FROM bursar.sinks WHERE log = $1 AND name = $2",
        [&state.log as _, &sink as _],
    )?;
    Ok(found.map(|row| get(&row, 0)).transpose()?.map_or(0, read))
}

pub(super) fn size(state: &State<'_>) -> Result<u64, Fault> {
    let last = state.ask_one("SELECT max(seq) FROM bursar.audit WHERE log = $1", [&state.log as _])?;
    let last = last.map(|row| get::<Option<i64>>(&row, 0)).transpose()?.flatten();
    Ok(last.map_or(0, |seq| read(seq) + 1))
}

pub(super) fn first_kept(state: &State<'_>) -> Result<u64, Fault> {
    let first = state.ask_one("SELECT min(seq) FROM bursar.audit WHERE log = $1", [&state.log as _])?;
    let first = first.map(|row| get::<Option<i64>>(&row, 0)).transpose()?.flatten();
    Ok(read(first.unwrap_or_default()))
}

pub(super) fn head(state: &State<'_>) -> Result<Option<(Vec<u8>, Vouched)>, Fault> {
    let Some(row) = state.ask_one(HEAD, [&state.log as _])? else { return Ok(None) };
    Ok(Some((get(&row, 0)?, Vouched { seal: get(&row, 1)?, note: get(&row, 2)? })))
}

pub(super) fn record(state: &State<'_>, seq: u64) -> Result<Option<(i64, Vec<u8>)>, Fault> {
    let row = state.ask_one(RECORD, [&state.log as _, &stored(seq) as _])?;
    row.map(|row| Ok((get(&row, 0)?, get(&row, 1)?))).transpose()
}

pub(super) fn lines(state: &State<'_>, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, Fault> {
    let rows = state.ask(LINES, [&state.log as _, &stored(from) as _, &at_most(limit) as _])?;
    rows.iter().map(|row| get(row, 0)).collect()
}

pub(super) fn leaf_hashes(state: &State<'_>, range: Range<u64>) -> Result<Vec<Hash>, Fault> {
    let rows = state.ask(RANGE, [&state.log as _, &stored(range.start) as _, &stored(range.end) as _])?;
    rows.iter().map(|row| get::<&[u8]>(row, 0).map(leaf_hash)).collect()
}

pub(super) fn pruned_hashes(state: &State<'_>, place: u64) -> Result<Option<Vec<Hash>>, Fault> {
    let found = state.ask_one(LEAVES, [&state.log as _, &stored(place) as _])?;
    let Some(row) = found else { return Ok(None) };
    let (hashes, _) = get::<&[u8]>(&row, 0)?.as_chunks::<{ Hash::LENGTH }>();
    Ok(Some(hashes.iter().copied().map(Hash::from).collect()))
}

pub(super) fn tile_root(state: &State<'_>, level: u8, index: u64) -> Result<Option<Hash>, Fault> {
    let found = state.ask_one(TILE_ROOT, [&state.log as _, &i64::from(level) as _, &stored(index) as _])?;
    let Some(row) = found else { return Ok(None) };
    let hash = <[u8; Hash::LENGTH]>::try_from(get::<&[u8]>(&row, 0)?);
    Ok(hash.ok().map(Hash::from))
}

/// The server tests the lines, so that only those that are wanted cross the network.
pub(super) fn scan(
    state: &State<'_>,
    range: Range<u64>,
    order: RecordOrder,
    needles: &[Vec<u8>],
    visit: &mut VisitLine<'_>,
) -> Result<(), LedgerError> {
    let tests: Vec<_> = (0..needles.len()).map(|at| format!("position(${} in line) > 0", at + 5)).collect();
    let tested = if tests.is_empty() { "true".to_owned() } else { tests.join(" AND ") };
    let direction = match order {
        RecordOrder::NewestFirst => "DESC",
        RecordOrder::OldestFirst => "ASC",
    };
    let sql = format!(
        "SELECT seq, CASE WHEN {tested} THEN line END FROM bursar.audit \
         WHERE log = $1 AND seq >= $2 AND seq < $3 ORDER BY seq {direction} LIMIT $4"
    );
    let mut left = range;
    while !left.is_empty() {
        let (start, end) = (stored(left.start), stored(left.end));
        let values = [&state.log as _, &start as _, &end as _, &PIECE as _];
        let rows = state.ask(&sql, values.into_iter().chain(needles.iter().map(|needle| needle as _)))?;
        for row in &rows {
            let seq = read(get(row, 0)?);
            if !visit(seq, get(row, 1)?)? {
                return Ok(());
            }
            match order {
                RecordOrder::NewestFirst => left.end = seq,
                RecordOrder::OldestFirst => left.start = seq + 1,
            }
        }
        if rows.len() < PIECE_ROWS {
            return Ok(());
        }
    }
    Ok(())
}

pub(super) fn pruned_beyond(state: &State<'_>, place: u64) -> Result<u64, Fault> {
    let beyond = "SELECT count(*) FROM bursar.leaves WHERE log = $1 AND (place >= $2 OR place < 0)";
    counted(state.ask_one(beyond, [&state.log as _, &stored(place) as _])?)
}

pub(super) fn tiles(state: &State<'_>) -> Result<u64, Fault> {
    counted(state.ask_one("SELECT count(*) FROM bursar.tiles WHERE log = $1", [&state.log as _])?)
}

pub(super) fn each_record(state: &State<'_>, visit: &mut VisitRecord<'_>) -> Result<(), LedgerError> {
    let mut after = i64::MIN;
    loop {
        let rows = state.ask(EACH, [&state.log as _, &after as _, &PIECE as _])?;
        for row in &rows {
            after = get(row, 0)?;
            visit(read(after), get(row, 1)?, get(row, 2)?)?;
        }
        if rows.len() < PIECE_ROWS {
            return Ok(());
        }
    }
}

fn counted(row: Option<Row>) -> Result<u64, Fault> {
    Ok(row.map(|row| get(&row, 0)).transpose()?.map_or(0, read))
}

const HEAD: &str = "SELECT frontier, coalesce(seal, ''::bytea), coalesce(note, '') FROM bursar.logs \
     WHERE id = $1 AND frontier IS NOT NULL";
const RECORD: &str = "SELECT at, line FROM bursar.audit WHERE log = $1 AND seq = $2";
const LINES: &str = "SELECT line FROM bursar.audit WHERE log = $1 AND seq >= $2 ORDER BY seq LIMIT $3";
const RANGE: &str = "SELECT line FROM bursar.audit WHERE log = $1 AND seq >= $2 AND seq < $3 ORDER BY seq";
const LEAVES: &str = "SELECT hashes FROM bursar.leaves WHERE log = $1 AND place = $2";
const TILE_ROOT: &str = "SELECT hash FROM bursar.tiles WHERE log = $1 AND level = $2 AND place = $3";
const EACH: &str = "SELECT seq, at, line FROM bursar.audit WHERE log = $1 AND seq > $2 ORDER BY seq LIMIT $3";

/// Records that are in memory at a time.
const PIECE: i64 = 2000;
const PIECE_ROWS: usize = 2000;
