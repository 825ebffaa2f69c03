//! `bursar-broker verify`: all of a ledger read against itself, whether or not a broker has it open.

use bursar_core::tlog::{KeyError, Verifier};

use crate::config::Config;
use crate::keys::{self, KeysError};
use crate::ledger::{Inspection, LogKey, OpenError};
use crate::seal::Seal;
use crate::start::{StartError, ledger_place, origin};

/// Which key the log has to be signed by.
#[derive(Debug, Clone, Copy)]
pub enum Trusted<'a> {
    /// The text of a verifier key that was kept elsewhere.
    Kept(&'a str),
    /// The broker's own in the ledger, which its seal opens.
    Own(&'a Seal),
}

/// Looks at the ledger of `config`.
///
/// # Errors
/// [`VerifyError`] when it cannot be looked at. What is wrong with it is in the answer.
pub fn verify(config: &Config, key: Trusted<'_>) -> Result<Inspection, VerifyError> {
    let place = ledger_place(config).map_err(Box::new)?;
    Ok(match key {
        Trusted::Kept(text) => place.inspect(LogKey::Public(&Verifier::parse(text.trim())?))?,
        Trusted::Own(seal) => {
            let signer = keys::signer_in(&place, seal, &origin(config))?;
            place.inspect(LogKey::Own(&signer))?
        }
    })
}

/// Why a ledger cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("the verifier key cannot be used; it is in `bootstrap/audit.vkey` of a new data directory")]
    Verifier(#[from] KeyError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Place(#[from] Box<StartError>),
}
