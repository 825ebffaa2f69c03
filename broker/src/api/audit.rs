//! `bursar.v1.Audit`.

use std::pin::Pin;

use bursar_core::audit::{Action, AuditRecord};
use bursar_core::{LeaseId, SpiffeId};
use bursar_proto::convert::{WireError, decision_from_wire, outcome_from_wire, timestamp_from_wire};
use bursar_proto::limits;
use bursar_proto::v1;
use bursar_proto::v1::audit_export_response::Piece;
use bursar_proto::v1::audit_server::Audit;
use bursar_proto::v1::{
    AuditCheckpointRequest, AuditCheckpointResponse, AuditConsistencyProofRequest,
    AuditConsistencyProofResponse, AuditExportRequest, AuditExportResponse, AuditFilter, AuditJournalRequest,
    AuditJournalResponse, AuditOrder, AuditQueryRequest, AuditQueryResponse, AuditTailRequest,
    AuditTailResponse, SignedCheckpoint,
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Api, page, status};
use crate::failure::Failure;
use crate::journal::LocalRead;
use crate::ledger::{AuditQuery, Ledger, SignedHead};
use crate::policy::Resource;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Audit for Api {
    async fn query(
        &self,
        request: Request<AuditQueryRequest>,
    ) -> Result<Response<AuditQueryResponse>, Status> {
        let read = |message: AuditQueryRequest| {
            if message.order() == AuditOrder::OldestFirst {
                return Err(Failure::NotBuilt("order: oldest first; `Export` gives the log in order"));
            }
            Ok((query(message.filter)?, page::read(message.page_size, message.page_token)?))
        };
        self.answer(request, read, |call, (query, page)| async move {
            let draft = self.broker.permit(&call, Action::QueryAudit, Resource::System, "audit", "").await?;
            let found = async { Ok(self.broker.ledger.audit(query, page).await?) };
            let found = self.broker.observe(draft, found).await?;
            Ok(AuditQueryResponse {
                records: found.items.into_iter().map(Into::into).collect(),
                next_page_token: found.next.unwrap_or_default(),
            })
        })
        .await
    }

    type TailStream = Answers<AuditTailResponse>;

    async fn tail(&self, request: Request<AuditTailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let read = |message: AuditTailRequest| Ok((message.first_sequence, query(message.filter)?));
        self.answer(request, read, |call, (from, query)| async move {
            let draft = self.broker.permit(&call, Action::QueryAudit, Resource::System, "tail", "").await?;
            self.broker.note(draft).await?;
            let ledger = self.broker.ledger.clone();
            let from = from.unwrap_or_else(|| *ledger.appended().borrow());
            let (records, stream) = mpsc::channel(STREAM_BUFFER);
            let (stop, request_id) = (self.tasks.clone(), call.request_id.clone());
            drop(self.tasks.finish(async move {
                let sent = tokio::select! {
                    sent = send_tail(&ledger, from, &query, &records) => sent,
                    () = records.closed() => return,
                    _ = stop.stopping() => Err(Failure::Stopping),
                };
                if let Err(failure) = sent {
                    drop(records.send(Err(status::of(&failure, &request_id))).await);
                }
            }));
            Ok(Box::pin(ReceiverStream::new(stream)) as Self::TailStream)
        })
        .await
    }

    type ExportStream = Answers<AuditExportResponse>;

    async fn export(
        &self,
        request: Request<AuditExportRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        let read = |message: AuditExportRequest| {
            if message.size.is_some() {
                return Err(Failure::NotBuilt("size: exporting an earlier size of the log"));
            }
            Ok(message.first_sequence)
        };
        self.answer(request, read, |call, from| async move {
            let draft = self.broker.permit(&call, Action::QueryAudit, Resource::System, "export", "").await?;
            self.broker.note(draft).await?;
            let ledger = self.broker.ledger.clone();
            let head = ledger.checkpoint()?;
            let checkpoint = self.signed(&head);
            let (pieces, stream) = mpsc::channel(STREAM_BUFFER);
            let (stop, request_id) = (self.tasks.clone(), call.request_id.clone());
            drop(self.tasks.finish(async move {
                let sent = tokio::select! {
                    sent = send_export(&ledger, from, head.size, checkpoint, &pieces) => sent,
                    () = pieces.closed() => return,
                    _ = stop.stopping() => Err(Failure::Stopping),
                };
                if let Err(failure) = sent {
                    drop(pieces.send(Err(status::of(&failure, &request_id))).await);
                }
            }));
            Ok(Box::pin(ReceiverStream::new(stream)) as Self::ExportStream)
        })
        .await
    }

    /// For everybody: a checkpoint says nothing of what is in the log, and witnesses need it.
    async fn checkpoint(
        &self,
        request: Request<AuditCheckpointRequest>,
    ) -> Result<Response<AuditCheckpointResponse>, Status> {
        self.answer(request, Ok, |_, AuditCheckpointRequest {}| async move {
            let head = self.broker.ledger.checkpoint()?;
            Ok(AuditCheckpointResponse { checkpoint: Some(self.signed(&head)) })
        })
        .await
    }

    async fn consistency_proof(
        &self,
        request: Request<AuditConsistencyProofRequest>,
    ) -> Result<Response<AuditConsistencyProofResponse>, Status> {
        let read = |message: AuditConsistencyProofRequest| Ok((message.old_size, message.new_size));
        self.answer(request, read, |_, (old, new)| async move {
            let head = self.broker.ledger.checkpoint()?;
            if new.is_some_and(|new| new != head.size) {
                return Err(Failure::NotBuilt("new_size: a proof to an earlier size of the log"));
            }
            let hashes = self.broker.ledger.consistency_proof(old, head.size).await?;
            Ok(AuditConsistencyProofResponse {
                hashes: hashes.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
                checkpoint: Some(self.signed(&head)),
            })
        })
        .await
    }

    async fn journal(
        &self,
        request: Request<AuditJournalRequest>,
    ) -> Result<Response<AuditJournalResponse>, Status> {
        self.answer(request, local_reads, |call, reads| async move {
            self.broker.journal(&call, reads).await?;
            Ok(AuditJournalResponse {})
        })
        .await
    }
}

impl Api {
    fn signed(&self, head: &SignedHead) -> SignedCheckpoint {
        SignedCheckpoint { note: head.note.clone(), verifier_key: self.verifier_key.clone() }
    }
}

async fn send_tail(
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

async fn send_export(
    ledger: &Ledger,
    mut from: u64,
    size: u64,
    checkpoint: SignedCheckpoint,
    pieces: &mpsc::Sender<Result<AuditExportResponse, Status>>,
) -> Result<(), Failure> {
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

fn query(filter: Option<AuditFilter>) -> Result<AuditQuery, Failure> {
    let Some(filter) = filter else { return Ok(AuditQuery::default()) };
    if filter.decision != i32::from(v1::Decision::Unspecified) {
        let decision = decision_from_wire("decision", filter.decision)?;
        if decision == bursar_core::audit::Decision::Allow {
            return Err(Failure::NotBuilt("decision: use `outcome`"));
        }
    }
    let given = |text: String| (!text.is_empty()).then_some(text);
    let action = match filter.actions.as_slice() {
        [] => None,
        [action] => {
            Some(action.parse::<Action>().map_err(|source| WireError::Action { field: "actions", source })?)
        }
        _ => return Err(Failure::NotBuilt("actions: more than one at a time")),
    };
    let outcome = match (filter.outcome, filter.decision) {
        (0, 0) => None,
        (0, _) => Some(bursar_core::audit::Outcome::Denied),
        (outcome, _) => Some(outcome_from_wire("outcome", outcome)?),
    };
    let principal = given(filter.principal).map(|text| SpiffeId::parse(&text));
    let principal =
        principal.transpose().map_err(|source| WireError::SpiffeId { field: "principal", source })?;
    let lease_id = given(filter.lease_id).map(|text| text.parse::<LeaseId>());
    let time = |field, time: Option<prost_types::Timestamp>| {
        time.map(|time| timestamp_from_wire(field, Some(time))).transpose()
    };
    Ok(AuditQuery {
        principal,
        node: None,
        action,
        resource: given(filter.reference_prefix),
        environment: None,
        lease_id: lease_id.transpose().map_err(|source| WireError::LeaseId { field: "lease_id", source })?,
        request_id: given(filter.request_id),
        outcome,
        since: time("start_time", filter.start_time)?,
        until: time("end_time", filter.end_time)?,
    })
}

fn local_reads(message: AuditJournalRequest) -> Result<Vec<LocalRead>, Failure> {
    if message.reads.is_empty() || message.reads.len() > limits::BATCH {
        return Err(Failure::Invalid {
            field: "reads",
            message: format!("holds 1 to {} reads", limits::BATCH),
        });
    }
    let read = |read: v1::LocalRead| {
        Ok(LocalRead {
            lease: read
                .lease_id
                .parse()
                .map_err(|source| WireError::LeaseId { field: "lease_id", source })?,
            workload: read.workload.unwrap_or_default(),
            count: read.count.max(1),
            first: timestamp_from_wire("first_at", read.first_at)?,
            last: timestamp_from_wire("last_at", read.last_at)?,
        })
    };
    message.reads.into_iter().map(read).collect()
}

const STREAM_BUFFER: usize = 16;
const LINES: usize = 1000;
