//! Every RPC of the gRPC port, in one table. One that is not here is refused before anybody looks at it.
//!
//! A test compares the table with the compiled descriptors, so a new RPC cannot be forgotten, and the integration tests
//! walk it: each must refuse a caller without a credential unless it is open, and leave its action in the ledger.

use bursar_core::audit::Action;

/// One RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rpc {
    /// `/bursar.v1.Secrets/Read`
    pub path: &'static str,
    pub access: Access,
    /// Whether its answer goes on for as long as somebody listens.
    pub streams: bool,
}

/// Who may call at all, and who pays for it in the rate limits: the principal, or the address of whoever is not known. What
/// they may do is for policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Callers whose identity is established; the action is what policy decides on and the ledger keeps.
    Known(Action),
    /// Anybody: the call carries its own proof, or there is nothing to protect.
    Open,
}

/// The entry of `path`.
pub fn find(path: &str) -> Option<Rpc> {
    TABLE.iter().find(|rpc| rpc.path == path).copied()
}

/// Most frequent first: it is searched from the front.
pub const TABLE: &[Rpc] = &[
    known("/bursar.v1.Secrets/Read", Action::Read),
    known("/bursar.v1.Environments/Resolve", Action::Resolve),
    known("/bursar.v1.Leases/Renew", Action::Renew),
    known("/bursar.v1.Secrets/BatchRead", Action::Read),
    stream("/bursar.v1.Secrets/Watch", Action::Watch),
    known("/bursar.v1.Environments/Apply", Action::ApplyEnvironment),
    known("/bursar.v1.Environments/Get", Action::ViewEnvironment),
    known("/bursar.v1.Environments/List", Action::ViewEnvironment),
    known("/bursar.v1.Environments/Delete", Action::DeleteEnvironment),
    known("/bursar.v1.Environments/Check", Action::ViewEnvironment),
    known("/bursar.v1.Environments/Diff", Action::ViewEnvironment),
    known("/bursar.v1.Leases/Get", Action::ListLeases),
    known("/bursar.v1.Leases/List", Action::ListLeases),
    known("/bursar.v1.Leases/Revoke", Action::Revoke),
    known("/bursar.v1.Leases/RevokeMany", Action::Revoke),
    known("/bursar.v1.Leases/Revocations", Action::ListLeases),
    known("/bursar.v1.Leases/Top", Action::ListLeases),
    known("/bursar.v1.Audit/Query", Action::QueryAudit),
    stream("/bursar.v1.Audit/Tail", Action::QueryAudit),
    stream("/bursar.v1.Audit/Export", Action::QueryAudit),
    known("/bursar.v1.Audit/Checkpoint", Action::QueryAudit),
    known("/bursar.v1.Audit/ConsistencyProof", Action::QueryAudit),
    known("/bursar.v1.Audit/InclusionProof", Action::QueryAudit),
    known("/bursar.v1.Audit/Journal", Action::LocalRead),
    known("/bursar.v1.Policies/Get", Action::ViewPolicy),
    known("/bursar.v1.Policies/Apply", Action::ApplyPolicy),
    known("/bursar.v1.Policies/History", Action::ViewPolicy),
    known("/bursar.v1.Policies/Check", Action::CheckPolicy),
    known("/bursar.v1.Policies/Test", Action::CheckPolicy),
    known("/bursar.v1.Policies/Approve", Action::Approve),
    known("/bursar.v1.Policies/ListApprovals", Action::ViewPolicy),
    known("/bursar.v1.Policies/WithdrawApproval", Action::WithdrawApproval),
    known("/bursar.v1.Nodes/CreateJoinToken", Action::CreateJoinToken),
    open("/bursar.v1.Nodes/Join"),
    known("/bursar.v1.Nodes/RenewCertificate", Action::RenewCertificate),
    known("/bursar.v1.Nodes/List", Action::ListNodes),
    known("/bursar.v1.Nodes/Evict", Action::EvictNode),
    known("/bursar.v1.Nodes/Readmit", Action::ReadmitNode),
    known("/bursar.v1.LocalStore/Put", Action::Write),
    known("/bursar.v1.LocalStore/GetMetadata", Action::List),
    known("/bursar.v1.LocalStore/List", Action::List),
    known("/bursar.v1.LocalStore/Delete", Action::Delete),
    known("/bursar.v1.LocalStore/Undelete", Action::Write),
    known("/bursar.v1.LocalStore/Destroy", Action::Destroy),
    known("/bursar.v1.LocalStore/Label", Action::Write),
    known("/bursar.v1.LocalStore/History", Action::List),
    known("/bursar.v1.System/Status", Action::ViewSystem),
    known("/bursar.v1.System/Backends", Action::ViewSystem),
    known("/bursar.v1.System/RotateRoot", Action::RotateRoot),
    open("/grpc.health.v1.Health/Check"),
    open("/grpc.health.v1.Health/List"),
    open("/grpc.health.v1.Health/Watch"),
    open("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
];

const fn known(path: &'static str, action: Action) -> Rpc {
    Rpc { path, access: Access::Known(action), streams: false }
}

const fn stream(path: &'static str, action: Action) -> Rpc {
    Rpc { path, access: Access::Known(action), streams: true }
}

const fn open(path: &'static str) -> Rpc {
    Rpc { path, access: Access::Open, streams: false }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_rpc_of_the_descriptors_is_in_the_table_and_nothing_else() {
        let set = FileDescriptorSet::decode(bursar_proto::FILE_DESCRIPTOR_SET).expect("descriptors");
        let (mut described, mut streams) = (BTreeSet::new(), BTreeSet::new());
        for file in set.file.iter().filter(|file| file.package() == "bursar.v1") {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/bursar.v1.{}/{}", service.name(), method.name());
                    if method.server_streaming() {
                        streams.insert(path.clone());
                    }
                    described.insert(path);
                }
            }
        }
        let ours = || TABLE.iter().filter(|rpc| rpc.path.starts_with("/bursar."));
        let listed: BTreeSet<_> = ours().map(|rpc| rpc.path.to_owned()).collect();
        assert_eq!(listed, described, "put each RPC into TABLE with who may call it");
        let listed: BTreeSet<_> = ours().filter(|rpc| rpc.streams).map(|rpc| rpc.path.to_owned()).collect();
        assert_eq!(listed, streams, "those whose answers are streams are made by `stream`");
    }
}
