//! The services of the fake broker.

use std::pin::Pin;
use std::sync::Arc;

use bursar_core::{Clock, SystemClock};
use bursar_proto::convert::timestamp_to_wire;
use bursar_proto::v1::audit_server::Audit;
use bursar_proto::v1::environments_server::Environments;
use bursar_proto::v1::leases_server::Leases;
use bursar_proto::v1::nodes_join_request::Credential;
use bursar_proto::v1::nodes_server::Nodes;
use bursar_proto::v1::secrets_server::Secrets;
use bursar_proto::v1::secrets_watch_response::Event;
use bursar_proto::v1::*;
use bursar_proto::{REQUEST_ID_METADATA_KEY, Reason};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use tonic_types::StatusExt;

use super::Authority;
use super::broker::Script;

#[derive(Clone)]
pub(super) struct Fake {
    pub(super) script: Arc<Script>,
    pub(super) authority: Arc<Authority>,
}

impl Fake {
    async fn begin<M>(
        &self,
        method: &'static str,
        request: &Request<M>,
    ) -> Result<Option<WorkloadContext>, Status> {
        let context = WorkloadContext::of(request.metadata()).expect("context");
        let gate = {
            let mut state = self.script.state();
            *state.calls.entry(method).or_default() += 1;
            state.contexts.extend(context.clone());
            let shown = request.metadata().get("authorization").and_then(|shown| shown.to_str().ok());
            state.authorizations.extend(shown.map(str::to_owned));
            let id = request.metadata().get(REQUEST_ID_METADATA_KEY).and_then(|id| id.to_str().ok());
            state.request_ids.extend(id.map(str::to_owned));
            state.gate.clone()
        };
        if let Some(gate) = gate {
            gate.acquire().await.expect("open").forget();
        }
        match self.script.state().refusal {
            Some(reason) => {
                let details = reason.details("test");
                Err(Status::with_error_details(reason.code(), format!("refused: {reason}"), details))
            }
            None => Ok(context),
        }
    }

    fn certify(&self, csr: &[u8]) -> Option<NodeCertificate> {
        let mut state = self.script.state();
        let life = if state.lives.len() > 1 { state.lives.remove(0) } else { state.lives[0] };
        let now = SystemClock.now();
        let leaf = self.authority.node(&state.node, csr, now, life);
        state.certified.push(csr.to_vec());
        Some(NodeCertificate {
            chain: vec![leaf],
            trust_bundle: vec![self.authority.root.clone()],
            spiffe_id: format!("spiffe://example.org/node/{}", state.node),
            not_after: Some(timestamp_to_wire(now + life.1)),
        })
    }

    fn read_one(
        &self,
        request: &SecretsReadRequest,
        context: Option<&WorkloadContext>,
    ) -> Result<SecretsReadResponse, Status> {
        let mut state = self.script.state();
        let value = state.secrets.get(&request.reference).cloned();
        let missing = || {
            let reason = Reason::SecretNotFound;
            Status::with_error_details(reason.code(), "no such secret", reason.details("test"))
        };
        let value = value.ok_or_else(missing)?;
        let lease = Some(state.lease(&request.reference, context));
        Ok(SecretsReadResponse { value, version: "1".to_owned(), lease, age: None })
    }
}

#[tonic::async_trait]
impl Nodes for Fake {
    async fn join(&self, request: Request<NodesJoinRequest>) -> Result<Response<NodesJoinResponse>, Status> {
        let message = request.into_inner();
        {
            let mut state = self.script.state();
            *state.calls.entry("join").or_default() += 1;
            let reason = match &message.credential {
                Some(Credential::Token(token)) if *token == state.token => None,
                Some(Credential::ServiceAccountToken(token)) if *token == state.service_account_token => None,
                Some(Credential::ServiceAccountToken(_)) => Some(Reason::TokenInvalid),
                _ => Some(Reason::JoinTokenInvalid),
            };
            if let Some(reason) = reason {
                let refused =
                    Status::with_error_details(reason.code(), "no such token", reason.details("test"));
                return Err(refused);
            }
            state.token = b"used".to_vec();
        }
        Ok(Response::new(NodesJoinResponse { certificate: self.certify(&message.csr) }))
    }

    async fn renew_certificate(
        &self,
        request: Request<NodesRenewCertificateRequest>,
    ) -> Result<Response<NodesRenewCertificateResponse>, Status> {
        *self.script.state().calls.entry("renew_certificate").or_default() += 1;
        if request.peer_certs().is_none_or(|certs| certs.is_empty()) {
            return Err(Status::unauthenticated("no certificate"));
        }
        let certificate = self.certify(&request.into_inner().csr);
        Ok(Response::new(NodesRenewCertificateResponse { certificate }))
    }

    async fn create_join_token(
        &self,
        _: Request<NodesCreateJoinTokenRequest>,
    ) -> Result<Response<NodesCreateJoinTokenResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list(&self, _: Request<NodesListRequest>) -> Result<Response<NodesListResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn readmit(
        &self,
        _: Request<NodesReadmitRequest>,
    ) -> Result<Response<NodesReadmitResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn evict(&self, _: Request<NodesEvictRequest>) -> Result<Response<NodesEvictResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

type Events = Pin<Box<dyn Stream<Item = Result<SecretsWatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Secrets for Fake {
    async fn read(
        &self,
        request: Request<SecretsReadRequest>,
    ) -> Result<Response<SecretsReadResponse>, Status> {
        let context = self.begin("read", &request).await?;
        self.read_one(request.get_ref(), context.as_ref()).map(Response::new)
    }

    async fn batch_read(
        &self,
        request: Request<SecretsBatchReadRequest>,
    ) -> Result<Response<SecretsBatchReadResponse>, Status> {
        let context = self.begin("batch_read", &request).await?;
        let requests = &request.get_ref().requests;
        let responses = requests.iter().map(|request| self.read_one(request, context.as_ref()));
        Ok(Response::new(SecretsBatchReadResponse { responses: responses.collect::<Result<_, _>>()? }))
    }

    type WatchStream = Events;

    async fn watch(&self, request: Request<SecretsWatchRequest>) -> Result<Response<Events>, Status> {
        *self.script.state().calls.entry("watch").or_default() += 1;
        let anybody = self.script.state().tells_anybody;
        if !anybody && request.peer_certs().is_none_or(|certs| certs.is_empty()) {
            return Err(Status::unauthenticated("no certificate"));
        }
        let events = tokio_stream::wrappers::BroadcastStream::new(self.script.events.subscribe());
        let first = tokio_stream::once(Event::Resync(Resync {}));
        let events = first
            .chain(events.filter_map(Result::ok))
            .map(|event| Ok(SecretsWatchResponse { position: None, time: None, event: Some(event) }));
        Ok(Response::new(Box::pin(events)))
    }
}

#[tonic::async_trait]
impl Environments for Fake {
    async fn resolve(
        &self,
        request: Request<EnvironmentsResolveRequest>,
    ) -> Result<Response<EnvironmentsResolveResponse>, Status> {
        let context = self.begin("resolve", &request).await?;
        let mut state = self.script.state();
        let value = state.secrets.get("kv/app").cloned().unwrap_or_default();
        let lease = state.lease("kv/app", context.as_ref());
        let variable = |name: &str, value, lease_ids: Vec<String>| ResolvedVariable {
            name: name.to_owned(),
            value,
            secret: !lease_ids.is_empty(),
            lease_ids,
            on_change: 0,
            max_stale: None,
            age: None,
        };
        Ok(Response::new(EnvironmentsResolveResponse {
            revision: 7,
            variables: vec![
                variable("LEVEL", b"info".to_vec(), Vec::new()),
                variable("PASSWORD", value, vec![lease.id.clone()]),
            ],
            files: Vec::new(),
            leases: vec![lease],
            offline: None,
        }))
    }

    async fn get(
        &self,
        request: Request<EnvironmentsGetRequest>,
    ) -> Result<Response<EnvironmentsGetResponse>, Status> {
        self.begin("environment", &request).await?;
        Ok(Response::new(EnvironmentsGetResponse { environment: None, document: "passed on".to_owned() }))
    }

    async fn apply(
        &self,
        _: Request<EnvironmentsApplyRequest>,
    ) -> Result<Response<EnvironmentsApplyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list(
        &self,
        _: Request<EnvironmentsListRequest>,
    ) -> Result<Response<EnvironmentsListResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete(
        &self,
        _: Request<EnvironmentsDeleteRequest>,
    ) -> Result<Response<EnvironmentsDeleteResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn check(
        &self,
        _: Request<EnvironmentsCheckRequest>,
    ) -> Result<Response<EnvironmentsCheckResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn diff(
        &self,
        _: Request<EnvironmentsDiffRequest>,
    ) -> Result<Response<EnvironmentsDiffResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl Leases for Fake {
    async fn get(&self, request: Request<LeasesGetRequest>) -> Result<Response<LeasesGetResponse>, Status> {
        self.begin("get", &request).await?;
        let lease = self.script.state().leases.get(&request.get_ref().lease_id).cloned();
        Ok(Response::new(LeasesGetResponse { lease }))
    }

    async fn renew(
        &self,
        request: Request<LeasesRenewRequest>,
    ) -> Result<Response<LeasesRenewResponse>, Status> {
        self.begin("renew", &request).await?;
        let mut state = self.script.state();
        if state.unrenewable {
            let reason = Reason::LeaseNotFound;
            return Err(Status::with_error_details(reason.code(), "no such lease", reason.details("test")));
        }
        let lease = state.leases.get(&request.get_ref().lease_id).cloned();
        let lease = lease.map(|lease| state.grant(lease));
        Ok(Response::new(LeasesRenewResponse { lease }))
    }

    async fn revoke(
        &self,
        request: Request<LeasesRevokeRequest>,
    ) -> Result<Response<LeasesRevokeResponse>, Status> {
        self.begin("revoke", &request).await?;
        let lease = self.script.state().leases.remove(&request.get_ref().lease_id);
        Ok(Response::new(LeasesRevokeResponse { lease }))
    }

    async fn list(&self, _: Request<LeasesListRequest>) -> Result<Response<LeasesListResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn revoke_many(
        &self,
        _: Request<LeasesRevokeManyRequest>,
    ) -> Result<Response<LeasesRevokeManyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn revocations(
        &self,
        _: Request<LeasesRevocationsRequest>,
    ) -> Result<Response<LeasesRevocationsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn top(&self, _: Request<LeasesTopRequest>) -> Result<Response<LeasesTopResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl Audit for Fake {
    async fn journal(
        &self,
        request: Request<AuditJournalRequest>,
    ) -> Result<Response<AuditJournalResponse>, Status> {
        self.begin("journal", &request).await?;
        let reads = request.into_inner().reads;
        let mut state = self.script.state();
        if reads.iter().any(|read| Some(&read.lease_id) == state.unjournaled.as_ref()) {
            let reason = Reason::LeaseNotFound;
            return Err(Status::with_error_details(reason.code(), "no such lease", reason.details("test")));
        }
        state.journal.extend(reads);
        Ok(Response::new(AuditJournalResponse {}))
    }

    async fn checkpoint(
        &self,
        request: Request<AuditCheckpointRequest>,
    ) -> Result<Response<AuditCheckpointResponse>, Status> {
        self.begin("checkpoint", &request).await?;
        let state = self.script.state();
        let mut checkpoint = state.checkpoint.clone();
        checkpoint.note = state.newest.clone().unwrap_or(checkpoint.note);
        Ok(Response::new(AuditCheckpointResponse { checkpoint: Some(checkpoint) }))
    }

    async fn consistency_proof(
        &self,
        request: Request<AuditConsistencyProofRequest>,
    ) -> Result<Response<AuditConsistencyProofResponse>, Status> {
        self.begin("consistency_proof", &request).await?;
        let state = self.script.state();
        if let Some(reason) = state.unproven {
            return Err(Status::with_error_details(reason.code(), "no proof", reason.details("test")));
        }
        let (hashes, checkpoint) = (state.proof.clone(), Some(state.checkpoint.clone()));
        Ok(Response::new(AuditConsistencyProofResponse { hashes, checkpoint }))
    }

    async fn inclusion_proof(
        &self,
        _: Request<AuditInclusionProofRequest>,
    ) -> Result<Response<AuditInclusionProofResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn query(&self, _: Request<AuditQueryRequest>) -> Result<Response<AuditQueryResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type TailStream = tokio_stream::Empty<Result<AuditTailResponse, Status>>;

    async fn tail(&self, _: Request<AuditTailRequest>) -> Result<Response<Self::TailStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }

    type ExportStream = tokio_stream::Empty<Result<AuditExportResponse, Status>>;

    async fn export(&self, _: Request<AuditExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        Err(Status::unimplemented(""))
    }
}
