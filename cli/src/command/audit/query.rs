use bursar_proto::v1::{AuditOrder, AuditQueryRequest, AuditTailRequest};
use clap::Args;

use super::Session;
use super::filter::FilterArguments;
use crate::error::Error;
use crate::page;
use crate::view::{self, RecordView};

/// List records, newest first
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Query {
    #[command(flatten)]
    filter: FilterArguments,
    /// Oldest first
    #[arg(long)]
    oldest_first: bool,
    /// How many at most
    #[arg(long, default_value_t = page::DEFAULT, value_name = "NUMBER")]
    limit: usize,
}

/// Show records as they are made, until interrupted
#[derive(Debug, Args)]
pub(crate) struct Tail {
    #[command(flatten)]
    filter: FilterArguments,
    /// Begin with this record instead of the next one
    #[arg(long, value_name = "NUMBER")]
    from: Option<u64>,
}

impl Query {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let client = session.client()?;
        // The oldest record that is kept, as the last page said.
        let mut kept = 0;
        let order = if self.oldest_first { AuditOrder::OldestFirst } else { AuditOrder::NewestFirst };
        let filter = self.filter.filter();
        let fetched = page::fetch(self.limit, async |page_size, page_token| {
            let filter = Some(filter.clone());
            let message = AuditQueryRequest { filter, order: order.into(), page_size, page_token };
            let call = client
                .repeatable(message, |client, request| async move { client.audit().query(request).await });
            let page = call.await?;
            kept = page.first_sequence;
            Ok((page.records, page.next_page_token))
        });
        let fetched = fetched.await?;
        let records: Vec<RecordView> = view::read_all(&client, fetched.items)?;
        session.output.list(&records, "no record matches")?;
        session.output.say_more(fetched.more);
        if !fetched.more && kept > 0 {
            let words = format!("records before {kept} were pruned; find them where a sink put them");
            session.output.say(&words);
        }
        Ok(())
    }
}

impl Tail {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let client = session.client()?;
        let message = AuditTailRequest { first_sequence: self.from, filter: Some(self.filter.filter()) };
        let mut records = client
            .stream(message, |client, request| async move { client.audit().tail(request).await })
            .await?;
        while let Some(answer) = records.message().await.map_err(|status| client.error(status))? {
            let record: RecordView = view::read_required(&client, "record", answer.record)?;
            session.output.streamed(&record)?;
        }
        Ok(())
    }
}

const EXAMPLES: &str = "\
Examples:
  bursar audit query --since 24h --outcome denied
  bursar audit query --path vault/payments --action read,resolve --output json
  bursar audit query --lease 01ARZ3NDEKTSV4RRFFQ69G5FAV --oldest-first";
