use bursar_proto::v1::PoliciesListApprovalsRequest;
use bursar_sdk::Client;
use clap::Args;

use super::Session;
use crate::error::Error;
use crate::page;
use crate::view::ApprovalView;

/// List the approvals in force
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  bursar policy approvals\n  bursar audit query --action approve")]
pub(crate) struct Arguments {
    /// How many at most
    #[arg(long, default_value_t = page::DEFAULT, value_name = "NUMBER")]
    limit: usize,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let page = async |client: Client, page_size, page_token| {
            let message = PoliciesListApprovalsRequest { page_size, page_token };
            let call = client.repeatable(message, |client, request| async move {
                client.policies().list_approvals(request).await
            });
            let page = call.await?;
            Ok((page.approvals, page.next_page_token))
        };
        session.list::<ApprovalView, _>(self.limit, "no approval is in force", page).await
    }
}
