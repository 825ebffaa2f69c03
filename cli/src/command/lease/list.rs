use bursar_core::lease::LeaseState;
use bursar_core::{BackendName, SpiffeId};
use bursar_proto::v1::{self, LeasesListRequest};
use bursar_sdk::Client;
use clap::Args;

use super::Session;
use crate::error::Error;
use crate::page;
use crate::view::LeaseView;

/// List leases, newest first; without options those that are live
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// In this state: intent, active, expired, revoked, revoking, stuck or gone; may be given several times
    #[arg(long, value_name = "STATE", value_delimiter = ',', default_value = "active")]
    state: Vec<LeaseState>,
    /// In any state
    #[arg(long, conflicts_with = "state")]
    all: bool,
    /// Held by this principal
    #[arg(long, value_name = "SPIFFE-ID")]
    principal: Option<SpiffeId>,
    /// On secrets of this backend
    #[arg(long, value_name = "NAME", value_parser = BackendName::parse)]
    backend: Option<BackendName>,
    /// On secrets at or under this path
    #[arg(long, value_name = "BACKEND/PATH")]
    path: Option<String>,
    /// Asked for through this environment
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    /// Asked for by the agent of this node
    #[arg(long, value_name = "SPIFFE-ID")]
    node: Option<SpiffeId>,
    /// How many at most
    #[arg(long, default_value_t = page::DEFAULT, value_name = "NUMBER")]
    limit: usize,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let (limit, filter) = (self.limit, self.filter());
        let page = async |client: Client, page_size, page_token| {
            let message = LeasesListRequest { page_size, page_token, ..filter.clone() };
            let call = client
                .repeatable(message, |client, request| async move { client.leases().list(request).await });
            let page = call.await?;
            Ok((page.leases, page.next_page_token))
        };
        session.list::<LeaseView, _>(limit, "no lease matches", page).await
    }

    fn filter(self) -> LeasesListRequest {
        let states = if self.all { Vec::new() } else { self.state };
        LeasesListRequest {
            states: states.into_iter().map(|state| v1::LeaseState::from(state).into()).collect(),
            principal: self.principal.map(|id| id.to_string()).unwrap_or_default(),
            backend: self.backend.map(|name| name.to_string()).unwrap_or_default(),
            path_prefix: self.path.unwrap_or_default(),
            environment: self.env.unwrap_or_default(),
            node: self.node.map(|id| id.to_string()).unwrap_or_default(),
            page_size: 0,
            page_token: String::new(),
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  bursar lease list --path vault/payments
  bursar lease list --principal spiffe://example.org/workload/payments --output json
  bursar lease list --state stuck,revoking";
