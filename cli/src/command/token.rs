//! `bursar token`: a token for the person who types, from the issuer that signs in people.

use std::path::PathBuf;

use bursar_core::{Clock, Secret, SystemClock};
use bursar_sdk::token_ends_at;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::Session;
use crate::disclose;
use crate::error::Error;
use crate::issuer::{Issuer, IssuerError, Kept};
use crate::output::Output;
use crate::progress::Progress;
use crate::settings::{Folders, IssuerArguments, IssuerSettings};
use crate::{terminal, text};

/// Get a token for yourself by signing in with a browser
///
/// Shows an address and a code on standard error. Open the address with any browser, on any machine, sign in,
/// and enter the code: the token is then written to standard output. To a terminal it is not written; it is kept
/// in $XDG_RUNTIME_DIR/bursar, in memory and for you alone, until it ends, and is not asked for again before.
///
/// Whoever has the code can have the token of whoever approves it. Approve only what you began yourself.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    issuer: IssuerArguments,
    /// Write the token to this file, which only you can read, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Get another token although one is kept
    #[arg(long)]
    new: bool,
}

impl Arguments {
    pub(super) async fn carry_out(self, session: &Session) -> Result<(), Error> {
        let (output, folders) = (session.output, Folders::of_environment());
        let settings = IssuerSettings::decide(self.issuer, &folders)?;
        let kept = Kept::of(&settings, &folders);
        let on_stdout = self.out.is_none() && !output.is_json() && !terminal::is_stdout();
        let file = self.out.clone().or_else(|| kept.as_ref().map(Kept::path));
        // Before anybody is asked to approve anything.
        if !on_stdout && file.is_none() {
            return Err(Error::NowhereToKeep);
        }
        let waiting = || output.say("waiting for another `bursar token` to end");
        let _turn = kept.as_ref().map(|kept| kept.turn(waiting)).transpose()?;
        let usable = kept.as_ref().filter(|_| !self.new).and_then(|kept| kept.token(SystemClock.now()));
        let (token, ends) = match usable {
            Some(usable) => usable,
            None => {
                let refused = |source| Error::Issuer { issuer: settings.issuer.clone(), source };
                let (token, ends) = approved(&settings, output).await.map_err(refused)?;
                match &kept {
                    Some(kept) => kept.keep(&token)?,
                    None if self.out.is_none() => output.say(UNKEPT),
                    None => {}
                }
                (token, ends)
            }
        };
        if let Some(out) = &self.out {
            disclose::replace_file(out, &token)?;
        }
        match file {
            Some(file) if !on_stdout => {
                let words = format!(
                    "the token is in `{0}` until {ends}; present it by --token-file {0}",
                    file.display()
                );
                output.done(&Written { file, expires_at: ends }, &words)
            }
            _ => disclose::to_stdout(&token).and_then(|()| disclose::line_end()),
        }
    }
}

/// A token that a person approved, and when it ends.
async fn approved(settings: &IssuerSettings, output: Output) -> Result<(Secret, Timestamp), IssuerError> {
    let issuer = Issuer::discover(settings).await?;
    let offer = issuer.offer().await?;
    let whole = offer.address_with_code.as_ref().map(|url| format!("\nor open  {url}"));
    output.say(&format!(
        "open     {}\nenter    {}{}\nto let Bursar present a token of yours; the code ends in {}",
        offer.address,
        offer.user_code,
        whole.unwrap_or_default(),
        text::duration(offer.life)
    ));
    let token = {
        let _progress = Progress::waiting("waiting for you to approve".to_owned());
        issuer.token(&offer).await?
    };
    let ends = token_ends_at(&token).ok_or(IssuerError::Opaque)?;
    Ok((token, ends))
}

/// Where a token is.
#[derive(Serialize)]
struct Written {
    file: PathBuf,
    expires_at: Timestamp,
}

const UNKEPT: &str =
    "the token is not kept for the next command: $XDG_RUNTIME_DIR is no folder of yours alone in memory";
const EXAMPLES: &str = "\
Examples:
  bursar token --issuer https://login.example.org/realms/acme --client-id bursar
  bursar get --token-command 'bursar token' local/payments/db#password
  bursar token --out \"$XDG_RUNTIME_DIR/mine\" --use access_token

What is not given as an option is taken from BURSAR_ISSUER, BURSAR_CLIENT_ID and
BURSAR_ISSUER_CA, else from `[token]` in config.toml with the keys `issuer`, `client_id`,
`scope`, `audience`, `use` and `ca`.";
