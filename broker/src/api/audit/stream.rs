//! Answers without an end, or without a bound: records as they are made, and the whole log.

use std::ops::Range;

use bursar_core::audit::AuditRecord;
use bursar_proto::limits;
use bursar_proto::v1::audit_export_response::Piece;
use bursar_proto::v1::{AuditExportResponse, AuditExportStart, AuditTailResponse, SignedCheckpoint};
use tokio::sync::mpsc;
use tonic::Status;

use crate::failure::Failure;
use crate::ledger::{AuditQuery, Ledger};

/// Sends the records that the query selects, from `from` on, for as long as somebody listens.
pub(super) async fn send_tail(
    ledger: &Ledger,
    mut from: u64,
    query: &AuditQuery,
    records: &mpsc::Sender<Result<AuditTailResponse, Status>>,
) -> Result<(), Failure> {
    let mut appended = ledger.appended();
    loop {
        let lines = ledger.audit_lines(from, LINES).await?;
        for line in &lines {
            let record = AuditRecord::from_line(line).map_err(|_| Failure::Kept("an audit record"))?;
            from = record.seq + 1;
            let wanted = query.selects(&record);
            let message = AuditTailResponse { record: Some(record.into()) };
            if wanted && records.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
        if lines.is_empty() && appended.wait_for(|size| *size > from).await.is_err() {
            return Ok(());
        }
    }
}

/// Sends the records of `extent`, before them what a verifier has to know of those that are left out, and behind them
/// the checkpoint.
pub(super) async fn send_export(
    ledger: &Ledger,
    extent: Range<u64>,
    checkpoint: SignedCheckpoint,
    pieces: &mpsc::Sender<Result<AuditExportResponse, Status>>,
) -> Result<(), Failure> {
    let Range { start: mut from, end: size } = extent;
    if from > 0 {
        let edge = ledger.edge_at(from).await?.to_bytes();
        let start = Piece::Start(AuditExportStart { first_sequence: from, edge });
        if pieces.send(Ok(AuditExportResponse { piece: Some(start) })).await.is_err() {
            return Ok(());
        }
    }
    while from < size {
        let wanted = usize::try_from(size - from).unwrap_or(usize::MAX).min(LINES);
        let lines = ledger.audit_lines(from, wanted).await?;
        if lines.is_empty() {
            return Err(Failure::Kept("the audit log"));
        }
        let mut piece = Vec::new();
        for line in lines {
            from += 1;
            if piece.len() + line.len() >= limits::EXPORT_PIECE {
                let full = Piece::Records(std::mem::take(&mut piece));
                if pieces.send(Ok(AuditExportResponse { piece: Some(full) })).await.is_err() {
                    return Ok(());
                }
            }
            piece.extend_from_slice(&line);
            piece.push(b'\n');
        }
        let full = Piece::Records(piece);
        if pieces.send(Ok(AuditExportResponse { piece: Some(full) })).await.is_err() {
            return Ok(());
        }
    }
    let last = AuditExportResponse { piece: Some(Piece::Checkpoint(checkpoint)) };
    // Whoever hung up does not want it.
    drop(pieces.send(Ok(last)).await);
    Ok(())
}

const LINES: usize = 1000;
