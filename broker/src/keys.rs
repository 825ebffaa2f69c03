//! The broker's own keys: made once by `init`, kept in the ledger, sealed.

use std::sync::Arc;

use bursar_core::spiffe::TrustDomain;
use bursar_core::tlog::Signer;
use bursar_core::{Clock, Secret, SpiffeId};
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;

use crate::identity::Authority;
use crate::identity::authority::AuthorityError;
use crate::ledger::{Change, Ledger, LedgerError, LedgerPlace, ObjectKind, OpenError};
use crate::seal::{Seal, SealError};

/// The keys of a broker.
#[derive(Debug)]
pub struct Keys {
    pub authority: Authority,
    pub signer: Signer,
}

impl Keys {
    /// Makes new keys, and the changes that put them into a ledger that has none.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn create(
        seal: &Seal,
        domain: &TrustDomain,
        origin: &str,
        by: &SpiffeId,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Self, Vec<Change>), KeysError> {
        let (authority, authority_key) = Authority::create(domain.clone(), Arc::clone(clock))?;
        let signing = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeysError::Random)?;
        let signing = Secret::new(signing.as_ref().to_vec());
        let signer = signer(origin, &signing)?;
        let at = clock.now();
        let put = |name: &str, body| put(name, body, 0, by, at);
        let changes = vec![
            put(AUTHORITY_CERTIFICATE, authority.root().to_vec()),
            put(AUTHORITY_KEY, seal.wrap(AUTHORITY_KEY, &authority_key)?),
            put(SIGNING_KEY, seal.wrap(SIGNING_KEY, &signing)?),
        ];
        Ok((Self { authority, signer }, changes))
    }

    /// Opens the keys in `ledger`, with the changes that wrap by the present seal what the one before wrapped; none, when
    /// it has none yet.
    ///
    /// # Errors
    /// [`KeysError::Seal`] when the seal is not the one that they were made with.
    pub async fn open(
        ledger: &Ledger,
        seal: &Seal,
        domain: &TrustDomain,
        origin: &str,
        by: &SpiffeId,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<(Self, Vec<Change>)>, KeysError> {
        let object = async |name| ledger.object(ObjectKind::Key, name).await;
        let Some(signing) = object(SIGNING_KEY).await? else { return Ok(None) };
        let (certificate, key) = (object(AUTHORITY_CERTIFICATE).await?, object(AUTHORITY_KEY).await?);
        let (Some(certificate), Some(key)) = (certificate, key) else { return Err(KeysError::Incomplete) };
        let mut rewrapped = Vec::new();
        for (name, object) in [(AUTHORITY_KEY, &key), (SIGNING_KEY, &signing)] {
            let body = seal.rewrap(name, &object.body)?;
            rewrapped.extend(body.map(|body| put(name, body, object.revision, by, clock.now())));
        }
        let key = seal.open(AUTHORITY_KEY, &key.body)?;
        let authority = Authority::restore(domain.clone(), certificate.body, &key, Arc::clone(clock))?;
        let signer = signer(origin, &seal.open(SIGNING_KEY, &signing.body)?)?;
        Ok(Some((Self { authority, signer }, rewrapped)))
    }
}

/// The key that signs the log of a ledger that is not opened to be written: to look at, or out of a backup.
///
/// # Errors
/// [`KeysError::Incomplete`] when the ledger has none, [`KeysError::Seal`] when the seal is another.
pub fn signer_in(ledger: &LedgerPlace, seal: &Seal, origin: &str) -> Result<Signer, KeysError> {
    let sealed = ledger.key(SIGNING_KEY)?.ok_or(KeysError::Incomplete)?;
    signer(origin, &seal.open(SIGNING_KEY, &sealed)?)
}

/// The authority of a ledger that is not opened to be written.
///
/// # Errors
/// As [`signer_in`].
pub fn authority_in(
    ledger: &LedgerPlace,
    seal: &Seal,
    domain: &TrustDomain,
    clock: Arc<dyn Clock>,
) -> Result<Authority, KeysError> {
    let key = |name| ledger.key(name)?.ok_or(KeysError::Incomplete);
    let (certificate, sealed) = (key(AUTHORITY_CERTIFICATE)?, key(AUTHORITY_KEY)?);
    Ok(Authority::restore(domain.clone(), certificate, &seal.open(AUTHORITY_KEY, &sealed)?, clock)?)
}

fn signer(origin: &str, pkcs8: &Secret) -> Result<Signer, KeysError> {
    Signer::from_pkcs8(origin, pkcs8.expose()).map_err(|_| KeysError::Incomplete)
}

fn put(name: &str, body: Vec<u8>, over: u64, by: &SpiffeId, at: Timestamp) -> Change {
    Change::PutObject {
        kind: ObjectKind::Key,
        name: name.to_owned(),
        body,
        expected: Some(over),
        by: by.clone(),
        at,
    }
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the keys in the ledger are incomplete; restore it from a backup")]
    Incomplete,
    #[error("the operating system gives no randomness")]
    Random,
}

const AUTHORITY_CERTIFICATE: &str = "authority certificate";
const AUTHORITY_KEY: &str = "authority key";
const SIGNING_KEY: &str = "ledger signing key";
