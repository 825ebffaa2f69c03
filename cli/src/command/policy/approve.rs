use std::time::Duration;

use bursar_core::SpiffeId;
use bursar_core::audit::Action;
use bursar_core::settings::parse_duration;
use bursar_proto::convert::duration_to_wire;
use bursar_proto::v1::PoliciesApproveRequest;
use clap::Args;

use super::Session;
use crate::error::Error;
use crate::view::{self, ApprovalView};

/// Approve that somebody else does one thing for a while, where a policy asks for that
///
/// It permits nothing by itself, and nobody approves for himself. What was let through by it lives on when it ends:
/// `bursar lease revoke` takes that back.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Who may
    #[arg(value_name = "SPIFFE-ID")]
    principal: SpiffeId,
    /// What, such as `read`, `resolve` or `apply-policy`
    action: Action,
    /// To what: a secret, a folder such as `vault/payments/`, or the name of an environment or node; nothing for the
    /// broker itself
    #[arg(default_value = "", hide_default_value = true)]
    resource: String,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// For how long: `1s` to `24h` [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let message = PoliciesApproveRequest {
            principal: self.principal.to_string(),
            action: self.action.as_str().to_owned(),
            resource: self.resource,
            ttl: self.ttl.map(duration_to_wire),
            reason: self.reason,
        };
        let client = session.client()?;
        let call =
            client.once(message, |client, request| async move { client.policies().approve(request).await });
        let approval: ApprovalView = view::read_required(&client, "approval", call.await?.approval)?;
        session.output.one(&approval)
    }
}

const EXAMPLES: &str = "\
Examples:
  bursar policy approve spiffe://example.org/user/ada read vault/payments/db --reason 'ticket 4711'
  bursar policy approve spiffe://example.org/user/ada resolve payments/prod \\
    --reason 'ticket 4711' --ttl 15m
  bursar policy approve spiffe://example.org/workload/ci write vault/payments/ \\
    --reason 'rotation' --ttl 8h";
