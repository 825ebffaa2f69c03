use std::time::Duration;

use bursar_core::settings::parse_duration;
use bursar_core::{Clock, SystemClock};
use bursar_proto::Reason;
use bursar_sdk::{KeptEnvironment, ResolveOptions};
use clap::Args;

use crate::command::Session;
use crate::connection;
use crate::error::Error;
use crate::offline::{Head, Identity, Shelf, seal};
use crate::settings::{Folders, OfflineArguments};
use crate::text;

/// Keep a copy of an environment, encrypted, to run on without a broker
///
/// Every secret is leased for as long as the copy may be used. An agent gives out no copies: name the broker by
/// --address, with a certificate or token of your own.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The environment
    name: String,
    /// Why, for the audit record
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    reason: String,
    /// How long the copy is to be usable, such as `2h`; as long as the environment allows when not given, and never longer
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    copies: OfflineArguments,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let (folders, settings) = (Folders::of_environment(), session.settings()?);
        let shelf = Shelf::of(&folders)?;
        // Before anything is leased.
        let identity = Identity::load(&self.copies.identity(&folders)?)?;
        let broker = settings.address.to_string();
        let options = ResolveOptions { ttl: self.ttl, reason: self.reason, ..ResolveOptions::default() };
        let asked = connection::client(&settings)?.resolve_to_keep(&self.name, &options).await;
        let kept = match asked {
            Ok(kept) => kept,
            Err(error) => {
                if is_final(&error) && Shelf::remove(&shelf.path(&self.name, &broker))? {
                    session.output.say(&format!("the copy of `{}` that was kept is removed", self.name));
                }
                return Err(error.into());
            }
        };
        let head = Head::of(&self.name, broker, &kept);
        head.is_timely(SystemClock.now())?;
        let KeptEnvironment { environment, .. } = kept;
        let path = shelf.put(&head, seal(&head, &environment, &identity)?)?;
        let words = format!(
            "environment `{}` is kept in `{}`, usable until {} ({}) by `bursar run --offline --env {0}`",
            head.environment,
            path.display(),
            text::time(head.usable_until),
            text::relative(head.usable_until, SystemClock.now()),
        );
        session.output.done(&head, &words)
    }
}

/// Whether the broker says that there is to be no copy: then the one from before is none to be used either.
fn is_final(error: &bursar_sdk::Error) -> bool {
    matches!(
        error.reason(),
        Some(Reason::AccessDenied | Reason::EnvironmentNotKept | Reason::EnvironmentNotFound)
    )
}

const EXAMPLES: &str = "\
Examples:
  bursar offline keep payments/dev --reason 'on the train'
  bursar run --env payments/dev --offline -- npm start";
