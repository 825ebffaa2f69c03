use bursar_proto::v1::{SystemBackendsRequest, SystemRotateRootRequest};
use clap::Subcommand;
use serde::Serialize;

use super::Session;
use crate::error::Error;
use crate::text;
use crate::view::{self, BackendView};

/// The stores that the broker is configured with
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the stores, what each can do, and whether it is well
    List,
    /// Change the password of the broker's own login at a store
    ///
    /// The password has to be kept by a backend that Bursar writes. The new one is kept before the store takes it, so
    /// that the broker can log in whenever this is interrupted; then run it again.
    RotateRoot {
        /// The store's name
        #[arg(value_name = "BACKEND")]
        backend: String,
        /// Why, for the audit log and for policy
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

#[derive(Serialize)]
struct Rotated {
    backend: String,
    kept: String,
}

impl Command {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        match self {
            Self::List => list(session).await,
            Self::RotateRoot { backend, reason } => rotate_root(session, backend, reason).await,
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

async fn rotate_root(session: &Session, backend: String, reason: Option<String>) -> Result<(), Error> {
    let client = session.client()?;
    let message = SystemRotateRootRequest { backend: backend.clone(), reason: reason.unwrap_or_default() };
    let call =
        client.once(message, |client, request| async move { client.system().rotate_root(request).await });
    let kept = call.await?.kept;
    let words =
        format!("the broker logs in to `{backend}` by a new password, which is `{}`", text::line(&kept));
    session.output.done(&Rotated { backend, kept }, &words)
}
