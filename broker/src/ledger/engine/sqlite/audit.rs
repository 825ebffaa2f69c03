//! The log as it is stored: records by page or as lines, hashes for proofs, and where it ends.

use std::ops::Range;

use bursar_core::LeaseId;
use bursar_core::audit::{Action, AuditRecord};
use bursar_core::tlog::{
    Frontier, Hash, NodeSource, TreeError, consistency_proof, frontier_at, inclusion_proof, leaf_hash,
    verify_inclusion,
};
use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::batch::LogTail;
use super::codes::{at_most, micros, read, stored};
use super::pruning;
use crate::ledger::error::LedgerError;
use crate::ledger::query::{AuditQuery, Page, Paged, RecordOrder};

/// One page of the records that the query selects.
///
/// Records have no index but their number: each one would cost every read a scattered page write. A walk tests the bytes
/// of a line for the quoted values wanted and parses only what has them all.
pub(in crate::ledger) fn audit(
    connection: &Connection,
    query: &AuditQuery,
    page: &Page,
) -> Result<Paged<AuditRecord>, LedgerError> {
    let kept = pruning::first_kept(connection)?..size(connection)?;
    let end = match query.until {
        Some(until) => first_at(connection, kept.clone(), until)?,
        None => kept.end,
    };
    let start = match query.since {
        Some(since) => first_at(connection, kept, since)?,
        None => kept.start,
    };
    // The token is where the page before stopped: the end of what is left, or its start.
    let token = page.token.as_ref().map(|token| token.parse::<u64>().map_err(|_| LedgerError::PageToken));
    let (direction, left) = match (query.order, token.transpose()?) {
        (RecordOrder::NewestFirst, token) => ("DESC", start..token.map_or(end, |token| token.min(end))),
        (RecordOrder::OldestFirst, token) => ("ASC", token.map_or(start, |token| token.max(start))..end),
    };

    let needles = needles(query);
    let tests: String = needles.iter().map(|_| " AND instr(line, ?) > 0").collect();
    let sql = format!(
        "SELECT true{tests}, seq, line FROM audit WHERE seq >= ? AND seq < ? ORDER BY seq {direction}"
    );
    let bounds = [Value::Integer(stored(left.start)), Value::Integer(stored(left.end))];
    let values = needles.into_iter().map(Value::Blob).chain(bounds);
    let mut select = connection.prepare_cached(&sql)?;
    let mut found = select.query(params_from_iter(values))?;

    let mut items = Vec::new();
    let (mut seen, mut last) = (0, 0);
    while let Some(row) = found.next()? {
        let seq = read(row.get(1)?);
        if items.len() == page.limit() || seen == SCAN {
            let next = match query.order {
                RecordOrder::NewestFirst => last,
                RecordOrder::OldestFirst => seq,
            };
            return Ok(Paged { items, next: Some(next.to_string()) });
        }
        (seen, last) = (seen + 1, seq);
        if row.get(0)? {
            let record = parse(seq, row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?)?;
            items.extend(query.selects(&record).then_some(record));
        }
    }
    Ok(Paged { items, next: None })
}

/// The exact bytes of the records from `from` on.
pub(in crate::ledger) fn lines(
    connection: &Connection,
    from: u64,
    limit: usize,
) -> Result<Vec<Vec<u8>>, LedgerError> {
    let first = pruning::first_kept(connection)?;
    if from < first {
        return Err(LedgerError::Pruned { from, first });
    }
    let mut select = connection.prepare_cached(LINES)?;
    let lines = select.query_map((stored(from), at_most(limit.min(MAX_LINES))), |row| row.get(0))?;
    Ok(lines.collect::<Result<_, _>>()?)
}

/// The number of records in what this connection sees.
pub(super) fn size(connection: &Connection) -> Result<u64, LedgerError> {
    let mut select = connection.prepare_cached("SELECT max(seq) FROM audit")?;
    let last: Option<i64> = select.query_row([], |row| row.get(0))?;
    Ok(last.map_or(0, |seq| read(seq) + 1))
}

/// What the ledger stored about the end of its log.
#[derive(Debug)]
pub(in crate::ledger) struct StoredHead {
    pub(in crate::ledger) tail: LogTail,
    /// Absent while nothing was ever recorded.
    pub(in crate::ledger) vouched: Option<Vouched>,
}

/// What says that the log is the one that this broker kept.
#[derive(Debug)]
pub(in crate::ledger) struct Vouched {
    /// Over the edge; empty in a log that an older broker wrote.
    pub(in crate::ledger) seal: Vec<u8>,
    /// The newest checkpoint that was stored.
    pub(in crate::ledger) note: String,
}

impl Vouched {
    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<(Vec<u8>, Self)> {
        Ok((row.get(0)?, Self { seal: row.get(1)?, note: row.get(2)? }))
    }
}

/// Reads where the log ends, and checks that the last record and the tree below it are those of the head.
pub(in crate::ledger) fn head(connection: &Connection) -> Result<StoredHead, LedgerError> {
    let size = size(connection)?;
    let row = connection.query_row(HEAD, [], Vouched::of);
    let Some((frontier, vouched)) = row.optional()? else {
        let tail = LogTail { frontier: Frontier::default(), latest: i64::MIN };
        return match size {
            0 => Ok(StoredHead { tail, vouched: None }),
            _ => Err(corrupt(format!("it has {size} audit records and no head"))),
        };
    };
    let frontier = Frontier::from_bytes(&frontier).map_err(|error| corrupt(error.to_string()))?;
    let sealed = frontier.size();
    if sealed != size {
        return Err(corrupt(format!("its head is over {sealed} audit records, and {size} are there")));
    }
    let latest = match size.checked_sub(1) {
        Some(last) => check_last(connection, &frontier, last)?,
        None => i64::MIN,
    };
    Ok(StoredHead { tail: LogTail { frontier, latest }, vouched: Some(vouched) })
}

/// Proves the last record to the head, by the way on which a proof to anybody else would go. Answers its time.
fn check_last(connection: &Connection, frontier: &Frontier, last: u64) -> Result<i64, LedgerError> {
    let (at, line) =
        connection.query_row("SELECT at, line FROM audit WHERE seq = ?1", [stored(last)], |row| {
            Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
    let head = frontier.head();
    let proof = inclusion_proof(&Hashes { connection }, last, head.size);
    let proof = proof.map_err(|error| corrupt(error.to_string()))?;
    verify_inclusion(&leaf_hash(&line), last, &head, &proof).map_err(|_| {
        corrupt(format!("audit record {last} or one beside it is not the one that was written"))
    })?;
    Ok(at)
}

/// Proves that the log of `old` records is the beginning of that of `new`.
pub(in crate::ledger) fn consistency(
    connection: &Connection,
    old: u64,
    new: u64,
) -> Result<Vec<Hash>, LedgerError> {
    let size = size(connection)?;
    if old > new || new > size {
        return Err(LedgerError::ProofRange { old, new, size });
    }
    consistency_proof(&Hashes { connection }, old, new).map_err(unproven)
}

/// The record of this number, where it was not pruned, and the proof that it is among the first `size`.
pub(in crate::ledger) fn inclusion(
    connection: &Connection,
    seq: u64,
    size: u64,
) -> Result<(Option<Vec<u8>>, Vec<Hash>), LedgerError> {
    let there = self::size(connection)?;
    if seq >= size || size > there {
        return Err(LedgerError::ProofRange { old: seq, new: size, size: there });
    }
    let line = connection.prepare_cached(LINE)?.query_row([stored(seq)], |row| row.get(0)).optional()?;
    let proof = inclusion_proof(&Hashes { connection }, seq, size).map_err(unproven)?;
    Ok((line, proof))
}

/// The right edge of the log as it was at `size` records.
pub(in crate::ledger) fn edge(connection: &Connection, size: u64) -> Result<Frontier, LedgerError> {
    let there = self::size(connection)?;
    if size > there {
        return Err(LedgerError::ProofRange { old: size, new: size, size: there });
    }
    frontier_at(&Hashes { connection }, size).map_err(unproven)
}

fn unproven(error: TreeError<rusqlite::Error>) -> LedgerError {
    match error {
        TreeError::Source(source) => source.into(),
        damage => corrupt(damage.to_string()),
    }
}

/// The hashes of the log: leaves from the records themselves, nodes from the tiles.
#[derive(Debug)]
struct Hashes<'c> {
    connection: &'c Connection,
}

impl NodeSource for Hashes<'_> {
    type Error = rusqlite::Error;

    /// No tile is pruned in part, and nobody asks for leaves of two at once.
    fn leaf_hashes(&self, range: Range<u64>) -> rusqlite::Result<Vec<Hash>> {
        if range.start < pruning::first_kept(self.connection)? {
            let pruned = pruning::leaves(self.connection, range.start / pruning::TILE)?.unwrap_or_default();
            let skipped = usize::try_from(range.start % pruning::TILE).unwrap_or(usize::MAX);
            let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            return Ok(pruned.into_iter().skip(skipped).take(wanted).collect());
        }
        let mut select = self.connection.prepare_cached(RANGE)?;
        let hashes = select.query_map((stored(range.start), stored(range.end)), |row| {
            Ok(leaf_hash(row.get_ref(0)?.as_blob()?))
        })?;
        hashes.collect()
    }

    fn tile_root(&self, level: u8, index: u64) -> rusqlite::Result<Option<Hash>> {
        let mut select = self.connection.prepare_cached(TILE)?;
        let hash = select.query_row((level, stored(index)), |row| row.get::<_, [u8; Hash::LENGTH]>(0));
        Ok(hash.optional()?.map(Hash::from))
    }
}

/// The first record of those kept that was made at `time` or later, by halving: times never decrease along the log.
fn first_at(connection: &Connection, kept: Range<u64>, time: Timestamp) -> Result<u64, LedgerError> {
    let mut select = connection.prepare_cached("SELECT at FROM audit WHERE seq = ?1")?;
    let (mut low, mut high) = (kept.start, kept.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let at: i64 = select.query_row([stored(middle)], |row| row.get(0))?;
        if at < micros(time) { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

/// What a line must hold, as JSON writes it, to be selected. Not enough for selection: another field may hold it.
fn needles(query: &AuditQuery) -> Vec<Vec<u8>> {
    let texts = [
        query.principal.as_ref().map(|id| id.as_str().to_owned()),
        query.node.as_ref().map(|id| id.as_str().to_owned()),
        query.environment.clone(),
        query.lease_id.as_ref().map(LeaseId::to_string),
        query.request_id.clone(),
        // Any of several is left to the record itself.
        <[Action; 1]>::try_from(query.actions.as_slice()).ok().map(|[action]| action.as_str().to_owned()),
        query.outcome.map(|outcome| outcome.as_str().to_owned()),
    ];
    let quoted = |text: &String| serde_json::to_vec(text).unwrap_or_default();
    let whole = texts.iter().flatten().map(quoted);
    // A beginning is quoted on its left only.
    let beginning = query.resource.iter().map(quoted).map(|mut quoted| {
        quoted.pop();
        quoted
    });
    whole.chain(beginning).collect()
}

fn parse(seq: u64, line: &[u8]) -> Result<AuditRecord, LedgerError> {
    AuditRecord::from_line(line).map_err(|_| corrupt(format!("audit record {seq} cannot be read")))
}

fn corrupt(what: String) -> LedgerError {
    LedgerError::Corrupt { what }
}

/// The columns that [`Vouched::of`] reads.
pub(super) const HEAD: &str = "SELECT frontier, seal, note FROM head";
const LINES: &str = "SELECT line FROM audit WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
const LINE: &str = "SELECT line FROM audit WHERE seq = ?1";
const RANGE: &str = "SELECT line FROM audit WHERE seq >= ?1 AND seq < ?2 ORDER BY seq";
const TILE: &str = "SELECT hash FROM tiles WHERE level = ?1 AND place = ?2";

/// The most records that are looked at for one page.
const SCAN: u64 = 50_000;

/// The most lines that are given at once.
const MAX_LINES: usize = 10_000;
