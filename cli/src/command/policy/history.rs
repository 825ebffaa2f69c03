use bursar_proto::v1::PoliciesHistoryRequest;
use clap::Args;

use super::Session;
use crate::error::Error;
use crate::page;
use crate::view::{self, RevisionView};

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
        let client = session.client()?;
        let fetched = page::fetch(self.limit, |page_size, page_token| {
            let client = client.clone();
            async move {
                let message = PoliciesHistoryRequest { page_size, page_token };
                let call = client.repeatable(message, |client, request| async move {
                    client.policies().history(request).await
                });
                let page = call.await?;
                Ok((page.revisions, page.next_page_token))
            }
        });
        let fetched = fetched.await?;
        let revisions: Vec<RevisionView> = view::read_all(&client, fetched.items)?;
        session.output.list(&revisions, "no policies were ever in force")?;
        session.output.say_more(fetched.more);
        Ok(())
    }
}

const EXAMPLES: &str = "\
Examples:
  bursar policy history
  bursar policy get --revision 12
  bursar policy rollback 12";
