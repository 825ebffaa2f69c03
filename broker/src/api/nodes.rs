//! `bursar.v1.Nodes`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bursar_core::audit::Action;
use bursar_core::{Secret, SpiffeId};
use bursar_proto::convert::{JoinCredential, duration_from_wire, timestamp_to_wire, wire_bytes};
use bursar_proto::limits;
use bursar_proto::v1;
use bursar_proto::v1::nodes_server::Nodes;
use bursar_proto::v1::{
    NodesCreateJoinTokenRequest, NodesCreateJoinTokenResponse, NodesEvictRequest, NodesEvictResponse,
    NodesJoinRequest, NodesJoinResponse, NodesListRequest, NodesListResponse, NodesReadmitRequest,
    NodesReadmitResponse, NodesRenewCertificateRequest, NodesRenewCertificateResponse,
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::layer::Stranger;
use super::page::{self, text};
use super::{Api, status};
use crate::call::Call;
use crate::failure::Failure;
use crate::identity::nodes::{Node, TokenFault};
use crate::identity::{Caller, Method};
use crate::membership::NodeCertificate;
use crate::policy::{Facts, PrincipalFacts, Resource};

#[tonic::async_trait]
impl Nodes for Api {
    async fn create_join_token(
        &self,
        request: Request<NodesCreateJoinTokenRequest>,
    ) -> Result<Response<NodesCreateJoinTokenResponse>, Status> {
        self.answer(request, token_request, |call, (node, life, address)| async move {
            let resource = Resource::Node(&node);
            let draft = self.broker.permit(&call, Action::CreateJoinToken, resource, &node, "").await?;
            let work = self.membership.create_token(&node, life, address, &call.caller, draft.clone());
            let issued = self.broker.settle(draft, work).await?;
            Ok(NodesCreateJoinTokenResponse {
                token: wire_bytes(&issued.token),
                expires_at: Some(timestamp_to_wire(issued.expires_at)),
                spiffe_id: issued.node.to_string(),
            })
        })
        .await
    }

    /// Open: the message says what counts. What names nobody leaves nothing in the ledger, since strangers must not fill
    /// it; it is counted and logged.
    async fn join(&self, request: Request<NodesJoinRequest>) -> Result<Response<NodesJoinResponse>, Status> {
        let stranger = request.extensions().get::<Stranger>().cloned();
        let request_id = stranger.as_ref().map(|stranger| stranger.request_id.clone()).unwrap_or_default();
        let mut method = NO_METHOD;
        let joined = self.join_stranger(stranger, request.into_inner(), &mut method).await;
        self.metrics.join(method, joined.as_ref().map_or_else(Failure::kind, |_| "ok"));
        let joined = joined.inspect_err(|failure| {
            let cause = match failure {
                Failure::Token(refused) => refused.as_str(),
                other => other.kind(),
            };
            tracing::warn!(%request_id, method, kind = failure.kind(), cause, "a node could not join");
        });
        joined
            .map(|certificate| {
                Response::new(NodesJoinResponse { certificate: Some(self.certificate(certificate)) })
            })
            .map_err(|failure| status::of(&failure, &request_id))
    }

    async fn renew_certificate(
        &self,
        request: Request<NodesRenewCertificateRequest>,
    ) -> Result<Response<NodesRenewCertificateResponse>, Status> {
        self.answer(
            request,
            |message| csr(message.csr),
            |call, csr| async move {
                let draft = call.asks(Action::RenewCertificate, call.caller.id().as_str());
                let work = self.membership.renew(&call.caller, &csr, draft.clone());
                let renewed = self.broker.settle(draft, work).await?;
                Ok(NodesRenewCertificateResponse { certificate: Some(self.certificate(renewed)) })
            },
        )
        .await
    }

    async fn list(&self, request: Request<NodesListRequest>) -> Result<Response<NodesListResponse>, Status> {
        let read = |message: NodesListRequest| page::read(message.page_size, message.page_token);
        self.answer(request, read, |call, page| async move {
            let draft = self.broker.permit(&call, Action::ListNodes, Resource::System, "nodes", "").await?;
            let listed = self.broker.observe(draft, self.membership.list(page)).await?;
            let mut nodes = Vec::with_capacity(listed.items.len());
            for (name, node) in listed.items {
                let id = self.membership.node_id(&name)?;
                let seen = self.membership.last_seen(&id, &node);
                nodes.push(wire_node(name, &id, seen, node));
            }
            Ok(NodesListResponse { nodes, next_page_token: listed.next.unwrap_or_default() })
        })
        .await
    }

    async fn evict(
        &self,
        request: Request<NodesEvictRequest>,
    ) -> Result<Response<NodesEvictResponse>, Status> {
        let read = |message: NodesEvictRequest| named(message.node, message.reason);
        self.answer(request, read, |call, (node, reason)| async move {
            let resource = Resource::Node(&node);
            let draft = self.broker.permit(&call, Action::EvictNode, resource, &node, &reason).await?;
            let work = self.membership.evict(&node, &reason, &call.caller, draft.clone());
            let mut leases_revoked = 0;
            for revocation in self.broker.settle(draft, work).await? {
                leases_revoked += self.broker.leases.carried_out(Some(revocation)).await?.marked;
            }
            Ok(NodesEvictResponse { leases_revoked })
        })
        .await
    }

    async fn readmit(
        &self,
        request: Request<NodesReadmitRequest>,
    ) -> Result<Response<NodesReadmitResponse>, Status> {
        let read = |message: NodesReadmitRequest| named(message.node, message.reason);
        self.answer(request, read, |call, (node, reason)| async move {
            let resource = Resource::Node(&node);
            let draft = self.broker.permit(&call, Action::ReadmitNode, resource, &node, &reason).await?;
            let work = self.membership.readmit(&node, &call.caller, draft.clone());
            self.broker.settle(draft, work).await?;
            Ok(NodesReadmitResponse {})
        })
        .await
    }
}

impl Api {
    async fn join_stranger(
        &self,
        stranger: Option<Stranger>,
        mut message: NodesJoinRequest,
        method: &mut &'static str,
    ) -> Result<NodeCertificate, Failure> {
        let Stranger { request_id, handshake } = stranger.ok_or(Failure::Unauthenticated)?;
        let handshake = handshake.ok_or(Failure::Unauthenticated)?;
        let credential = message.take_credential()?;
        let request = csr(std::mem::take(&mut message.csr))?;
        let now = self.broker.clock.now();
        let (machine, admitted) = match credential {
            JoinCredential::Token(token) => {
                *method = Method::JoinToken.as_str();
                return self.join_by_token(token, &request, handshake.address, request_id).await;
            }
            JoinCredential::ServiceAccountToken(token) => {
                *method = Method::Kubernetes.as_str();
                let bearer = self.tokens.sent(&token, handshake.address, now).await;
                let bearer = bearer.map_err(Failure::Token)?;
                let admitted = self.membership.rules.by_token(&bearer);
                (bearer, admitted)
            }
            JoinCredential::ClientCertificate => {
                *method = Method::Mtls.as_str();
                let machine = self.membership.caller(&handshake, now)?;
                let admitted = self.membership.rules.by_certificate(&machine);
                (machine, admitted)
            }
        };
        // Known by now, whatever comes of it: what follows is recorded, and paid for like any call.
        self.pace.principal(machine.id())?;
        let call = join_call(machine, request_id, now);
        match admitted {
            Ok(admitted) => {
                let draft = call.asks(Action::Join, self.membership.node_id(&admitted.node)?.as_str());
                self.membership.join_by_rule(admitted, &request, handshake.address.ip(), draft).await
            }
            Err(fault) => {
                let draft = call.asks(Action::Join, call.caller.id().as_str());
                Err(self.broker.failed(draft, Failure::NotAdmitted(fault)).await)
            }
        }
    }

    async fn join_by_token(
        &self,
        token: Secret,
        request: &[u8],
        peer: SocketAddr,
        request_id: Arc<str>,
    ) -> Result<NodeCertificate, Failure> {
        if token.len() > limits::JOIN_TOKEN {
            return Err(Failure::JoinToken(TokenFault::Unknown));
        }
        let token = self.membership.token(&token).await?;
        let id = self.membership.node_id(token.node())?;
        let facts = Facts {
            id: id.clone(),
            method: Method::JoinToken.as_str().to_owned(),
            node: None,
            selectors: Vec::new(),
            groups: Vec::new(),
        };
        let caller = Caller {
            facts: PrincipalFacts::new(facts),
            credential: data_encoding::HEXLOWER.encode(&Sha256::digest(request)),
            credential_expires: token.expires_at(),
            instance: None,
            ttl: None,
            peer: Some(peer),
            account: None,
        };
        let call = join_call(Arc::new(caller), request_id, self.broker.clock.now());
        let draft = call.asks(Action::Join, id.as_str());
        self.membership.join_by_token(token, request, peer.ip(), draft).await
    }

    fn certificate(&self, issued: NodeCertificate) -> v1::NodeCertificate {
        v1::NodeCertificate {
            chain: vec![issued.certificate.der.to_vec()],
            trust_bundle: vec![self.membership.authority.root().to_vec()],
            spiffe_id: issued.node.to_string(),
            not_after: Some(timestamp_to_wire(issued.certificate.not_after)),
        }
    }
}

fn join_call(caller: Arc<Caller>, request_id: Arc<str>, time: Timestamp) -> Call {
    Call { caller, request_id, trace_id: None, time, arrived: Instant::now() }
}

fn token_request(
    message: NodesCreateJoinTokenRequest,
) -> Result<(String, Duration, Option<IpAddr>), Failure> {
    let life = duration_from_wire("ttl", message.ttl)?.unwrap_or(TOKEN_LIFE);
    if !(TOKEN_MIN_LIFE..=TOKEN_MAX_LIFE).contains(&life) {
        let message = "is 5 seconds to 24 hours".to_owned();
        return Err(Failure::Invalid { field: "ttl", message });
    }
    let address = match message.address.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|_| Failure::Invalid { field: "address", message: "is an IP address".to_owned() })?,
        ),
    };
    Ok((name(message.node)?, life, address))
}

/// The name of a node as a request has it. It goes into the ledger whatever it is, so its length is bounded first.
fn name(node: String) -> Result<String, Failure> {
    text("node", node, limits::NODE_NAME)
}

/// A node, and why something is done to it.
fn named(node: String, reason: String) -> Result<(String, String), Failure> {
    Ok((name(node)?, text("reason", reason, limits::REASON)?))
}

fn csr(csr: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if csr.len() > limits::CSR {
        return Err(Failure::Invalid { field: "csr", message: format!("is at most {} bytes", limits::CSR) });
    }
    Ok(csr)
}

fn wire_node(name: String, id: &SpiffeId, seen: Timestamp, node: Node) -> v1::Node {
    v1::Node {
        name,
        spiffe_id: id.to_string(),
        joined_at: Some(timestamp_to_wire(node.joined_at)),
        last_seen_at: Some(timestamp_to_wire(seen)),
        address: node.address.unwrap_or_default(),
        certificate_not_after: Some(timestamp_to_wire(node.certificate_not_after)),
        evicted_at: node.evicted_at.map(timestamp_to_wire),
        evict_reason: node.evict_reason.unwrap_or_default(),
        let_in_by: node.let_in_by.as_str().to_owned(),
    }
}

/// Of a request that has nothing that lets a node in.
const NO_METHOD: &str = "none";
const TOKEN_LIFE: Duration = Duration::from_secs(600);
const TOKEN_MIN_LIFE: Duration = Duration::from_secs(5);
const TOKEN_MAX_LIFE: Duration = Duration::from_secs(24 * 3600);
