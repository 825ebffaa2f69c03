use std::path::PathBuf;
use std::time::Duration;

use bursar_core::settings::parse_duration;
use bursar_proto::convert::duration_to_wire;
use bursar_proto::limits;
use bursar_proto::v1::EnvironmentsApplyRequest;
use clap::Args;

use super::Session;
use crate::error::Error;
use crate::input;
use crate::view::{self, ChangeView};

/// Store the environments of a document: all of them or none
///
/// Environments that are not in the document stay as they are.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The document, TOML with tables `[environment."NAME"]`; `-` for standard input
    file: PathBuf,
    /// Check everything and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Refuse unless each environment of the document is at this revision; 0 when none may exist yet
    #[arg(long, value_name = "NUMBER")]
    expected_revision: Option<u64>,
    /// End the environments of the document after this time, with every lease under them
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let message = EnvironmentsApplyRequest {
            document: input::document(&self.file, limits::DOCUMENT)?,
            expected_revision: self.expected_revision,
            dry_run: self.dry_run,
            ttl: self.ttl.map(duration_to_wire),
        };
        let client = session.client()?;
        let applied = client
            .repeatable(message, |client, request| async move { client.environments().apply(request).await })
            .await?;
        let changes: Vec<ChangeView> = view::read_all(&client, applied.environments)?;
        session.output.list(&changes, "the document has no environment")?;
        if self.dry_run {
            session.output.say("nothing was stored; this is what would change");
        }
        Ok(())
    }
}

const EXAMPLES: &str = "\
Examples:
  bursar env apply environments.toml --dry-run
  bursar env apply preview.toml --ttl 8h

A document:
  [environment.\"payments/prod\".vars]
  LOG_LEVEL = \"info\"
  STRIPE_KEY = { from = \"local/stripe#key\" }";
