//! Audit records: who asked for what, when, why, what was decided, and what came of it. Never a value.
//!
//! A record's stored form is one line of JSON with its fields in the order of this file. Those exact bytes are the
//! leaf of the transparency log and the line of an export, so a record reads the same everywhere, and a verifier needs
//! no knowledge of its meaning.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// Position in this broker's log, from 0 without a gap. Given by the ledger.
    pub seq: u64,
    pub time: Timestamp,
    pub request_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    pub actor: Actor,
    pub action: Action,
    /// What it was done to: a reference, a lease id, an environment's or node's name.
    pub resource: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<String>,
    pub decision: Decision,
    /// The policies that decided, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// The approvals that policies were shown, by id; of the giving or taking back of one, that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<String>,
    /// Until when the copy may be used that the caller was given to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<Timestamp>,
    /// The reason that the caller gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<String>,
    /// From the request's arrival to the record, in microseconds.
    pub latency_us: u64,
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// A SPIFFE ID.
    pub principal: String,
    /// How the broker knows: `mtls`, `join-token`, `node`, `kubernetes`, `oidc`, `broker`.
    pub method: String,
    /// SHA-256 of the credential that was presented, as hex: tells two credentials of one principal apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The node whose agent spoke for the principal, or passed its token on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What that agent attested, or a token said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selectors: Vec<String>,
    /// The network address that the request came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
}

/// What was done. The names are those of Cedar actions, so that a denial can be read beside the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Read,
    /// An agent served the secret from its cache, under a lease that the broker granted before.
    LocalRead,
    Resolve,
    /// An environment was given out to be kept on the caller's machine and used there without a broker.
    Keep,
    List,
    Write,
    Delete,
    /// Versions were removed for good.
    Destroy,
    Renew,
    Revoke,
    /// An administrator gave a lease up that its store may not have taken back.
    ForceRevoke,
    Expire,
    Gone,
    Stuck,
    /// Old records were taken out of the ledger; their hashes stay.
    Prune,
    ApplyEnvironment,
    DeleteEnvironment,
    ViewEnvironment,
    ApplyPolicy,
    ViewPolicy,
    CheckPolicy,
    /// Somebody agreed that somebody else does one thing, for a while.
    Approve,
    WithdrawApproval,
    CreateJoinToken,
    Join,
    RenewCertificate,
    ListNodes,
    EvictNode,
    /// An evicted node may join again by what the configuration says.
    ReadmitNode,
    ListLeases,
    QueryAudit,
    ViewSystem,
    /// The password of the broker's own login at a store was changed.
    RotateRoot,
    /// The broker gave a standing role of a store its next password.
    Rotate,
    /// The broker wrapped its keys by another seal key.
    Rewrap,
    Authenticate,
    /// Somebody came by a break-glass certificate: one record for each connection, before anything is done over it.
    BreakGlass,
    Watch,
}

impl Action {
    /// Every action, for the policy schema and the surface tables.
    pub const ALL: [Self; 38] = [
        Self::Read,
        Self::LocalRead,
        Self::Resolve,
        Self::Keep,
        Self::List,
        Self::Write,
        Self::Delete,
        Self::Destroy,
        Self::Renew,
        Self::Revoke,
        Self::ForceRevoke,
        Self::Expire,
        Self::Gone,
        Self::Stuck,
        Self::Prune,
        Self::ApplyEnvironment,
        Self::DeleteEnvironment,
        Self::ViewEnvironment,
        Self::ApplyPolicy,
        Self::ViewPolicy,
        Self::CheckPolicy,
        Self::Approve,
        Self::WithdrawApproval,
        Self::CreateJoinToken,
        Self::Join,
        Self::RenewCertificate,
        Self::ListNodes,
        Self::EvictNode,
        Self::ReadmitNode,
        Self::ListLeases,
        Self::QueryAudit,
        Self::ViewSystem,
        Self::RotateRoot,
        Self::Rotate,
        Self::Rewrap,
        Self::Authenticate,
        Self::BreakGlass,
        Self::Watch,
    ];

    /// The name in records, policies, metrics and the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::LocalRead => "local-read",
            Self::Resolve => "resolve",
            Self::Keep => "keep",
            Self::List => "list",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Destroy => "destroy",
            Self::Renew => "renew",
            Self::Revoke => "revoke",
            Self::ForceRevoke => "force-revoke",
            Self::Expire => "expire",
            Self::Gone => "gone",
            Self::Stuck => "stuck",
            Self::Prune => "prune",
            Self::ApplyEnvironment => "apply-environment",
            Self::DeleteEnvironment => "delete-environment",
            Self::ViewEnvironment => "view-environment",
            Self::ApplyPolicy => "apply-policy",
            Self::ViewPolicy => "view-policy",
            Self::CheckPolicy => "check-policy",
            Self::Approve => "approve",
            Self::WithdrawApproval => "withdraw-approval",
            Self::CreateJoinToken => "create-join-token",
            Self::Join => "join",
            Self::RenewCertificate => "renew-certificate",
            Self::ListNodes => "list-nodes",
            Self::EvictNode => "evict-node",
            Self::ReadmitNode => "readmit-node",
            Self::ListLeases => "list-leases",
            Self::QueryAudit => "query-audit",
            Self::ViewSystem => "view-system",
            Self::RotateRoot => "rotate-root",
            Self::Rotate => "rotate",
            Self::Rewrap => "rewrap",
            Self::Authenticate => "authenticate",
            Self::BreakGlass => "break-glass",
            Self::Watch => "watch",
        }
    }
}

impl std::str::FromStr for Action {
    type Err = UnknownAction;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|action| action.as_str() == name)
            .ok_or_else(|| UnknownAction(name.to_owned()))
    }
}

/// A name that is no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no action `{0}`")]
pub struct UnknownAction(String);

/// What policy said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    Allow,
    Deny,
}

impl Decision {
    /// The name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// About to be done in another book than the ledger: what came of it is in a later record of the same request.
    Asked,
    Ok,
    Denied,
    Failed,
}

impl Outcome {
    /// The name in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

impl AuditRecord {
    /// The stored form: one line of JSON, without the newline.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(USUAL_LINE);
        // Strings, numbers and times always serialise; half a line would fail verification loudly.
        drop(serde_json::to_writer(&mut line, self));
        line
    }

    /// Reads a stored record back.
    ///
    /// # Errors
    /// When the line is no record of this version.
    pub fn from_line(line: &[u8]) -> Result<Self, MalformedRecord> {
        serde_json::from_slice(line).map_err(MalformedRecord)
    }
}

/// Bytes that most lines do not exceed.
const USUAL_LINE: usize = 1024;

/// A line that is no audit record.
#[derive(Debug, thiserror::Error)]
#[error("the line is no audit record")]
pub struct MalformedRecord(#[source] serde_json::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_the_stored_form() {
        for action in Action::ALL {
            assert_eq!(serde_json::to_value(action).expect("json"), action.as_str());
            assert_eq!(action.as_str().parse(), Ok(action));
        }
    }
}
