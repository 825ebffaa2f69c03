//! Every RPC that may be called on the socket, and who answers it. What is not here is refused.
//!
//! A test compares the table with the compiled descriptors, so that a new RPC has to be decided on.

/// One RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// `/bursar.v1.Secrets/Read`
    pub(super) path: &'static str,
    pub(super) to: To,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// The cache, or the broker where the cache may not.
    Read,
    BatchRead,
    Resolve,
    /// The broker; the cache follows.
    Renew,
    Revoke,
    /// The cache, as it hears of what happens.
    Watch,
    /// The broker, on behalf of the caller.
    Broker,
    /// The agent, for itself.
    Health,
    /// Nobody: only nodes call this, and a workload must not do it in a node's name.
    Nobody,
}

impl To {
    /// As metrics name it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Read | Self::BatchRead | Self::Resolve | Self::Watch => "cache",
            Self::Renew | Self::Revoke | Self::Broker => "broker",
            Self::Health => "agent",
            Self::Nobody => "nobody",
        }
    }
}

/// The entry of `path`.
pub(super) fn find(path: &str) -> Option<Route> {
    TABLE.iter().find(|route| route.path == path).copied()
}

/// Most frequent first: it is searched from the front.
const TABLE: &[Route] = &[
    route("/bursar.v1.Secrets/Read", To::Read),
    route("/bursar.v1.Environments/Resolve", To::Resolve),
    route("/bursar.v1.Leases/Renew", To::Renew),
    route("/bursar.v1.Secrets/BatchRead", To::BatchRead),
    route("/bursar.v1.Secrets/Watch", To::Watch),
    route("/bursar.v1.Leases/Revoke", To::Revoke),
    route("/bursar.v1.Leases/Get", To::Broker),
    route("/bursar.v1.Leases/List", To::Broker),
    route("/bursar.v1.Leases/RevokeMany", To::Broker),
    route("/bursar.v1.Leases/Revocations", To::Broker),
    route("/bursar.v1.Leases/Top", To::Broker),
    route("/bursar.v1.Environments/Apply", To::Broker),
    route("/bursar.v1.Environments/Get", To::Broker),
    route("/bursar.v1.Environments/List", To::Broker),
    route("/bursar.v1.Environments/Delete", To::Broker),
    route("/bursar.v1.Environments/Check", To::Broker),
    route("/bursar.v1.Environments/Diff", To::Broker),
    route("/bursar.v1.Audit/Query", To::Broker),
    route("/bursar.v1.Audit/Tail", To::Broker),
    route("/bursar.v1.Audit/Export", To::Broker),
    route("/bursar.v1.Audit/Checkpoint", To::Broker),
    route("/bursar.v1.Audit/ConsistencyProof", To::Broker),
    route("/bursar.v1.Audit/InclusionProof", To::Broker),
    route("/bursar.v1.Audit/Journal", To::Nobody),
    route("/bursar.v1.Policies/Get", To::Broker),
    route("/bursar.v1.Policies/Apply", To::Broker),
    route("/bursar.v1.Policies/History", To::Broker),
    route("/bursar.v1.Policies/Check", To::Broker),
    route("/bursar.v1.Policies/Test", To::Broker),
    route("/bursar.v1.Policies/Approve", To::Broker),
    route("/bursar.v1.Policies/ListApprovals", To::Broker),
    route("/bursar.v1.Policies/WithdrawApproval", To::Broker),
    route("/bursar.v1.Nodes/CreateJoinToken", To::Nobody),
    route("/bursar.v1.Nodes/Join", To::Nobody),
    route("/bursar.v1.Nodes/RenewCertificate", To::Nobody),
    route("/bursar.v1.Nodes/List", To::Nobody),
    route("/bursar.v1.Nodes/Evict", To::Nobody),
    route("/bursar.v1.Nodes/Readmit", To::Nobody),
    route("/bursar.v1.LocalStore/Put", To::Broker),
    route("/bursar.v1.LocalStore/GetMetadata", To::Broker),
    route("/bursar.v1.LocalStore/List", To::Broker),
    route("/bursar.v1.LocalStore/Delete", To::Broker),
    route("/bursar.v1.LocalStore/Undelete", To::Broker),
    route("/bursar.v1.LocalStore/Destroy", To::Broker),
    route("/bursar.v1.LocalStore/Label", To::Broker),
    route("/bursar.v1.LocalStore/History", To::Broker),
    route("/bursar.v1.System/Status", To::Broker),
    route("/bursar.v1.System/Backends", To::Broker),
    route("/bursar.v1.System/RotateRoot", To::Broker),
    route("/grpc.health.v1.Health/Check", To::Health),
    route("/grpc.health.v1.Health/List", To::Health),
    route("/grpc.health.v1.Health/Watch", To::Health),
];

const fn route(path: &'static str, to: To) -> Route {
    Route { path, to }
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
        let mut described = BTreeSet::new();
        for file in set.file.iter().filter(|file| file.package() == "bursar.v1") {
            for service in &file.service {
                for method in &service.method {
                    described.insert(format!("/bursar.v1.{}/{}", service.name(), method.name()));
                }
            }
        }
        let ours = TABLE.iter().filter(|route| route.path.starts_with("/bursar."));
        let listed: BTreeSet<_> = ours.map(|route| route.path.to_owned()).collect();
        assert_eq!(listed, described, "put each RPC into TABLE with who answers it");
    }

    #[test]
    fn what_a_node_does_for_itself_is_nobodys() {
        for route in TABLE.iter().filter(|route| route.path.starts_with("/bursar.v1.Nodes/")) {
            assert_eq!(route.to, To::Nobody, "{}", route.path);
        }
    }
}
