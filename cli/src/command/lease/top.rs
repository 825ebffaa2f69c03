use bursar_proto::v1::{LeaseGrouping, LeasesTopRequest};
use clap::{Args, ValueEnum};

use super::Session;
use crate::error::Error;
use crate::view::HolderView;

/// Show who holds most live leases
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What to count by
    #[arg(long, value_enum, default_value_t)]
    by: Grouping,
    /// How many holders to show: 1 to 100
    #[arg(long, default_value_t = 10, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Grouping {
    #[default]
    Principal,
    Backend,
    Node,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let group_by = match self.by {
            Grouping::Principal => LeaseGrouping::Principal,
            Grouping::Backend => LeaseGrouping::Backend,
            Grouping::Node => LeaseGrouping::Node,
        };
        let message = LeasesTopRequest { group_by: group_by.into(), limit: self.limit };
        let client = session.client()?;
        let top =
            client.repeatable(message, |client, request| async move { client.leases().top(request).await });
        let holders: Vec<_> = top.await?.holders.into_iter().map(HolderView::from).collect();
        session.output.list(&holders, "there is no live lease")
    }
}
