use bursar_proto::v1::LeasesRevocationsRequest;
use bursar_sdk::Client;
use clap::Args;

use super::Session;
use crate::error::Error;
use crate::view::{self, RevocationView};

/// Show bulk revocations and how far they got, newest first
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// This one alone, with everything that is known of it
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    id: Option<u64>,
    /// How many at most: 1 to 100
    #[arg(long, default_value_t = 10, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let client = session.client()?;
        match self.id {
            Some(id) => session.output.one(&one(&client, id).await?),
            None => {
                let all = ask(&client, LeasesRevocationsRequest { id: 0, limit: self.limit }).await?;
                session.output.list(&all, "there is no bulk revocation")
            }
        }
    }
}

/// How far one bulk revocation is.
///
/// # Errors
/// [`Error::NoRevocation`], or that of the call.
pub(super) async fn one(client: &Client, id: u64) -> Result<RevocationView, Error> {
    let found = ask(client, LeasesRevocationsRequest { id, limit: 1 }).await?;
    found.into_iter().next().ok_or(Error::NoRevocation { id })
}

async fn ask(client: &Client, message: LeasesRevocationsRequest) -> Result<Vec<RevocationView>, Error> {
    let call = client
        .repeatable(message, |client, request| async move { client.leases().revocations(request).await });
    view::read_all(client, call.await?.revocations)
}
