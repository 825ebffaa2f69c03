use bursar_proto::v1::SystemBackendsRequest;
use clap::Subcommand;

use super::Session;
use crate::error::Error;
use crate::view::{self, BackendView};

/// The stores that the broker is configured with
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the stores, what each can do, and whether it is well
    List,
}

impl Command {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        match self {
            Self::List => list(session).await,
        }
    }
}

async fn list(session: &Session) -> Result<(), Error> {
    let client = session.client()?;
    let backends = client.repeatable(SystemBackendsRequest {}, |client, request| async move {
        client.system().backends(request).await
    });
    let backends: Vec<BackendView> = view::read_all(&client, backends.await?.backends)?;
    session.output.list(&backends, "no backend is configured")
}
