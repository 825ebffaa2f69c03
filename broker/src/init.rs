//! `bursar-broker init`: what a data directory needs before a broker can serve from it.
//!
//! Every step finds out whether it was done before, so `init` can be run again after a fault, and never replaces a key.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bursar_core::Clock;
use bursar_core::audit::Action;

use crate::call::{own_actor, own_record};
use crate::config::Config;
use crate::identity::authority::IssuedIdentity;
use crate::keys::Keys;
use crate::ledger::{Entry, Ledger, LedgerConfig, Quotas};
use crate::policy::Policies;
use crate::rulebook::Rulebook;
use crate::seal::Seal;
use crate::sealing::{self, Sealing};
use crate::start::{StartError, ledger_place, origin};

/// What `init` left where.
#[derive(Debug)]
pub struct Initialised {
    /// Whether this run made the keys; another did before when not.
    pub fresh: bool,
    pub ca: PathBuf,
    /// The administrator's certificate and key; only the run that made the keys writes them.
    pub administrator: Option<(PathBuf, PathBuf)>,
    /// The key that checks the audit log.
    pub verifier: PathBuf,
}

/// Makes the seal key (where it is a file that is not there), the ledger, the authority, the signing key, the first
/// policies and the administrator's certificate.
///
/// # Errors
/// [`StartError`]; what was done stays and is taken up by the next run.
pub async fn init(config: &Config, clock: Arc<dyn Clock>) -> Result<Initialised, StartError> {
    directory(&config.data_dir)?;
    sealing::make(config, &clock).await?;
    let Sealing { seal, .. } = sealing::open(config, &clock).await?;
    let ledger_config = LedgerConfig {
        place: ledger_place(config)?,
        origin: origin(config),
        queue: 64,
        quotas: Quotas::default(),
    };
    let ledger = Ledger::open(ledger_config, Arc::clone(&clock))?;
    let bootstrap = config.data_dir.join(BOOTSTRAP);
    directory(&bootstrap)?;
    let initialised = with_ledger(config, &ledger, &seal, &bootstrap, clock).await;
    ledger.close().await;
    initialised
}

async fn with_ledger(
    config: &Config,
    ledger: &Ledger,
    seal: &Seal,
    bootstrap: &Path,
    clock: Arc<dyn Clock>,
) -> Result<Initialised, StartError> {
    let (ca, verifier) = (bootstrap.join(CA), bootstrap.join("audit.vkey"));
    let origin = origin(config);
    let administrator = config.administrator();
    let open = Keys::open(ledger, seal, &config.trust_domain, &origin, &administrator, &clock);
    if let Some((keys, _)) = open.await? {
        write_again(&ca, keys.authority.root_pem().as_bytes())?;
        write_again(&verifier, format!("{}\n", keys.signer.verifier()).as_bytes())?;
        return Ok(Initialised { fresh: false, ca, administrator: None, verifier });
    }
    let (keys, mut changes) = Keys::create(seal, &config.trust_domain, &origin, &administrator, &clock)?;
    let at = clock.now();
    changes.push(Rulebook::first(&Policies::bootstrap(&administrator), administrator.clone(), at));
    let identity = keys.authority.user(&administrator)?;
    // Written before the keys are committed: a fault in between makes new ones, and these files are replaced.
    write_again(&ca, keys.authority.root_pem().as_bytes())?;
    write_again(&verifier, format!("{}\n", keys.signer.verifier()).as_bytes())?;
    let files = write_identity(&identity, bootstrap, "admin")?;
    ledger.start_signing(keys.signer)?;
    let actor = own_actor(&administrator);
    let record = own_record(actor, at, "init".to_owned(), Action::ApplyPolicy, "bootstrap".to_owned());
    ledger.commit(Entry { changes, records: vec![record] }).await?;
    Ok(Initialised { fresh: true, ca, administrator: Some(files), verifier })
}

/// The certificate of the authority that vouches for the broker, in PEM, as `init` left it.
///
/// # Errors
/// [`StartError::NotInitialised`] where it is not there; [`StartError::File`].
pub fn authority(config: &Config) -> Result<String, StartError> {
    let path = config.data_dir.join(BOOTSTRAP).join(CA);
    std::fs::read_to_string(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => StartError::NotInitialised,
        _ => StartError::File { path, source },
    })
}

/// Makes a directory for this user alone, where there is none.
///
/// # Errors
/// [`StartError::File`].
pub fn directory(path: &Path) -> Result<(), StartError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| StartError::File { path: path.to_owned(), source })
}

/// Writes a certificate and its key into `folder`, in place of those that are there. Answers where they are.
///
/// # Errors
/// [`StartError::File`].
pub fn write_identity(
    identity: &IssuedIdentity,
    folder: &Path,
    name: &str,
) -> Result<(PathBuf, PathBuf), StartError> {
    let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    write_again(&certificate, identity.certificate_pem().as_bytes())?;
    write_again(&key, identity.key_pem().expose())?;
    Ok((certificate, key))
}

/// Creates a file that must not be there yet, readable by this user only from its first byte on.
fn write_new(path: &Path, content: &[u8]) -> Result<(), StartError> {
    write(path, OpenOptions::new().write(true).create_new(true), content)
}

/// Writes a file that only this user can read, in place of one that is there.
///
/// # Errors
/// [`StartError::File`].
pub fn write_again(path: &Path, content: &[u8]) -> Result<(), StartError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StartError::File { path: path.to_owned(), source })
        }
        _ => write_new(path, content),
    }
}

fn write(path: &Path, options: &mut OpenOptions, content: &[u8]) -> Result<(), StartError> {
    let fault = |source| StartError::File { path: path.to_owned(), source };
    let mut file = options.mode(0o600).open(path).map_err(fault)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(fault)
}

const BOOTSTRAP: &str = "bootstrap";
const CA: &str = "ca.pem";
