//! `bursar-broker verify`: all of a ledger read against itself, whether or not a broker has it open.

use std::path::Path;

use bursar_core::tlog::{KeyError, Signer, Verifier};

use crate::config::Config;
use crate::keys::{self, KeysError};
use crate::ledger::{Inspection, Ledger, LogKey, OpenError};
use crate::seal::{Seal, SealError};
use crate::source::{self, SourceError};
use crate::start::origin;

/// Looks at the ledger of `config`. `key` is the text of a verifier key that was kept elsewhere; without one, the key is
/// the broker's own in the ledger, which the seal opens.
///
/// # Errors
/// [`VerifyError`] when it cannot be looked at. What is wrong with it is in the answer.
pub fn verify(config: &Config, key: Option<&str>) -> Result<Inspection, VerifyError> {
    let path = config.ledger_path();
    Ok(match key {
        Some(text) => Ledger::inspect(&path, LogKey::Public(&Verifier::parse(text.trim())?))?,
        None => Ledger::inspect(&path, LogKey::Own(&signed_by(config, &path)?))?,
    })
}

fn signed_by(config: &Config, ledger: &Path) -> Result<Signer, VerifyError> {
    let seal = Seal::from_key(&source::fetch(&config.seal_key)?)?;
    Ok(keys::signer_in(ledger, &seal, &origin(config))?)
}

/// Why a ledger cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("the verifier key cannot be used; it is in `bootstrap/audit.vkey` of a new data directory")]
    Verifier(#[from] KeyError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Open(#[from] OpenError),
}
