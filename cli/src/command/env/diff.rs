use std::str::FromStr;

use bursar_proto::v1::{EnvironmentRevision, EnvironmentsDiffRequest};
use clap::Args;

use super::Session;
use crate::error::Error;
use crate::view::{self, DifferenceView};

/// Show how two environments differ, or two revisions of one: names only, never values
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What it was: `NAME`, or `NAME@REVISION`
    left: At,
    /// What it is: `NAME`, or `NAME@REVISION`
    right: At,
}

/// An environment at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct At {
    name: String,
    revision: Option<u64>,
}

impl FromStr for At {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((name, revision)) = text.split_once('@') else {
            return Ok(Self { name: text.to_owned(), revision: None });
        };
        let revision = revision.parse().map_err(|_| "what follows `@` is no revision, which is a number")?;
        Ok(Self { name: name.to_owned(), revision: Some(revision) })
    }
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let side = |at: At| Some(EnvironmentRevision { name: at.name, revision: at.revision });
        let message = EnvironmentsDiffRequest { left: side(self.left), right: side(self.right) };
        let client = session.client()?;
        let diff = client
            .repeatable(message, |client, request| async move { client.environments().diff(request).await })
            .await?;
        let differences: Vec<DifferenceView> = view::read_all(&client, diff.differences)?;
        session.output.list(&differences, "they are the same")
    }
}

const EXAMPLES: &str = "\
Examples:
  bursar env diff payments/staging payments/prod
  bursar env diff payments/prod@41 payments/prod";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_may_follow_the_name() {
        assert_eq!("shop/prod".parse(), Ok(At { name: "shop/prod".to_owned(), revision: None }));
        assert_eq!("shop@41".parse(), Ok(At { name: "shop".to_owned(), revision: Some(41) }));
        assert!("shop@latest".parse::<At>().is_err());
    }
}
