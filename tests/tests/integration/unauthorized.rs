//! Every RPC of the interface, by name: what it answers to nobody, to somebody without rights, and to a node that speaks
//! for nobody; and what it leaves in the ledger when it is done with rights.
//!
//! An RPC that is not in these tables fails the tests, so a new one cannot be forgotten.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bursar_proto::convert::timestamp_to_wire;
use bursar_proto::v1::nodes_join_request::Credential;
use bursar_proto::{Reason, v1};
use bursar_tests::{Broker, Cli, ClientAuthority, TokenIssuer, wait_for};
use jiff::Timestamp;
use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::{Value, json};
use tonic::Code;

use crate::raw::{Caller, Ended, join, signing_request};

#[test]
fn the_table_has_every_rpc_and_no_other() -> Result<()> {
    let named = |rows: &[Row]| rows.iter().map(|row| row.rpc.to_owned()).collect::<BTreeSet<_>>();
    let rows = rows(&Things::default());
    ensure!(named(&rows).len() == rows.len(), "an RPC is in the table twice");
    let described = described()?;
    let missing: Vec<_> = described.difference(&named(&rows)).cloned().collect();
    ensure!(missing.is_empty(), "put these into the table of this file: {missing:?}");
    let gone: Vec<_> = named(&rows).difference(&described).cloned().collect();
    ensure!(gone.is_empty(), "these are no RPCs any more: {gone:?}");
    Ok(())
}

#[test]
fn nobody_gets_anything() -> Result<()> {
    let site = Site::start()?;
    let nobody = Caller::connect(&site.broker, None)?;
    let before = site.records()?;
    for row in rows(&site.things) {
        let ended = nobody.call(&row.path(), row.message.clone())?;
        match row.stranger {
            Stranger::Open(reason) => ensure!(ended.reason == Some(reason), "{}: {ended:?}", row.rpc),
            _ => ensure!(
                (ended.code, ended.reason) == (Code::Unauthenticated, Some(Reason::Unauthenticated)),
                "{}: {ended:?}",
                row.rpc
            ),
        }
        ensure!(ended.answer.is_empty(), "{} answered nobody", row.rpc);
    }
    // Strangers must not fill the ledger: what was added is one query's own record.
    ensure!(site.records()? == before + 1, "nobody has records");
    site.unchanged()
}

#[test]
fn a_token_that_does_not_count_spoils_the_best_certificate() -> Result<()> {
    let site = Site::start()?;
    let issuer = TokenIssuer::new()?;
    let claims = json!({ "iss": "https://elsewhere.example.org", "sub": "x", "aud": "bursar" });
    for (token, reason) in
        [(issuer.token(&claims)?, Reason::IssuerUnknown), ("x".to_owned(), Reason::TokenInvalid)]
    {
        let admin = Caller::administrator(&site.broker)?.bearing(&token);
        let before = site.records()?;
        for row in rows(&site.things) {
            let ended = admin.call(&row.path(), row.message.clone())?;
            match row.stranger {
                Stranger::Open(reason) => ensure!(ended.reason == Some(reason), "{}: {ended:?}", row.rpc),
                _ => ensure!(
                    (ended.code, ended.reason) == (Code::Unauthenticated, Some(reason)),
                    "{}: {ended:?}",
                    row.rpc
                ),
            }
            ensure!(ended.answer.is_empty(), "{} answered", row.rpc);
        }
        ensure!(site.records()? == before + 1, "tokens that name nobody have records");
    }
    site.unchanged()
}

#[test]
fn the_open_services_answer_nobody_and_tell_no_secret() -> Result<()> {
    let site = Site::start()?;
    let nobody = Caller::connect(&site.broker, None)?;
    let health = nobody.call("/grpc.health.v1.Health/Check", Vec::new())?;
    ensure!(health.code == Code::Ok && !health.answer.is_empty(), "{health:?}");
    for path in [
        "/bursar.v1.Secrets/Reed",
        "/bursar.v1.Nothing/Read",
        "/",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        ensure!(nobody.call(path, Vec::new())?.code == Code::Unimplemented, "`{path}` is something");
    }
    Ok(())
}

#[test]
fn somebody_without_rights_is_refused_and_kept() -> Result<()> {
    let site = Site::start()?;
    let eve = Caller::presenting(&site.broker, &site.authority.issue(EVE)?)?;
    for row in rows(&site.things) {
        let ended = eve.call(&row.path(), row.message.clone())?;
        let record = || site.record(&ended).with_context(|| row.rpc.to_owned());
        match row.stranger {
            Stranger::Denied => {
                let refused = (Code::PermissionDenied, Some(Reason::AccessDenied));
                ensure!((ended.code, ended.reason) == refused, "{}: {ended:?}", row.rpc);
                let record = record()?;
                ensure!(text(&record, "/outcome") == "denied", "{}: {record}", row.rpc);
                ensure!(text(&record, "/decision") == "deny", "{}: {record}", row.rpc);
                ensure!(text(&record, "/action") == row.action, "{}: {record}", row.rpc);
                ensure!(text(&record, "/actor/principal") == EVE, "{}: {record}", row.rpc);
            }
            // A lease of somebody else looks like one that is not there.
            Stranger::Hidden => {
                let refused = (Code::NotFound, Some(Reason::LeaseNotFound));
                ensure!((ended.code, ended.reason) == refused, "{}: {ended:?}", row.rpc);
                let record = record()?;
                ensure!(text(&record, "/outcome") == "denied", "{}: {record}", row.rpc);
                ensure!(text(&record, "/action") == row.action, "{}: {record}", row.rpc);
            }
            Stranger::Open(reason) => ensure!(ended.reason == Some(reason), "{}: {ended:?}", row.rpc),
            Stranger::Answered => ensure!(ended.code == Code::Ok, "{}: {ended:?}", row.rpc),
        }
    }
    site.unchanged()
}

#[test]
fn a_node_that_speaks_for_nobody_is_refused_and_kept() -> Result<()> {
    let site = Site::start()?;
    let node = Caller::presenting(&site.broker, &site.authority.issue("spiffe://example.org/node/odd")?)?;
    for row in rows(&site.things) {
        let ended = node.call_for(&row.path(), row.message.clone(), Some(&site.workload))?;
        if let Stranger::Open(reason) = row.stranger {
            ensure!(ended.reason == Some(reason), "{}: {ended:?}", row.rpc);
            continue;
        }
        let refused = (Code::PermissionDenied, Some(Reason::RegistrationMissing));
        ensure!((ended.code, ended.reason) == refused, "{}: {ended:?}", row.rpc);
        let record = site.record(&ended).with_context(|| row.rpc.to_owned())?;
        ensure!(text(&record, "/outcome") == "denied", "{}: {record}", row.rpc);
        ensure!(text(&record, "/error_kind") == "registration_missing", "{}: {record}", row.rpc);
        ensure!(text(&record, "/resource") == row.path(), "{}: {record}", row.rpc);
    }
    // Nor does anybody but a node speak for others.
    let eve = Caller::presenting(&site.broker, &site.authority.issue(EVE)?)?;
    let read = rows(&site.things).into_iter().find(|row| row.rpc == "Secrets/Read").context("no read")?;
    let ended = eve.call_for(&read.path(), read.message, Some(&site.workload))?;
    ensure!(ended.reason == Some(Reason::AccessDenied), "{ended:?}");
    ensure!(text(&site.record(&ended)?, "/action") == "authenticate");
    site.unchanged()
}

/// The table of rate limits: whoever is known pays for every RPC by its principal, and whoever is not by its address.
#[test]
fn every_rpc_is_refused_to_whoever_asks_too_often_and_leaves_no_record() -> Result<()> {
    let site = Site::with("[limits.rate]\nper_address = 40\nper_principal = 8\n")?;
    let eve = Caller::presenting(&site.broker, &site.authority.issue(EVE)?)?;
    let nobody = Caller::connect(&site.broker, None)?;
    let mut refused = Vec::new();
    for row in rows(&site.things) {
        let (caller, of) = match row.stranger {
            Stranger::Open(_) => (&nobody, "address"),
            _ => (&eve, "principal"),
        };
        let ended = until_too_often(caller, &row).with_context(|| row.rpc.to_owned())?;
        ensure!(ended.message.contains(of) && ended.retry_after.is_some(), "{}: {ended:?}", row.rpc);
        refused.push(ended);
    }
    // A call of nobody to what needs somebody is paid by the address too.
    let read = rows(&site.things).into_iter().find(|row| row.rpc == "Secrets/Read").context("no read")?;
    refused.push(until_too_often(&nobody, &read)?);
    let metrics = String::from_utf8(site.broker.http("/metrics")?.body)?;
    for label in ["of=\"principal\",at=\"call\"", "of=\"address\",at=\"call\""] {
        ensure!(metrics.contains(&format!("bursar_rate_refusals_total{{{label}}}")), "{metrics}");
    }
    // The administrator has come from the same address, which has nothing left at first.
    let records = || Ok(site.admin.audit(&["--principal", EVE]).ok());
    let records = wait_for(SOON, "the administrator to be let in", records)?;
    let kept = |ended: &&Ended| records.iter().any(|record| text(record, "/request_id") == ended.request_id);
    ensure!(refused.iter().find(kept).is_none(), "a refusal left a record");
    Ok(())
}

/// Calls until that is too often, which takes no longer than a burst.
fn until_too_often(caller: &Caller, row: &Row) -> Result<Ended> {
    wait_for(SOON, "the rate to be used up", || {
        let ended = caller.call(&row.path(), row.message.clone())?;
        Ok((ended.reason == Some(Reason::RateLimited)).then_some(ended))
    })
}

#[test]
fn what_is_done_with_rights_is_in_the_ledger() -> Result<()> {
    let mut site = Site::start()?;
    let (admin, node) = (Caller::administrator(&site.broker)?, site.join("web-1")?);
    let read =
        node.call_for("/bursar.v1.Secrets/Read", read("local/plain").encode_to_vec(), Some(&site.workload))?;
    let mut read = v1::SecretsReadResponse::decode(read.answer.as_slice())?;
    site.things.served_lease = read.lease.take().context("no lease")?.id;
    for row in rows(&site.things) {
        let Some(message) = row.done.clone() else { continue };
        let caller = if row.by_node { &node } else { &admin };
        let ended = caller.call(&row.path(), message)?;
        ensure!(ended.code == Code::Ok, "{}: {ended:?}", row.rpc);
        let records = site.records_of(&ended)?;
        if row.action.is_empty() {
            ensure!(records.is_empty(), "{} left a record", row.rpc);
            continue;
        }
        // The newest is the last word. Where leases are taken back too, revocations have records of the same request.
        let record = records.iter().find(|record| text(record, "/action") == row.action);
        let record = record.with_context(|| format!("{} left no record of it: {records:?}", row.rpc))?;
        ensure!(text(record, "/outcome") == "ok", "{}: {record}", row.rpc);
        ensure!(text(record, "/decision") == "allow", "{}: {record}", row.rpc);
        ensure!(text(record, "/resource").contains(&row.resource), "{}: {record}", row.rpc);
        ensure!(
            text(record, "/actor/principal").starts_with("spiffe://example.org/"),
            "{}: {record}",
            row.rpc
        );
        ensure!(text(record, "/actor/credential").len() == 64, "{}: {record}", row.rpc);
        ensure!(text(record, "/actor/peer").starts_with("127.0.0.1:"), "{}: {record}", row.rpc);
    }
    Ok(())
}

/// One RPC.
struct Row {
    /// `Secrets/Read`
    rpc: &'static str,
    /// The action of its record; none where it leaves none.
    action: &'static str,
    /// What is in the resource of its record.
    resource: String,
    /// What those without rights send.
    message: Vec<u8>,
    stranger: Stranger,
    /// What somebody with rights sends; nothing where another test has it.
    done: Option<Vec<u8>>,
    /// Whether that is a node.
    by_node: bool,
}

/// What somebody who is known and may nothing gets.
#[derive(Clone, Copy)]
enum Stranger {
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

    fn path(&self) -> String {
        format!("/bursar.v1.{}", self.rpc)
    }
}

/// What the messages of the table speak of.
#[derive(Default)]
struct Things {
    /// Leases of the administrator.
    kept_lease: String,
    taken_lease: String,
    /// A lease of a workload that a node speaks for.
    served_lease: String,
    csr: Vec<u8>,
    /// An approval that the administrator gave.
    approval: String,
}

/// Every RPC, in an order in which they can be done one after the other.
fn rows(things: &Things) -> Vec<Row> {
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

/// A broker with something of everything, whose administrator may all of it.
struct Site {
    broker: Broker,
    authority: ClientAuthority,
    admin: Cli,
    things: Things,
    /// What a registration knows, on the node `web-1` alone.
    workload: v1::WorkloadContext,
    state: String,
    _bundle: tempfile::NamedTempFile,
}

impl Site {
    fn start() -> Result<Self> {
        Self::with("")
    }

    fn with(sections: &str) -> Result<Self> {
        let authority = ClientAuthority::new()?;
        let bundle = tempfile::NamedTempFile::new()?;
        let trusted = authority.trusted(bundle.path())?;
        let broker = Broker::start(&format!("{trusted}{sections}[backends.local]\nkind = 'local'\n"))?;
        let admin = Cli::administering(&broker)?;
        admin.apply_policies(POLICIES, REGISTRATIONS)?;
        admin.done_with(&["secret", "put", "local/plain"], b"value")?;
        admin.done_with(&["secret", "put", "local/db", "--field", "password"], b"value")?;
        admin.write("shop.toml", "[environment.\"shop\".vars]\nA = { from = \"local/plain\" }\n")?;
        admin.done(&["env", "apply", "shop.toml"])?;
        let lease =
            |reference: &str| Ok::<_, anyhow::Error>(text(&admin.json(&["get", reference])?, "/lease_id"));
        let things = Things {
            kept_lease: lease("local/plain")?,
            taken_lease: lease("local/db#password")?,
            served_lease: lease("local/plain")?,
            csr: signing_request(&rcgen::KeyPair::generate()?)?,
            approval: text(
                &admin.json(&["policy", "approve", ADA, "read", "local/plain", "--reason", "a test"])?,
                "/id",
            ),
        };
        let selectors = vec!["unix:uid:4711".to_owned()];
        let workload = v1::WorkloadContext { selectors, instance: "1:2@3".to_owned(), pid: 1 };
        let state = state(&admin)?;
        Ok(Self { broker, authority, admin, things, workload, state, _bundle: bundle })
    }

    /// Lets a node in by a token, as an agent would join.
    fn join(&self, name: &str) -> Result<Caller> {
        let token = self.admin.done(&["node", "token", name])?;
        let key = rcgen::KeyPair::generate()?;
        let credential = Credential::Token(token.trim().as_bytes().to_vec());
        let joined = join(&Caller::connect(&self.broker, None)?, credential, &key)?;
        ensure!(joined.code == Code::Ok, "{joined:?}");
        let record = self.records_of(&joined)?.pop().context("joining left no record")?;
        ensure!(text(&record, "/action") == "join" && text(&record, "/outcome") == "ok", "{record}");
        Caller::presenting(&self.broker, &joined.certificate(&key)?)
    }

    /// How many records there are.
    fn records(&self) -> Result<usize> {
        Ok(self.admin.audit(&[])?.len())
    }

    fn records_of(&self, ended: &Ended) -> Result<Vec<Value>> {
        self.admin.audit(&["--request", &ended.request_id])
    }

    /// The newest record of a request.
    fn record(&self, ended: &Ended) -> Result<Value> {
        self.records_of(ended)?.into_iter().next().context("there is no record")
    }

    /// Nothing that anybody could change is another than at the start.
    fn unchanged(&self) -> Result<()> {
        let now = state(&self.admin)?;
        ensure!(now == self.state, "something was changed:\n{}\n{now}", self.state);
        Ok(())
    }
}

fn state(admin: &Cli) -> Result<String> {
    let asked: [&[&str]; 7] = [
        &["env", "list"],
        &["policy", "get"],
        &["policy", "approvals"],
        &["node", "list"],
        &["lease", "list"],
        &["secret", "history", "local/plain"],
        &["secret", "list", "local"],
    ];
    asked.iter().map(|asked| Ok(format!("{}\n", admin.json(asked)?))).collect()
}

fn read(reference: &str) -> v1::SecretsReadRequest {
    v1::SecretsReadRequest { reference: reference.to_owned(), ..Default::default() }
}

/// Every RPC of ours that the compiled descriptors have, as `Service/Method`.
fn described() -> Result<BTreeSet<String>> {
    let set = FileDescriptorSet::decode(bursar_proto::FILE_DESCRIPTOR_SET)?;
    let ours = set.file.iter().filter(|file| file.package() == "bursar.v1");
    let services = ours.flat_map(|file| &file.service);
    let methods = services.flat_map(|service| {
        service.method.iter().map(|method| format!("{}/{}", service.name(), method.name()))
    });
    Ok(methods.collect())
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

const SOON: Duration = Duration::from_secs(30);
const ADA: &str = "spiffe://example.org/user/ada";
const EVE: &str = "spiffe://example.org/user/eve";

const POLICIES: &str = r#"
@id("everything")
permit (principal == Bursar::Principal::"spiffe://example.org/user/admin", action, resource);
@id("workloads")
permit (principal == Bursar::Principal::"spiffe://example.org/workload/shop",
        action == Bursar::Action::"read", resource);
"#;

const REGISTRATIONS: &str = r#"
[[registration]]
principal = "spiffe://example.org/workload/shop"
node = "web-1"
selectors = ["unix:uid:4711"]
"#;
