//! `bursar.v1.Nodes`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bursar_core::Secret;
use bursar_core::audit::Action;
use bursar_proto::convert::{duration_from_wire, timestamp_to_wire, wire_bytes};
use bursar_proto::limits;
use bursar_proto::v1;
use bursar_proto::v1::nodes_server::Nodes;
use bursar_proto::v1::{
    NodesCreateJoinTokenRequest, NodesCreateJoinTokenResponse, NodesEvictRequest, NodesEvictResponse,
    NodesJoinRequest, NodesJoinResponse, NodesListRequest, NodesListResponse, NodesRenewCertificateRequest,
    NodesRenewCertificateResponse,
};
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

    /// Open: the token is the credential. One that never was leaves nothing in the ledger, since nobody is known and
    /// strangers must not fill it; it is counted and logged.
    async fn join(&self, request: Request<NodesJoinRequest>) -> Result<Response<NodesJoinResponse>, Status> {
        let stranger = request.extensions().get::<Stranger>().cloned();
        let request_id = stranger.as_ref().map(|stranger| stranger.request_id.clone()).unwrap_or_default();
        let joined = self.join_stranger(stranger, request.into_inner()).await;
        let joined = joined.inspect_err(|failure| {
            tracing::warn!(%request_id, kind = failure.kind(), "a node could not join");
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
                let spiffe_id = self.membership.node_id(&name)?.to_string();
                nodes.push(wire_node(name, spiffe_id, node));
            }
            Ok(NodesListResponse { nodes, next_page_token: listed.next.unwrap_or_default() })
        })
        .await
    }

    async fn evict(
        &self,
        request: Request<NodesEvictRequest>,
    ) -> Result<Response<NodesEvictResponse>, Status> {
        let read = |message: NodesEvictRequest| {
            Ok((name(message.node)?, text("reason", message.reason, limits::REASON)?))
        };
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
}

impl Api {
    async fn join_stranger(
        &self,
        stranger: Option<Stranger>,
        mut message: NodesJoinRequest,
    ) -> Result<NodeCertificate, Failure> {
        let stranger = stranger.ok_or(Failure::Unauthenticated)?;
        let peer = stranger.handshake.map(|handshake| handshake.address).ok_or(Failure::Unauthenticated)?;
        if message.token.len() > limits::JOIN_TOKEN {
            return Err(Failure::JoinToken(TokenFault::Unknown));
        }
        let token: Secret = message.take_token();
        let request = csr(std::mem::take(&mut message.csr))?;
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
            credential: data_encoding::HEXLOWER.encode(&Sha256::digest(&request)),
            credential_expires: token.expires_at(),
            instance: None,
            ttl: None,
            peer: Some(peer),
        };
        let call = Call {
            caller: Arc::new(caller),
            request_id: stranger.request_id,
            trace_id: None,
            time: self.broker.clock.now(),
            arrived: Instant::now(),
        };
        let draft = call.asks(Action::Join, id.as_str());
        self.membership.join(token, &request, peer.ip(), draft).await
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

fn csr(csr: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if csr.len() > limits::CSR {
        return Err(Failure::Invalid { field: "csr", message: format!("is at most {} bytes", limits::CSR) });
    }
    Ok(csr)
}

fn wire_node(name: String, spiffe_id: String, node: Node) -> v1::Node {
    v1::Node {
        name,
        spiffe_id,
        joined_at: Some(timestamp_to_wire(node.joined_at)),
        last_seen_at: Some(timestamp_to_wire(node.seen_at)),
        address: node.address.unwrap_or_default(),
        certificate_not_after: Some(timestamp_to_wire(node.certificate_not_after)),
        evicted_at: node.evicted_at.map(timestamp_to_wire),
        evict_reason: node.evict_reason.unwrap_or_default(),
    }
}

const TOKEN_LIFE: Duration = Duration::from_secs(600);
const TOKEN_MIN_LIFE: Duration = Duration::from_secs(5);
const TOKEN_MAX_LIFE: Duration = Duration::from_secs(24 * 3600);
