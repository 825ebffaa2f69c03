//! `bursar.v1.Leases`.

use std::num::NonZeroU64;

use bursar_core::audit::Action;
use bursar_core::{BackendName, LeaseId, LeaseState, SecretPath, SpiffeId};
use bursar_proto::convert::{WireError, duration_from_wire, lease_state_from_wire, timestamp_to_wire};
use bursar_proto::limits;
use bursar_proto::v1::leases_revoke_many_request::Selector;
use bursar_proto::v1::leases_server::Leases;
use bursar_proto::v1::{
    LeaseCount, LeaseGrouping, LeasesGetRequest, LeasesGetResponse, LeasesListRequest, LeasesListResponse,
    LeasesRenewRequest, LeasesRenewResponse, LeasesRevocationsRequest, LeasesRevocationsResponse,
    LeasesRevokeManyRequest, LeasesRevokeManyResponse, LeasesRevokeRequest, LeasesRevokeResponse,
    LeasesTopRequest, LeasesTopResponse,
};
use tonic::{Request, Response, Status};

use super::Api;
use super::page::{self, text};
use crate::failure::Failure;
use crate::ledger::{HolderKind, LeaseFilter, Page, Revocation, RevocationId, RevokeSelector};
use crate::policy::Resource;

#[tonic::async_trait]
impl Leases for Api {
    async fn get(&self, request: Request<LeasesGetRequest>) -> Result<Response<LeasesGetResponse>, Status> {
        self.answer(
            request,
            |message| id(&message.lease_id),
            |call, id| async move {
                let lease = self.broker.lease(&call, id).await?;
                Ok(LeasesGetResponse { lease: Some(lease.into()) })
            },
        )
        .await
    }

    async fn list(
        &self,
        request: Request<LeasesListRequest>,
    ) -> Result<Response<LeasesListResponse>, Status> {
        self.answer(request, filter, |call, (filter, page)| async move {
            let listed = self.broker.list_leases(&call, filter, page).await?;
            let leases = listed.items.into_iter().map(Into::into).collect();
            Ok(LeasesListResponse { leases, next_page_token: listed.next.unwrap_or_default() })
        })
        .await
    }

    async fn renew(
        &self,
        request: Request<LeasesRenewRequest>,
    ) -> Result<Response<LeasesRenewResponse>, Status> {
        let read = |message: LeasesRenewRequest| {
            Ok((id(&message.lease_id)?, duration_from_wire("ttl", message.ttl)?))
        };
        self.answer(request, read, |call, (id, ttl)| async move {
            let lease = self.broker.renew(&call, id, ttl).await?;
            Ok(LeasesRenewResponse { lease: Some(lease.into()) })
        })
        .await
    }

    async fn revoke(
        &self,
        request: Request<LeasesRevokeRequest>,
    ) -> Result<Response<LeasesRevokeResponse>, Status> {
        let read = |message: LeasesRevokeRequest| {
            let reason = text("reason", message.reason, limits::REASON)?;
            if message.force && reason.is_empty() {
                let message = "must be given where a lease is given up".to_owned();
                return Err(Failure::Invalid { field: "reason", message });
            }
            Ok((id(&message.lease_id)?, reason, message.force))
        };
        self.answer(request, read, |call, (id, reason, force)| async move {
            let lease = match force {
                true => self.broker.force_revoke(&call, id, &reason).await?,
                false => self.broker.revoke(&call, id, &reason).await?,
            };
            Ok(LeasesRevokeResponse { lease: Some(lease.into()) })
        })
        .await
    }

    async fn revoke_many(
        &self,
        request: Request<LeasesRevokeManyRequest>,
    ) -> Result<Response<LeasesRevokeManyResponse>, Status> {
        let read = |message: LeasesRevokeManyRequest| {
            let selector = message.selector.ok_or(WireError::Missing { field: "selector" })?;
            let shown = shown(&selector);
            Ok((
                revoke_selector(selector)?,
                shown,
                text("reason", message.reason, limits::REASON)?,
                message.dry_run,
            ))
        };
        self.answer(request, read, |call, (selector, shown, reason, dry_run)| async move {
            let draft = self.broker.permit(&call, Action::Revoke, Resource::System, &shown, &reason).await?;
            if dry_run {
                let matched = self.broker.observe(draft, self.broker.count_leases(&selector)).await?;
                return Ok(LeasesRevokeManyResponse { matched, revocation: None });
            }
            let (asked, record) = (draft.clone().asked(), draft.clone().as_revocation(&shown));
            let work = self.broker.leases.revoke_many(selector, asked, record);
            let revocation = self.broker.settle(draft, work).await?;
            Ok(LeasesRevokeManyResponse { matched: revocation.marked, revocation: Some(wire(revocation)) })
        })
        .await
    }

    async fn revocations(
        &self,
        request: Request<LeasesRevocationsRequest>,
    ) -> Result<Response<LeasesRevocationsResponse>, Status> {
        let read = |message: LeasesRevocationsRequest| {
            let id = (message.id > 0).then_some(RevocationId(message.id));
            Ok((id, limit(message.limit)?))
        };
        self.answer(request, read, |call, (id, limit)| async move {
            let draft =
                self.broker.permit(&call, Action::ListLeases, Resource::System, "revocations", "").await?;
            let list = async { Ok(self.broker.ledger.revocations(id, limit).await?) };
            let revocations = self.broker.observe(draft, list).await?.into_iter().map(wire).collect();
            Ok(LeasesRevocationsResponse { revocations })
        })
        .await
    }

    async fn top(&self, request: Request<LeasesTopRequest>) -> Result<Response<LeasesTopResponse>, Status> {
        self.answer(request, top, |call, (by, limit)| async move {
            let draft = self.broker.permit(&call, Action::ListLeases, Resource::System, "top", "").await?;
            let top = async { Ok(self.broker.ledger.top_holders(by, limit).await?) };
            let holders = self.broker.observe(draft, top).await?;
            let quotas = self.broker.ledger.quotas();
            let count = |(holder, live): (String, u64)| {
                let quota = quotas.of(by, &holder).live.map_or(0, NonZeroU64::get);
                LeaseCount { holder, live, quota }
            };
            let holders = holders.into_iter().map(count).collect();
            Ok(LeasesTopResponse { holders })
        })
        .await
    }
}

fn id(text: &str) -> Result<LeaseId, Failure> {
    Ok(text.parse().map_err(|source| WireError::LeaseId { field: "lease_id", source })?)
}

fn filter(message: LeasesListRequest) -> Result<(LeaseFilter, Page), Failure> {
    let state = |state: &i32| Ok::<LeaseState, Failure>(lease_state_from_wire("states", *state)?);
    let (backend, path) = match message.path_prefix.as_str() {
        "" => (given(&message.backend).map(BackendName::parse).transpose()?, None),
        prefix => prefix_parts(prefix)?,
    };
    let filter = LeaseFilter {
        states: message.states.iter().map(state).collect::<Result<_, _>>()?,
        principal: given(&message.principal).map(|text| spiffe_id("principal", text)).transpose()?,
        node: given(&message.node).map(|text| spiffe_id("node", text)).transpose()?,
        environment: given(&message.environment).map(str::to_owned),
        backend,
        path,
    };
    Ok((filter, page::read(message.page_size, message.page_token)?))
}

fn revoke_selector(selector: Selector) -> Result<RevokeSelector, Failure> {
    Ok(match selector {
        Selector::PathPrefix(prefix) => {
            let (backend, path) = prefix_parts(&prefix)?;
            let backend = backend.ok_or(WireError::Missing { field: "path_prefix" })?;
            RevokeSelector::PathPrefix { backend, path }
        }
        Selector::Principal(text) => RevokeSelector::Principal(spiffe_id("principal", &text)?),
        Selector::Node(text) => RevokeSelector::Node(spiffe_id("node", &text)?),
        Selector::Environment(name) => RevokeSelector::Environment(name),
    })
}

/// `BACKEND` or `BACKEND/PATH`: every secret at or below it.
fn prefix_parts(prefix: &str) -> Result<(Option<BackendName>, Option<SecretPath>), Failure> {
    Ok(match prefix.trim_end_matches('/').split_once('/') {
        None => (Some(BackendName::parse(prefix.trim_end_matches('/'))?), None),
        Some(_) => {
            let reference = bursar_core::Reference::parse(prefix.trim_end_matches('/'))?;
            (Some(reference.backend), Some(reference.path))
        }
    })
}

fn shown(selector: &Selector) -> String {
    let (kind, text) = match selector {
        Selector::PathPrefix(text) => ("path", text),
        Selector::Principal(text) => ("principal", text),
        Selector::Node(text) => ("node", text),
        Selector::Environment(text) => ("environment", text),
    };
    let text: String = text.chars().take(limits::REFERENCE).flat_map(char::escape_default).collect();
    format!("leases of {kind} {text}")
}

fn top(message: LeasesTopRequest) -> Result<(HolderKind, usize), Failure> {
    let by = match LeaseGrouping::try_from(message.group_by) {
        Ok(LeaseGrouping::Principal | LeaseGrouping::Unspecified) => HolderKind::Principal,
        Ok(LeaseGrouping::Backend) => HolderKind::Backend,
        Ok(LeaseGrouping::Node) => HolderKind::Node,
        Err(_) => return Err(WireError::UnknownValue { field: "group_by", value: message.group_by }.into()),
    };
    Ok((by, limit(message.limit)?))
}

fn limit(given: u32) -> Result<usize, Failure> {
    let limit = match given {
        0 => limits::TOP_DEFAULT,
        limit if limit <= limits::TOP => limit,
        _ => return Err(Failure::Invalid { field: "limit", message: format!("is at most {}", limits::TOP) }),
    };
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

fn wire(revocation: Revocation) -> bursar_proto::v1::Revocation {
    bursar_proto::v1::Revocation {
        id: revocation.id.0,
        leases: revocation.leases,
        ordered_by: revocation.ordered_by,
        ordered_at: Some(timestamp_to_wire(revocation.ordered_at)),
        reason: revocation.reason.unwrap_or_default(),
        marked: revocation.marked,
        marked_at: revocation.marked_at.map(timestamp_to_wire),
        dynamic: revocation.dynamic,
        waiting: revocation.waiting,
        stuck: revocation.stuck,
    }
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn spiffe_id(field: &'static str, text: &str) -> Result<SpiffeId, Failure> {
    Ok(SpiffeId::parse(text).map_err(|source| WireError::SpiffeId { field, source })?)
}
