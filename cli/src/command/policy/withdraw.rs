use bursar_proto::v1::PoliciesWithdrawApprovalRequest;
use clap::Args;

use super::Session;
use crate::error::Error;
use crate::view::{self, ApprovalView};

/// End an approval before its time; whoever gave it may always do that
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The approval's id
    #[arg(value_name = "APPROVAL")]
    id: String,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let message = PoliciesWithdrawApprovalRequest { id: self.id, reason: self.reason };
        let client = session.client()?;
        let call = client.once(message, |client, request| async move {
            client.policies().withdraw_approval(request).await
        });
        let approval: ApprovalView = view::read_required(&client, "approval", call.await?.approval)?;
        session.output.done(&approval, &format!("withdrawn: {}", approval.words()))
    }
}

const EXAMPLES: &str = "\
Examples:
  bursar policy approvals
  bursar policy withdraw 01KB1XW5Y3M2Q8R7T6V5N4P3Z2 --reason 'done earlier'";
