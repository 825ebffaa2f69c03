use bursar_core::Reference;
use bursar_proto::v1::LocalStoreDestroyRequest;
use clap::Args;

use super::{Changed, Session, whole};
use crate::error::{Error, counted};
use crate::terminal;

/// Remove values for good
///
/// Nobody brings them back. Leases on them are not revoked, and agents serve what they have until it is too old or its
/// lease ends; `bursar lease revoke` takes it from them.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The secret: `BACKEND/PATH`
    reference: Reference,
    /// The versions
    #[arg(long = "version", value_name = "NUMBER", value_delimiter = ',', required_unless_present = "all")]
    versions: Vec<u64>,
    /// Every version, and the labels
    #[arg(long, conflicts_with = "versions")]
    all: bool,
    /// Why, for the audit record
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    reason: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let reference = whole(&self.reference)?;
        let client = session.client()?;
        if !self.yes {
            let what = match self.versions.len() {
                0 => "every version".to_owned(),
                count => counted(count as u64, "version"),
            };
            terminal::confirm(&format!("Remove {what} of `{reference}` for good?"))?;
        }
        let changed = Changed { reference: reference.clone(), versions: self.versions.clone() };
        let message = LocalStoreDestroyRequest {
            reference,
            versions: self.versions,
            all: self.all,
            reason: self.reason,
        };
        client
            .repeatable(message, |client, request| async move { client.local_store().destroy(request).await })
            .await?;
        let words = format!("it is gone from `{}`; leases on it are not revoked", changed.reference);
        session.output.done(&changed, &words)
    }
}

const EXAMPLES: &str = "\
Examples:
  bursar secret destroy local/stripe --version 1,2 --reason leaked
  bursar secret destroy local/stripe --all --yes";
