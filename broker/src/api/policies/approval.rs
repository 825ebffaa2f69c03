//! Approvals on the wire.

use std::time::Duration;

use bursar_core::audit::Action;
use bursar_core::{Reference, SpiffeId};
use bursar_proto::convert::{WireError, duration_from_wire, timestamp_to_wire};
use bursar_proto::limits;
use bursar_proto::v1::{self, PoliciesApproveRequest, PoliciesWithdrawApprovalRequest};

use crate::api::page::text;
use crate::approvals::{Approval, ApprovalId, ApprovalIdError, Wanted};
use crate::failure::Failure;
use crate::policy::{Policies, Target};

/// What is to be approved, by the actions that `policies` decide about.
pub(super) fn wanted(message: PoliciesApproveRequest, policies: &Policies) -> Result<Wanted, Failure> {
    let principal = SpiffeId::parse(&message.principal)
        .map_err(|source| WireError::SpiffeId { field: "principal", source })?;
    let action = approvable(&message.action, policies)?;
    let target = target(action, text("resource", message.resource, limits::REFERENCE)?)?;
    let ttl = duration_from_wire("ttl", message.ttl)?.unwrap_or(LIFE);
    if !(MIN_LIFE..=MAX_LIFE).contains(&ttl) {
        return Err(Failure::Invalid { field: "ttl", message: "is 1 second to 24 hours".to_owned() });
    }
    let reason = text("reason", message.reason, limits::REASON)?;
    if reason.trim().is_empty() {
        let message = "says why this is approved; it is in the audit log".to_owned();
        return Err(Failure::Invalid { field: "reason", message });
    }
    Ok(Wanted { principal, action, target, ttl, reason })
}

/// Which approval is to be withdrawn, and why.
pub(super) fn named(message: PoliciesWithdrawApprovalRequest) -> Result<(ApprovalId, String), Failure> {
    let invalid = |error: ApprovalIdError| Failure::Invalid { field: "id", message: error.to_string() };
    Ok((message.id.parse().map_err(invalid)?, text("reason", message.reason, limits::REASON)?))
}

pub(super) fn wire(approval: &Approval) -> v1::Approval {
    v1::Approval {
        id: approval.id.to_string(),
        principal: approval.principal.to_string(),
        action: approval.action.as_str().to_owned(),
        resource: approval.target.to_string(),
        approved_by: approval.approved_by.to_string(),
        approved_at: Some(timestamp_to_wire(approval.approved_at)),
        expires_at: Some(timestamp_to_wire(approval.expires_at)),
        reason: approval.reason.clone(),
    }
}

/// Somebody who needs an approval to approve would need one for that too.
fn approvable(action: &str, policies: &Policies) -> Result<Action, Failure> {
    let action: Action = action.parse().map_err(|source| WireError::Action { field: "action", source })?;
    let why = match action {
        Action::Approve | Action::WithdrawApproval => "is not approved itself",
        _ if policies.governs(action) => return Ok(action),
        _ => "is nothing that policies decide about",
    };
    Err(Failure::Invalid { field: "action", message: format!("`{}` {why}", action.as_str()) })
}

fn target(action: Action, resource: String) -> Result<Target, Failure> {
    let target = Target::parse(action, &resource)?;
    let fault = match &target {
        Target::Secret(reference) | Target::Folder(reference) if is_more_than_a_path(reference) => {
            "is a secret without field and version, or a folder"
        }
        Target::Environment(name) | Target::Node(name) if name.is_empty() => "is a name",
        Target::Environment(name) if name.len() > limits::ENVIRONMENT_NAME => "is longer than a name may be",
        Target::Node(name) if name.len() > limits::NODE_NAME => "is longer than a name may be",
        Target::System if !resource.is_empty() => "is empty for an action on the broker itself",
        _ => return Ok(target),
    };
    Err(Failure::Invalid { field: "resource", message: fault.to_owned() })
}

fn is_more_than_a_path(reference: &Reference) -> bool {
    reference.field.is_some() || reference.version.is_some()
}

const LIFE: Duration = Duration::from_secs(3600);
const MIN_LIFE: Duration = Duration::from_secs(1);
const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);
