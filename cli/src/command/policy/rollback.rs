use bursar_proto::v1::{PoliciesApplyRequest, PoliciesGetRequest, PoliciesGetResponse};
use clap::Args;

use super::{Session, apply};
use crate::error::Error;

/// Put a set of policies in force that was before
///
/// It gets a revision of its own, so that the set it takes the place of can be had again as well. Nothing happens when
/// somebody else applies policies in between.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The revision of the set [default: the one before the one in force]
    #[arg(value_name = "REVISION")]
    revision: Option<u64>,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let in_force = get(session, None).await?.revision;
        let revision = self.revision.unwrap_or(in_force.saturating_sub(1));
        if revision == 0 {
            return Err(Error::Usage(format!("no policies were in force before revision {in_force}")));
        }
        if revision == in_force {
            return Err(Error::Usage(format!("revision {revision} is the one in force")));
        }
        let files = get(session, Some(revision)).await?.files;
        let message = PoliciesApplyRequest { files, expected_revision: Some(in_force), dry_run: false };
        let applied = apply::put(session, message).await?;
        session
            .output
            .say(&format!("revision {applied} is in force, with the policies of revision {revision}"));
        Ok(())
    }
}

async fn get(session: &Session, revision: Option<u64>) -> Result<PoliciesGetResponse, Error> {
    let client = session.client()?;
    let message = PoliciesGetRequest { revision };
    let got = client
        .repeatable(message, |client, request| async move { client.policies().get(request).await })
        .await?;
    Ok(got)
}

const EXAMPLES: &str = "\
Examples:
  bursar policy rollback
  bursar policy history
  bursar policy rollback 12";
