//! `bursar-broker break-glass`: a certificate for an emergency.
//!
//! It is made out of the ledger's file, which is only read, and the seal key. So it needs no broker that serves, no
//! identity provider and no policy that permits it; and nobody makes one from a distance. What was made is in no log
//! until it is used: the ledger belongs to the broker that serves from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bursar_core::Clock;
use jiff::Timestamp;

use crate::config::Config;
use crate::identity::authority::AuthorityError;
use crate::identity::break_glass::MAX_PURPOSE;
use crate::init;
use crate::keys::{self, KeysError};
use crate::sealing::{self, Sealing};
use crate::start::{StartError, ledger_place};

/// What was made, and where.
#[derive(Debug)]
pub struct Made {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Whom to believe that they are the broker.
    pub ca: PathBuf,
    pub until: Timestamp,
}

/// Makes a certificate with its key in the folder `to`, which is made where there is none.
///
/// # Errors
/// [`BreakGlassError`]; nothing was made then, or files that the next run replaces.
pub async fn issue(
    config: &Config,
    clock: Arc<dyn Clock>,
    reason: &str,
    to: &Path,
) -> Result<Made, BreakGlassError> {
    let glass = config.break_glass();
    let life = glass.life.ok_or(BreakGlassError::Off)?;
    let said = reason.trim();
    if said.is_empty() || said.chars().count() > MAX_PURPOSE || said.chars().any(char::is_control) {
        return Err(BreakGlassError::Reason);
    }
    let Sealing { seal, .. } = sealing::open(config, &clock).await?;
    let authority = keys::authority_in(&ledger_place(config)?, &seal, &config.trust_domain, clock)?;
    let identity = authority.break_glass(&glass.id, said, life)?;
    init::directory(to)?;
    let ca = to.join("ca.pem");
    init::write_again(&ca, authority.root_pem().as_bytes())?;
    let (certificate, key) = init::write_identity(&identity, to, "break-glass")?;
    Ok(Made { certificate, key, ca, until: identity.certificate.not_after })
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum BreakGlassError {
    #[error(
        "break-glass is off; write a table `[identity.break_glass]` into the configuration and restart the broker, or it \
         would not let the certificate in"
    )]
    Off,
    #[error(
        "`--reason` has to say why, in 1 to {MAX_PURPOSE} printable characters; it goes into the audit log"
    )]
    Reason,
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Start(#[from] StartError),
}
