//! A certificate with its key, in memory and on disk.
//!
//! Both are in one file, so that no crash leaves a certificate with the key of another. It is written beside its place,
//! synced and renamed, with mode 0600 from the start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bursar_core::spiffe::PrincipalKind;
use bursar_core::{Secret, SpiffeId};
use data_encoding::BASE64;
use jiff::Timestamp;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

/// A certificate with its key.
pub struct Credential {
    /// PKCS#8 in PEM.
    key: Secret,
    /// The node's own first.
    chain: String,
    /// Roots that the broker wants to be known by from now on; those of the configuration count too.
    bundle: String,
    id: SpiffeId,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Credential {
    /// Puts together what the broker issued for `key`, each certificate in DER.
    ///
    /// # Errors
    /// [`CredentialError`] when the certificate is not for this key or names no node.
    pub fn new(key: &rcgen::KeyPair, chain: &[Vec<u8>], bundle: &[Vec<u8>]) -> Result<Self, CredentialError> {
        let leaf = chain.first().ok_or(CredentialError::NoCertificate)?;
        let leaf = Leaf::read(leaf)?;
        if leaf.public_key != rcgen::PublicKeyData::subject_public_key_info(key) {
            return Err(CredentialError::OtherKey);
        }
        let key = Secret::from(key.serialize_pem());
        Ok(Self::assemble(key, pem(chain), pem(bundle), leaf))
    }

    /// Reads what [`Credential::store`] wrote; nothing when it never did.
    ///
    /// # Errors
    /// [`CredentialError`] when the files are there and cannot be used.
    pub fn load(folder: &Path) -> Result<Option<Self>, CredentialError> {
        let path = folder.join(IDENTITY_FILE);
        let Some(identity) = read(&path, |path, source| CredentialError::Unreadable { path, source })? else {
            return Ok(None);
        };
        let identity = Zeroizing::new(identity);
        let damaged = || CredentialError::Damaged { path: path.clone() };
        let end = identity.find(CERTIFICATE_START).ok_or_else(damaged)?;
        let (key, chain) = identity.split_at_checked(end).ok_or_else(damaged)?;
        let first =
            Pem::iter_from_buffer(chain.as_bytes()).next().and_then(Result::ok).ok_or_else(damaged)?;
        let leaf = Leaf::read(&first.contents)?;
        let pair = rcgen::KeyPair::from_pem(key).map_err(|_| damaged())?;
        if leaf.public_key != rcgen::PublicKeyData::subject_public_key_info(&pair) {
            return Err(CredentialError::OtherKey);
        }
        let bundle = folder.join(BUNDLE_FILE);
        let bundle = read(&bundle, |path, source| CredentialError::Unreadable { path, source })?;
        let key = Secret::new(key.as_bytes().to_vec());
        Ok(Some(Self::assemble(key, chain.to_owned(), bundle.unwrap_or_default(), leaf)))
    }

    /// Writes it into `folder`, in place of the one before.
    ///
    /// # Errors
    /// [`CredentialError::Unwritable`]; the one before is untouched then.
    pub fn store(&self, folder: &Path) -> Result<(), CredentialError> {
        // The bundle first: with the new one the old identity still works, and the other way round it may not.
        write_private(&folder.join(BUNDLE_FILE), &[self.bundle.as_bytes()])?;
        write_private(&folder.join(IDENTITY_FILE), &[self.key.expose(), self.chain.as_bytes()])
    }

    /// What a connection to the broker needs. `ca` is what the configuration trusts, in PEM.
    pub fn tls(&self, ca: &[u8], server_name: Option<&str>) -> bursar_sdk::Tls {
        bursar_sdk::Tls {
            ca_pem: [ca, b"\n", self.bundle.as_bytes()].concat(),
            identity: Some(bursar_sdk::Identity {
                cert_pem: self.chain.clone().into_bytes(),
                key_pem: Secret::new(self.key.expose().to_vec()),
            }),
            server_name: server_name.map(str::to_owned),
        }
    }

    /// `spiffe://TRUST_DOMAIN/node/NAME`.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// When it ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether it can be used at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        now < self.not_after
    }

    /// The moment at which `share` of its life is over, of 1.
    pub fn at_share_of_life(&self, share: f64) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        self.not_before.saturating_add(life.mul_f64(share)).unwrap_or(self.not_after)
    }

    fn assemble(key: Secret, chain: String, bundle: String, leaf: Leaf) -> Self {
        Self { key, chain, bundle, id: leaf.id, not_before: leaf.not_before, not_after: leaf.not_after }
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("id", &self.id)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// What is read of a node's certificate.
struct Leaf {
    id: SpiffeId,
    public_key: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Leaf {
    fn read(der: &[u8]) -> Result<Self, CredentialError> {
        let (_, leaf) = X509Certificate::from_der(der).map_err(|_| CredentialError::NoCertificate)?;
        let names = leaf.subject_alternative_name().map_err(|_| CredentialError::NoCertificate)?;
        let mut uris =
            names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
                GeneralName::URI(uri) => SpiffeId::parse(uri).ok(),
                _ => None,
            });
        let id = uris.next().filter(|id| matches!(id.kind(), PrincipalKind::Node { .. }));
        let at = |seconds| Timestamp::from_second(seconds).map_err(|_| CredentialError::NoCertificate);
        Ok(Self {
            id: id.ok_or(CredentialError::NoNode)?,
            public_key: leaf.public_key().raw.to_vec(),
            not_before: at(leaf.validity().not_before.timestamp())?,
            not_after: at(leaf.validity().not_after.timestamp())?,
        })
    }
}

fn pem(certificates: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str(CERTIFICATE_START);
        text.push('\n');
        for line in BASE64.encode(certificate).as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

fn read<E>(path: &Path, fault: impl FnOnce(PathBuf, io::Error) -> E) -> Result<Option<String>, E> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault(path.to_owned(), error)),
    }
}

/// Writes a file that is either whole or not there, whenever the machine stops.
pub(crate) fn write_private(path: &Path, parts: &[&[u8]]) -> Result<(), CredentialError> {
    let unwritable = |source| CredentialError::Unwritable { path: path.to_owned(), source };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut options = File::options();
    let mut file =
        options.write(true).create(true).truncate(true).mode(PRIVATE).open(&beside).map_err(unwritable)?;
    // One that a crash left behind may have been made with another mode.
    file.set_permissions(fs::Permissions::from_mode(PRIVATE)).map_err(unwritable)?;
    for part in parts {
        file.write_all(part).map_err(unwritable)?;
    }
    file.sync_all().map_err(unwritable)?;
    fs::rename(&beside, path).map_err(unwritable)?;
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unwritable)
}

/// Why a certificate cannot be used, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write `{}`; check that the data directory exists, is this user's and has room", path.display())]
    Unwritable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` is damaged; remove it and join again with a new token", path.display())]
    Damaged { path: PathBuf },
    #[error("there is no certificate that can be read")]
    NoCertificate,
    #[error("the certificate names no node")]
    NoNode,
    #[error("the certificate is for another key")]
    OtherKey,
}

const IDENTITY_FILE: &str = "node.pem";
const BUNDLE_FILE: &str = "trust-bundle.pem";
const CERTIFICATE_START: &str = "-----BEGIN CERTIFICATE-----";
const PRIVATE: u32 = 0o600;
