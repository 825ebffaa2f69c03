//! `bursar.v1.Audit`.

mod filter;
mod stream;

use std::ops::Range;
use std::pin::Pin;

use bursar_core::audit::Action;
use bursar_core::tlog::Hash;
use bursar_proto::convert::{WireError, timestamp_from_wire};
use bursar_proto::limits;
use bursar_proto::v1;
use bursar_proto::v1::audit_server::Audit;
use bursar_proto::v1::{
    AuditCheckpointRequest, AuditCheckpointResponse, AuditConsistencyProofRequest,
    AuditConsistencyProofResponse, AuditExportRequest, AuditExportResponse, AuditInclusionProofRequest,
    AuditInclusionProofResponse, AuditJournalRequest, AuditJournalResponse, AuditQueryRequest,
    AuditQueryResponse, AuditTailRequest, AuditTailResponse, SignedCheckpoint,
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Api, page, status};
use crate::failure::Failure;
use crate::journal::LocalRead;
use crate::ledger::{AuditQuery, LedgerError, SignedHead};
use crate::policy::Resource;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Audit for Api {
    async fn query(
        &self,
        request: Request<AuditQueryRequest>,
    ) -> Result<Response<AuditQueryResponse>, Status> {
        let read = |message: AuditQueryRequest| {
            let order = filter::order(message.order());
            let query = AuditQuery { order, ..filter::query(message.filter)? };
            Ok((query, page::read(message.page_size, message.page_token)?))
        };
        self.answer(request, read, |call, (query, page)| async move {
            let draft = self.broker.permit(&call, Action::QueryAudit, Resource::System, "audit", "").await?;
            let ledger = &self.broker.ledger;
            let found = async { Ok((ledger.audit(query, page).await?, ledger.first_kept().await?)) };
            let (found, first) = self.broker.observe(draft, found).await?;
            Ok(AuditQueryResponse {
                records: found.items.into_iter().map(Into::into).collect(),
                next_page_token: found.next.unwrap_or_default(),
                first_sequence: first,
            })
        })
        .await
    }

    type TailStream = Answers<AuditTailResponse>;

    async fn tail(&self, request: Request<AuditTailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let read = |message: AuditTailRequest| Ok((message.first_sequence, filter::query(message.filter)?));
        self.answer(request, read, |call, (from, query)| async move {
            let draft = self.broker.permit(&call, Action::QueryAudit, Resource::System, "tail", "").await?;
            self.broker.note(draft).await?;
            let ledger = self.broker.ledger.clone();
            let from = from.unwrap_or_else(|| *ledger.appended().borrow());
            let (records, stream) = mpsc::channel(STREAM_BUFFER);
            let (stop, request_id) = (self.tasks.clone(), call.request_id.clone());
            drop(self.tasks.finish(async move {
                let sent = tokio::select! {
                    sent = stream::send_tail(&ledger, from, &query, &records) => sent,
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
        let read = |message: AuditExportRequest| Ok((message.first_sequence, message.size));
        self.answer(request, read, |call, (from, size)| async move {
            let draft = self.broker.permit(&call, Action::QueryAudit, Resource::System, "export", "").await?;
            let (extent, head) = self.broker.observe(draft, self.extent(from, size)).await?;
            let ledger = self.broker.ledger.clone();
            let checkpoint = self.signed(&head);
            let (pieces, stream) = mpsc::channel(STREAM_BUFFER);
            let (stop, request_id) = (self.tasks.clone(), call.request_id.clone());
            drop(self.tasks.finish(async move {
                let sent = tokio::select! {
                    sent = stream::send_export(&ledger, extent, checkpoint, &pieces) => sent,
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
            let head = self.head(new).await?;
            let hashes = self.broker.ledger.consistency_proof(old, head.size).await?;
            Ok(AuditConsistencyProofResponse { hashes: wire(&hashes), checkpoint: Some(self.signed(&head)) })
        })
        .await
    }

    async fn inclusion_proof(
        &self,
        request: Request<AuditInclusionProofRequest>,
    ) -> Result<Response<AuditInclusionProofResponse>, Status> {
        let read = |message: AuditInclusionProofRequest| Ok((message.sequence, message.size));
        self.answer(request, read, |call, (sequence, size)| async move {
            let shown = format!("record {sequence}");
            let draft = self.broker.permit(&call, Action::QueryAudit, Resource::System, &shown, "").await?;
            let proven = async {
                let head = self.head(size).await?;
                Ok((self.broker.ledger.inclusion_proof(sequence, head.size).await?, head))
            };
            let ((record, hashes), head) = self.broker.observe(draft, proven).await?;
            Ok(AuditInclusionProofResponse {
                record: record.unwrap_or_default(),
                hashes: wire(&hashes),
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

    /// The signed head of a size; without one, the newest.
    async fn head(&self, size: Option<u64>) -> Result<SignedHead, Failure> {
        match size {
            Some(size) => Ok(self.broker.ledger.checkpoint_at(size).await?),
            None => Ok(self.broker.ledger.checkpoint()?),
        }
    }

    /// Which records an export has, and the head over them.
    async fn extent(&self, from: u64, size: Option<u64>) -> Result<(Range<u64>, SignedHead), Failure> {
        let (first, head) = (self.broker.ledger.first_kept().await?, self.head(size).await?);
        match from {
            0 if first <= head.size => Ok((first..head.size, head)),
            0 => Err(LedgerError::Pruned { from, first }.into()),
            from if from < first => Err(LedgerError::Pruned { from, first }.into()),
            from if from > head.size => {
                Err(LedgerError::ProofRange { old: from, new: head.size, size: head.size }.into())
            }
            from => Ok((from..head.size, head)),
        }
    }
}

fn wire(hashes: &[Hash]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.as_bytes().to_vec()).collect()
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
