//! `bursar get`: one secret to standard output.

use std::time::Duration;

use bursar_core::Reference;
use bursar_core::settings::parse_duration;
use bursar_sdk::ReadOptions;
use clap::Args;

use super::Session;
use crate::error::Error;
use crate::{disclose, terminal};

/// Write one secret to standard output
///
/// The value is written as it is, without a line end. To a terminal it is written only with --show.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What to read: `BACKEND/PATH[#FIELD][@VERSION]`
    reference: Reference,
    /// Why, for the audit record
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    reason: String,
    /// How long the lease should last, such as `8h`; what the broker grants by default when not given
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// How old a cached value may be, such as `30s`; `0s` asks the store
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    max_age: Option<Duration>,
    /// Show the value on a terminal
    #[arg(long)]
    show: bool,
    /// Ask the store for another credential, although you hold one
    #[arg(long, display_order = 3)]
    new_lease: bool,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let on_terminal = terminal::is_stdout();
        // Before anything is leased.
        if on_terminal && !self.show {
            return Err(Error::SecretOnTerminal);
        }
        let options = ReadOptions {
            ttl: self.ttl,
            reason: self.reason,
            instance: String::new(),
            max_age: self.max_age,
            new_lease: self.new_lease,
        };
        let leased = session.client()?.read(&self.reference, &options).await?;
        if session.output.is_json() {
            return disclose::json(&self.reference, &leased);
        }
        disclose::to_stdout(&leased.value)?;
        if on_terminal { disclose::line_end() } else { Ok(()) }
    }
}

const EXAMPLES: &str = "\
Examples:
  bursar get local/payments/db#password | pbcopy
  bursar get vault/tls/api#key --reason 'rotation' > key.pem
  bursar get aws-prod/stripe@AWSPREVIOUS --show";
