use bursar_proto::v1::PoliciesHistoryRequest;
use bursar_sdk::Client;
use clap::Args;

use super::Session;
use crate::error::Error;
use crate::page;
use crate::view::RevisionView;

/// List the sets of policies that are or were in force, newest first
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// How many at most
    #[arg(long, default_value_t = page::DEFAULT, value_name = "NUMBER")]
    limit: usize,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let nothing = "no policies were ever in force";
        let page = async |client: Client, page_size, page_token| {
            let message = PoliciesHistoryRequest { page_size, page_token };
            let call = client.repeatable(message, |client, request| async move {
                client.policies().history(request).await
            });
            let page = call.await?;
            Ok((page.revisions, page.next_page_token))
        };
        session.list::<RevisionView, _>(self.limit, nothing, page).await
    }
}

const EXAMPLES: &str = "\
Examples:
  bursar policy history
  bursar policy get --revision 12
  bursar policy rollback 12";
