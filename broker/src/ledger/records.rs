//! Audit records as they are listed, and the stretches of the log between two times.

use std::ops::Range;

use bursar_core::LeaseId;
use bursar_core::audit::{Action, AuditRecord};
use jiff::Timestamp;

use super::engine::{Snapshot, TILE};
use super::error::LedgerError;
use super::query::{AuditQuery, Page, Paged, RecordOrder};

/// One page of the records that the query selects.
///
/// Records have no index but their number: each one would cost every read a scattered page write. A walk tests the bytes
/// of a line for the quoted values wanted and parses only what has them all.
pub(super) fn audit(
    snapshot: &dyn Snapshot,
    query: &AuditQuery,
    page: &Page,
) -> Result<Paged<AuditRecord>, LedgerError> {
    let kept = snapshot.first_kept()?..snapshot.log_size()?;
    let end = match query.until {
        Some(until) => first_at(snapshot, kept.clone(), until)?,
        None => kept.end,
    };
    let start = match query.since {
        Some(since) => first_at(snapshot, kept, since)?,
        None => kept.start,
    };
    // The token is where the page before stopped: the end of what is left, or its start.
    let token = page.token.as_ref().map(|token| token.parse::<u64>().map_err(|_| LedgerError::PageToken));
    let left = match (query.order, token.transpose()?) {
        (RecordOrder::NewestFirst, token) => start..token.map_or(end, |token| token.min(end)),
        (RecordOrder::OldestFirst, token) => token.map_or(start, |token| token.max(start))..end,
    };

    let (mut items, mut next) = (Vec::new(), None);
    let (mut seen, mut last) = (0, 0);
    snapshot.scan(left, query.order, &needles(query), &mut |seq, line| {
        if items.len() == page.limit() || seen == SCAN {
            next = Some(match query.order {
                RecordOrder::NewestFirst => last,
                RecordOrder::OldestFirst => seq,
            });
            return Ok(false);
        }
        (seen, last) = (seen + 1, seq);
        if let Some(line) = line {
            let record = parse(seq, line)?;
            items.extend(query.selects(&record).then_some(record));
        }
        Ok(true)
    })?;
    Ok(Paged { items, next: next.map(|seq| seq.to_string()) })
}

/// The exact bytes of the records from `from` on.
pub(super) fn lines(snapshot: &dyn Snapshot, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, LedgerError> {
    let first = snapshot.first_kept()?;
    if from < first {
        return Err(LedgerError::Pruned { from, first });
    }
    snapshot.lines(from, limit.min(MAX_LINES))
}

/// What may go: the records from `first` to before `below`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prunable {
    pub first: u64,
    pub below: u64,
}

/// Where pruning may begin to leave records alone: the first one of `time` or later, at the end of a tile, and never
/// the last records of the log.
pub(super) fn prunable(snapshot: &dyn Snapshot, time: Timestamp) -> Result<Prunable, LedgerError> {
    let (first, size) = (snapshot.first_kept()?, snapshot.log_size()?);
    let mut below = first;
    // Steps as long as the tiles are, from the oldest on, would read each of them: halve instead.
    let mut tiles = size.saturating_sub(first + 1) / TILE;
    while tiles > 0 {
        let half = tiles.div_ceil(2);
        let last = below + half * TILE - 1;
        if snapshot.record(last)?.is_some_and(|(at, _)| at < time.as_microsecond()) {
            below = last + 1;
            tiles -= half;
        } else {
            tiles = half - 1;
        }
    }
    Ok(Prunable { first, below })
}

/// The first record of those kept that was made at `time` or later, by halving: times never decrease along the log.
fn first_at(snapshot: &dyn Snapshot, kept: Range<u64>, time: Timestamp) -> Result<u64, LedgerError> {
    let (mut low, mut high) = (kept.start, kept.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let (at, _) = snapshot.record(middle)?.ok_or_else(|| unreadable(middle))?;
        if at < time.as_microsecond() { low = middle + 1 } else { high = middle }
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
        query.decision.map(|decision| decision.as_str().to_owned()),
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
    AuditRecord::from_line(line).map_err(|_| unreadable(seq))
}

fn unreadable(seq: u64) -> LedgerError {
    LedgerError::Corrupt { what: format!("audit record {seq} cannot be read") }
}

/// The most records that are looked at for one page.
const SCAN: u64 = 50_000;

/// The most lines that are given at once.
const MAX_LINES: usize = 10_000;
