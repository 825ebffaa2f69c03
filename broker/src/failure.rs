//! Why a request failed, in the words of this crate. `api::status` is the one place that turns it into a gRPC status.

use std::time::Duration;

use bursar_core::audit::Outcome;
use bursar_core::backend::{BackendError, ErrorKind};
use bursar_core::reference::ReferenceError;
use bursar_core::secret::SelectError;
use bursar_core::{BackendName, LeaseId, Reference};
use bursar_proto::convert::WireError;

use crate::environment::{EntryName, Fault as DocumentFault, FlattenError, RenderError};
use crate::identity::admission::JoinFault;
use crate::identity::authority::AuthorityError;
use crate::identity::nodes::TokenFault;
use crate::identity::peer::CertificateFault;
use crate::identity::token::Refused;
use crate::ledger::LedgerError;
use crate::pace::Payer;
use crate::policy::{Diagnostic, Unregistered};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("policy does not allow this")]
    Denied,
    #[error(
        "this call needs a client certificate or a token; give one with `--cert` and `--key` or with `--token-file`, or ask through the agent's socket"
    )]
    Unauthenticated,
    #[error("{}", .0.told())]
    Token(Refused),
    #[error("the token is that of a pod on another node than `{node}`, whose agent passed it on")]
    OtherNode { node: String },
    #[error(transparent)]
    Certificate(CertificateFault),
    #[error("the client certificate has expired; renew it")]
    Expired,
    #[error(
        "node `{node}` was evicted; let it in again with a new join token, or by `bursar node readmit` where the broker's \
         configuration lets it in"
    )]
    Evicted { node: String },
    #[error(transparent)]
    Unregistered(#[from] Unregistered),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("no backend is called `{0}`")]
    BackendUnknown(BackendName),
    #[error(
        "the password of backend `{0}` is not Bursar's to change; keep it in a backend that Bursar writes, by `password = {{ from = … }}`"
    )]
    NotRotatable(BackendName),
    #[error("`{0}` is not there")]
    SecretNotFound(Reference),
    #[error("`{reference}`: {fault}")]
    Field { reference: Reference, fault: SelectError },
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("there is no lease `{0}` that this caller may use")]
    LeaseNotFound(LeaseId),
    #[error("lease `{id}` cannot be renewed: {why}")]
    NotRenewable { id: LeaseId, why: &'static str },
    #[error("there is no environment `{0}`")]
    EnvironmentNotFound(String),
    #[error("the environment document has faults")]
    Document(Vec<DocumentFault>),
    #[error(transparent)]
    Flatten(#[from] FlattenError),
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error("environment `{name}` cannot be resolved")]
    Unresolved { name: String, entries: Vec<Unresolved> },
    #[error(
        "environment `{0}` does not say `offline` itself, so no copy of it may be kept; whoever defines it can write \
         `offline = \"8h\"` there"
    )]
    NotOffline(String),
    #[error(
        "environment `{name}` cannot be kept: stores make {} of its entries for each lease, and take them back with it",
        entries.len()
    )]
    MadeForLeases { name: String, entries: Vec<EntryName> },
    #[error("the policies have faults")]
    Policy(Vec<Diagnostic>),
    #[error("the join token is not valid: it was used, has expired, or never was")]
    JoinToken(TokenFault),
    #[error(transparent)]
    NotAdmitted(JoinFault),
    #[error("there is no node `{0}`")]
    NodeUnknown(String),
    #[error("nobody approves for himself; somebody else has to")]
    OwnApproval,
    #[error("there is no approval `{0}` in force")]
    ApprovalNotFound(String),
    #[error(
        "{limit} approvals are in force, as many as the broker keeps; withdraw some, or wait until they end"
    )]
    ApprovalsFull { limit: usize },
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("{field}: {message}")]
    Invalid { field: &'static str, message: String },
    #[error("a time is out of range")]
    Time(#[from] jiff::Error),
    #[error("{0} in the ledger cannot be read by this release")]
    Kept(&'static str),
    #[error("the request is larger than {limit} bytes, the limit of one message")]
    TooLarge { limit: usize },
    #[error("the broker's disk has {free} left, so nothing new is issued; make room on it")]
    DiskLow { free: String },
    #[error("this {} asks more often than `[limits.rate]` of the broker allows; wait, then ask less often", of.as_str())]
    RateLimited { of: Payer, retry_after: Duration },
    #[error("the request took longer than its deadline")]
    Deadline,
    #[error("this part of the interface is not built yet: {0}")]
    NotBuilt(&'static str),
    #[error("the broker is shutting down")]
    Stopping,
}

/// One reference of an environment that did not resolve.
#[derive(Debug)]
pub struct Unresolved {
    pub reference: Reference,
    pub failure: Failure,
}

impl Failure {
    /// The name in audit records.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Unauthenticated | Self::Certificate(_) | Self::Expired => "unauthenticated",
            Self::Token(_) => "token",
            Self::OtherNode { .. } => "other_node",
            Self::Evicted { .. } => "evicted",
            Self::Unregistered(_) => "registration_missing",
            Self::Reference(_) => "reference_malformed",
            Self::BackendUnknown(_) => "backend_unknown",
            Self::NotRotatable(_) => ErrorKind::Misconfigured.as_str(),
            Self::SecretNotFound(_) => ErrorKind::NotFound.as_str(),
            Self::Field { .. } => "field_not_found",
            Self::Backend(error) => error.kind.as_str(),
            Self::Ledger(LedgerError::Quota(_)) => "quota_exceeded",
            Self::Ledger(_) => "ledger",
            Self::LeaseNotFound(_) => "lease_not_found",
            Self::NotRenewable { .. } => "lease_not_renewable",
            Self::EnvironmentNotFound(_) => "environment_not_found",
            Self::Document(_) | Self::Flatten(_) | Self::Render(_) => "environment_invalid",
            Self::Unresolved { .. } => "environment_unresolved",
            Self::NotOffline(_) | Self::MadeForLeases { .. } => "environment_not_kept",
            Self::Policy(_) => "policy_invalid",
            Self::Kept(_) => "kept",
            Self::JoinToken(fault) => fault.as_str(),
            Self::NotAdmitted(fault) => fault.as_str(),
            Self::NodeUnknown(_) => "node_unknown",
            Self::OwnApproval => "own_approval",
            Self::ApprovalNotFound(_) => "approval_not_found",
            Self::ApprovalsFull { .. } => "approvals_full",
            Self::Authority(_) => "certificate_request",
            Self::Invalid { .. } | Self::Wire(_) | Self::Time(_) => "request_invalid",
            Self::TooLarge { .. } => "request_too_large",
            Self::DiskLow { .. } => "disk_low",
            Self::RateLimited { .. } => "rate_limited",
            Self::Deadline => "deadline",
            Self::NotBuilt(_) => "not_implemented",
            Self::Stopping => "shutting_down",
        }
    }

    /// What an audit record says came of the request.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Denied
            | Self::Evicted { .. }
            | Self::Unregistered(_)
            | Self::JoinToken(_)
            | Self::NotAdmitted(_)
            | Self::OtherNode { .. }
            | Self::OwnApproval => Outcome::Denied,
            _ => Outcome::Failed,
        }
    }

    /// A store's error about `reference`: one that is not there is named as such.
    pub fn of_store(reference: &Reference, error: BackendError) -> Self {
        match error.kind {
            ErrorKind::NotFound => Self::SecretNotFound(reference.clone()),
            _ => Self::Backend(error),
        }
    }
}
