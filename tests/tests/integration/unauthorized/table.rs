//! The table: every RPC, what is sent to it by whom, and what that leaves.

use bursar_proto::convert::timestamp_to_wire;
use bursar_proto::v1::nodes_join_request::Credential;
use bursar_proto::{Reason, v1};
use jiff::Timestamp;
use prost::Message;

use super::site::POLICIES;

/// One RPC.
pub(super) struct Row {
    /// `Secrets/Read`
    pub(super) rpc: &'static str,
    /// The action of its record; none where it leaves none.
    pub(super) action: &'static str,
    /// What is in the resource of its record.
    pub(super) resource: String,
    /// What those without rights send.
    pub(super) message: Vec<u8>,
    pub(super) stranger: Stranger,
    /// What somebody with rights sends; nothing where another test has it.
    pub(super) done: Option<Vec<u8>>,
    /// Whether that is a node.
    pub(super) by_node: bool,
}

/// What somebody who is known and may nothing gets.
#[derive(Clone, Copy)]
pub(super) enum Stranger {
    /// A denial.
    Denied,
    /// What they get for a lease that is not there.
    Hidden,
    /// An answer: it tells nothing of anybody.
    Answered,
    /// What nobody gets too: the call is open, and fails by this reason.
    Open(Reason),
}

impl Row {
    fn new(
        rpc: &'static str,
        action: &'static str,
        resource: impl Into<String>,
        message: impl Message,
    ) -> Self {
        let message = message.encode_to_vec();
        let done = Some(message.clone());
        Self {
            rpc,
            action,
            resource: resource.into(),
            message,
            stranger: Stranger::Denied,
            done,
            by_node: false,
        }
    }

    fn hidden(self) -> Self {
        Self { stranger: Stranger::Hidden, ..self }
    }

    fn answered(self) -> Self {
        Self { stranger: Stranger::Answered, ..self }
    }

    fn open(self, reason: Reason) -> Self {
        Self { stranger: Stranger::Open(reason), done: None, ..self }
    }

    /// Done by another test.
    fn elsewhere(self) -> Self {
        Self { done: None, ..self }
    }

    fn by_node(self) -> Self {
        Self { by_node: true, ..self }
    }

    pub(super) fn path(&self) -> String {
        format!("/bursar.v1.{}", self.rpc)
    }
}

/// What the messages of the table speak of.
#[derive(Default)]
pub(super) struct Things {
    /// Leases of the administrator.
    pub(super) kept_lease: String,
    pub(super) taken_lease: String,
    /// A lease of a workload that a node speaks for.
    pub(super) served_lease: String,
    pub(super) csr: Vec<u8>,
    /// An approval that the administrator gave.
    pub(super) approval: String,
}

/// Every RPC, in an order in which they can be done one after the other.
pub(super) fn rows(things: &Things) -> Vec<Row> {
    let reason = || "a test".to_owned();
    let shop = || "shop".to_owned();
    let (kept, taken) = (things.kept_lease.clone(), things.taken_lease.clone());
    let plain = || "local/plain".to_owned();
    let now = Some(timestamp_to_wire(Timestamp::UNIX_EPOCH));
    let journal = v1::LocalRead {
        lease_id: things.served_lease.clone(),
        workload: None,
        count: 3,
        first_at: now,
        last_at: now,
    };
    let revision = || Some(v1::EnvironmentRevision { name: shop(), revision: None });
    let value = v1::local_store_put_request::Data::Value(b"value".to_vec());
    let token_bytes = b"bursar_join_guess".to_vec();
    vec![
        Row::new("Secrets/Read", "read", "local/plain", read("local/plain")),
        Row::new(
            "Secrets/BatchRead",
            "read",
            "local/",
            v1::SecretsBatchReadRequest { requests: vec![read("local/plain"), read("local/db#password")] },
        ),
        Row::new("Secrets/Watch", "watch", "watch", v1::SecretsWatchRequest::default()),
        Row::new(
            "Environments/Apply",
            "apply-environment",
            "new",
            v1::EnvironmentsApplyRequest {
                document: "[environment.\"new\"]\n".to_owned(),
                ..Default::default()
            },
        ),
        Row::new(
            "Environments/Resolve",
            "resolve",
            "shop",
            v1::EnvironmentsResolveRequest { name: shop(), ..Default::default() },
        ),
        Row::new(
            "Environments/Get",
            "view-environment",
            "shop",
            v1::EnvironmentsGetRequest { name: shop(), revision: None },
        ),
        Row::new(
            "Environments/List",
            "view-environment",
            "environments",
            v1::EnvironmentsListRequest::default(),
        ),
        Row::new(
            "Environments/Check",
            "view-environment",
            "shop",
            v1::EnvironmentsCheckRequest {
                target: Some(v1::environments_check_request::Target::Name(shop())),
                ..Default::default()
            },
        ),
        Row::new(
            "Environments/Diff",
            "view-environment",
            "shop",
            v1::EnvironmentsDiffRequest { left: revision(), right: revision() },
        ),
        Row::new(
            "Environments/Delete",
            "delete-environment",
            "shop",
            v1::EnvironmentsDeleteRequest { name: shop(), expected_revision: None, reason: reason() },
        ),
        Row::new("Leases/Get", "list-leases", kept.clone(), v1::LeasesGetRequest { lease_id: kept.clone() })
            .hidden(),
        Row::new("Leases/List", "list-leases", "leases", v1::LeasesListRequest::default()),
        Row::new("Leases/Revocations", "list-leases", "revocations", v1::LeasesRevocationsRequest::default()),
        Row::new("Leases/Top", "list-leases", "top", v1::LeasesTopRequest::default()),
        Row::new("Leases/Renew", "renew", kept.clone(), v1::LeasesRenewRequest { lease_id: kept, ttl: None })
            .hidden(),
        Row::new(
            "Leases/Revoke",
            "revoke",
            taken.clone(),
            v1::LeasesRevokeRequest { lease_id: taken, reason: reason(), force: false },
        )
        .hidden(),
        Row::new(
            "Leases/RevokeMany",
            "revoke",
            "leases of path local/db",
            v1::LeasesRevokeManyRequest {
                selector: Some(v1::leases_revoke_many_request::Selector::PathPrefix("local/db".to_owned())),
                reason: reason(),
                dry_run: false,
            },
        ),
        Row::new("Audit/Query", "query-audit", "audit", v1::AuditQueryRequest::default()),
        Row::new(
            "Audit/Tail",
            "query-audit",
            "tail",
            v1::AuditTailRequest { first_sequence: Some(0), filter: None },
        ),
        Row::new("Audit/Export", "query-audit", "export", v1::AuditExportRequest::default()),
        Row::new("Audit/Checkpoint", "", "", v1::AuditCheckpointRequest {}).answered(),
        Row::new(
            "Audit/ConsistencyProof",
            "",
            "",
            v1::AuditConsistencyProofRequest { old_size: 1, new_size: None },
        )
        .answered(),
        Row::new(
            "Audit/InclusionProof",
            "query-audit",
            "record 0",
            v1::AuditInclusionProofRequest { sequence: 0, size: None },
        ),
        Row::new("Audit/Journal", "local-read", plain(), v1::AuditJournalRequest { reads: vec![journal] })
            .by_node(),
        Row::new("Policies/Get", "view-policy", "policies", v1::PoliciesGetRequest { revision: None }),
        Row::new("Policies/History", "view-policy", "policies", v1::PoliciesHistoryRequest::default()),
        Row::new(
            "Policies/Check",
            "check-policy",
            "policies",
            v1::PoliciesCheckRequest {
                principal: EVE.to_owned(),
                action: "read".to_owned(),
                resource: plain(),
                ..Default::default()
            },
        ),
        Row::new(
            "Policies/Test",
            "check-policy",
            "policies",
            v1::PoliciesTestRequest {
                expectations: vec![v1::PolicyExpectation {
                    request: Some(v1::PoliciesCheckRequest {
                        principal: EVE.to_owned(),
                        action: "read".to_owned(),
                        resource: plain(),
                        ..Default::default()
                    }),
                    decision: v1::Decision::Deny.into(),
                    policies: Vec::new(),
                }],
                ..Default::default()
            },
        ),
        Row::new(
            "Policies/Approve",
            "approve",
            "local/plain",
            v1::PoliciesApproveRequest {
                principal: ADA.to_owned(),
                action: "read".to_owned(),
                resource: plain(),
                ttl: None,
                reason: reason(),
            },
        ),
        Row::new(
            "Policies/ListApprovals",
            "view-policy",
            "approvals",
            v1::PoliciesListApprovalsRequest::default(),
        ),
        Row::new(
            "Policies/WithdrawApproval",
            "withdraw-approval",
            "local/plain",
            v1::PoliciesWithdrawApprovalRequest { id: things.approval.clone(), reason: reason() },
        ),
        Row::new(
            "Policies/Apply",
            "apply-policy",
            "policies",
            v1::PoliciesApplyRequest {
                files: vec![v1::PolicyFile { name: "test.cedar".to_owned(), text: POLICIES.to_owned() }],
                ..Default::default()
            },
        ),
        Row::new(
            "Nodes/CreateJoinToken",
            "create-join-token",
            "web-2",
            v1::NodesCreateJoinTokenRequest { node: "web-2".to_owned(), ..Default::default() },
        ),
        // What it does with rights is for the tests of joining.
        Row::new(
            "Nodes/Join",
            "",
            "",
            v1::NodesJoinRequest {
                credential: Some(Credential::Token(token_bytes)),
                csr: things.csr.clone(),
            },
        )
        .open(Reason::JoinTokenInvalid),
        Row::new(
            "Nodes/RenewCertificate",
            "renew-certificate",
            "spiffe://example.org/node/web-1",
            v1::NodesRenewCertificateRequest { csr: things.csr.clone() },
        )
        .by_node(),
        Row::new("Nodes/List", "list-nodes", "nodes", v1::NodesListRequest::default()),
        Row::new(
            "Nodes/Evict",
            "evict-node",
            "web-1",
            v1::NodesEvictRequest { node: "web-1".to_owned(), reason: reason() },
        ),
        // What it does with rights is for the tests of rules.
        Row::new(
            "Nodes/Readmit",
            "readmit-node",
            "web-1",
            v1::NodesReadmitRequest { node: "web-1".to_owned(), reason: reason() },
        )
        .elsewhere(),
        Row::new(
            "LocalStore/Put",
            "write",
            "local/plain",
            v1::LocalStorePutRequest {
                reference: plain(),
                data: Some(value),
                expected_version: None,
                expires_at: None,
            },
        ),
        Row::new(
            "LocalStore/GetMetadata",
            "list",
            "local/plain",
            v1::LocalStoreGetMetadataRequest { reference: plain() },
        ),
        Row::new(
            "LocalStore/List",
            "list",
            "local/",
            v1::LocalStoreListRequest { folder: "local".to_owned(), ..Default::default() },
        ),
        Row::new(
            "LocalStore/Delete",
            "delete",
            "local/plain",
            v1::LocalStoreDeleteRequest { reference: plain(), versions: vec![1], reason: reason() },
        ),
        Row::new(
            "LocalStore/Undelete",
            "write",
            "local/plain",
            v1::LocalStoreUndeleteRequest { reference: plain(), versions: vec![1], reason: reason() },
        ),
        Row::new(
            "LocalStore/Destroy",
            "destroy",
            "local/plain",
            v1::LocalStoreDestroyRequest {
                reference: plain(),
                versions: vec![1],
                all: false,
                reason: reason(),
            },
        ),
        Row::new(
            "LocalStore/Label",
            "write",
            "local/plain",
            v1::LocalStoreLabelRequest {
                reference: plain(),
                remove: vec!["owner".to_owned()],
                ..Default::default()
            },
        ),
        Row::new(
            "LocalStore/History",
            "list",
            "local/plain",
            v1::LocalStoreHistoryRequest { reference: plain(), ..Default::default() },
        ),
        Row::new("System/Status", "view-system", "status", v1::SystemStatusRequest {}),
        Row::new("System/Backends", "view-system", "backends", v1::SystemBackendsRequest {}),
        // What it does with rights takes a store of its own: `postgres_backend`.
        Row::new(
            "System/RotateRoot",
            "rotate-root",
            "local",
            v1::SystemRotateRootRequest { backend: "local".to_owned(), reason: reason() },
        )
        .elsewhere(),
    ]
}

pub(super) fn read(reference: &str) -> v1::SecretsReadRequest {
    v1::SecretsReadRequest { reference: reference.to_owned(), ..Default::default() }
}

pub(super) const ADA: &str = "spiffe://example.org/user/ada";
pub(super) const EVE: &str = "spiffe://example.org/user/eve";
