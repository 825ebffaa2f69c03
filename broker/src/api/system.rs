//! `bursar.v1.System`.

use bursar_core::BackendName;
use bursar_core::audit::Action;
use bursar_proto::convert::{duration_to_wire, timestamp_to_wire};
use bursar_proto::limits;
use bursar_proto::v1::system_server::System;
use bursar_proto::v1::{
    BackendCapabilities, BackendStatus, HealthCheck, LeaseState, LeaseStateCount, SystemBackendsRequest,
    SystemBackendsResponse, SystemRotateRootRequest, SystemRotateRootResponse, SystemStatusRequest,
    SystemStatusResponse,
};
use tonic::{Request, Response, Status};

use super::Api;
use super::page::text;
use crate::failure::Failure;
use crate::policy::Resource;

#[tonic::async_trait]
impl System for Api {
    async fn status(
        &self,
        request: Request<SystemStatusRequest>,
    ) -> Result<Response<SystemStatusResponse>, Status> {
        self.answer(request, Ok, |call, SystemStatusRequest {}| async move {
            let draft = self.broker.permit(&call, Action::ViewSystem, Resource::System, "status", "").await?;
            let counts = async { Ok(self.broker.ledger.lease_counts().await?) };
            let counts = self.broker.observe(draft, counts).await?;
            let findings = self.health.findings();
            let mut checks = vec![check("ledger".to_owned(), findings.ledger)];
            let backends = findings.backends.into_iter();
            checks.extend(backends.map(|(name, fault)| check(format!("backend {name}"), fault)));
            let (disk, low) = self.health.disk();
            checks.push(check(disk, low));
            let others = self.health.sinks().chain(self.health.trust());
            checks.extend(others.map(|(name, fault)| check(name, fault)));
            Ok(SystemStatusResponse {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                trust_domain: self.membership.authority.domain().to_string(),
                uptime: Some(duration_to_wire(self.started.elapsed())),
                ready: self.health.ready(),
                degraded: !self.health.degraded().is_empty(),
                checks,
                ledger_bytes: self.broker.ledger.stats().db_bytes,
                log_size: *self.broker.ledger.appended().borrow(),
                leases: counts
                    .into_iter()
                    .map(|(state, count)| LeaseStateCount { state: LeaseState::from(state).into(), count })
                    .collect(),
                policy_revision: self.broker.rulebook.current().revision,
                certificate_not_after: Some(timestamp_to_wire(self.certificate.not_after())),
            })
        })
        .await
    }

    async fn backends(
        &self,
        request: Request<SystemBackendsRequest>,
    ) -> Result<Response<SystemBackendsResponse>, Status> {
        self.answer(request, Ok, |call, SystemBackendsRequest {}| async move {
            let draft =
                self.broker.permit(&call, Action::ViewSystem, Resource::System, "backends", "").await?;
            self.broker.note(draft).await?;
            let findings = self.health.findings();
            let backends = self.broker.mounts.iter().map(|(name, mount)| {
                let can = mount.backend.capabilities();
                let found = findings.backends.iter().find(|(found, _)| found == name);
                let fault = found.map_or(Some("not checked yet".to_owned()), |(_, fault)| fault.clone());
                BackendStatus {
                    name: name.to_string(),
                    kind: can.kind.to_owned(),
                    capabilities: Some(BackendCapabilities {
                        versions: can.versions,
                        list: can.list,
                        leasing: can.leasing,
                        writing: can.writing,
                    }),
                    health: Some(check(format!("backend {name}"), fault)),
                }
            });
            Ok(SystemBackendsResponse { backends: backends.collect() })
        })
        .await
    }

    async fn rotate_root(
        &self,
        request: Request<SystemRotateRootRequest>,
    ) -> Result<Response<SystemRotateRootResponse>, Status> {
        self.answer(request, rotation, |call, (backend, reason)| async move {
            let (shown, resource) = (backend.to_string(), Resource::Backend(&backend));
            let draft = self.broker.permit(&call, Action::RotateRoot, resource, &shown, &reason).await?;
            let kept = self.broker.rotate_root(&backend, draft).await?;
            Ok(SystemRotateRootResponse { kept: kept.to_string() })
        })
        .await
    }
}

fn rotation(message: SystemRotateRootRequest) -> Result<(BackendName, String), Failure> {
    let backend = BackendName::parse(&message.backend)?;
    Ok((backend, text("reason", message.reason, limits::REASON)?))
}

fn check(name: String, fault: Option<String>) -> HealthCheck {
    HealthCheck { name, ok: fault.is_none(), message: fault.unwrap_or_default() }
}
