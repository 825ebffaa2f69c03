//! `bursar offline`: copies of environments on this machine, for `bursar run --offline`.

mod forget;
mod init;
mod keep;
mod list;

use clap::{Args, Subcommand};

use super::Session;
use crate::error::Error;
use crate::settings::OfflineArguments;

/// Copies of environments, encrypted, for when there is no broker
///
/// Only environments that allow it (`offline = "8h"` in their definition) can be kept, by those whom policy allows to
/// `keep` them, and never what a store makes for each lease. What is changed, revoked or forbidden later does not reach a
/// copy: it ends by its time.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Keep(keep::Arguments),
    /// List the copies that are kept here, and until when they may be used
    ///
    /// This goes by what the files say of themselves, and opens none. Copies that are over are removed.
    List,
    Forget(forget::Arguments),
    Init(Init),
}

/// Make an identity by which copies are encrypted
///
/// A file as `age-keygen` makes it, which only you can read. Without it nothing opens that is encrypted with it. To have a
/// passphrase or a hardware key asked for, encrypt it by `age`, and hand it over decrypted:
/// `--offline-identity <(age -d FILE)`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    #[command(flatten)]
    copies: OfflineArguments,
}

impl Command {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        match self {
            Self::Keep(keep) => keep.carry_out(session).await,
            Self::List => list::carry_out(session.output),
            Self::Forget(forget) => forget.carry_out(session.output),
            Self::Init(Init { copies }) => init::carry_out(&copies, session.output),
        }
    }
}
