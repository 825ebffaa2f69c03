//! One authority's roots and lists of revoked certificates, out of their files.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bursar_core::spiffe::TrustDomain;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{CertificateRevocationList, FromDer, GeneralName, X509Certificate};

use crate::config::{PrincipalPatterns, TrustSettings};

/// Who vouches for whom.
pub(super) struct Bundle {
    /// Of its table; nothing for the broker's own authority.
    pub(super) name: Option<String>,
    pub(super) domain: TrustDomain,
    pub(super) principals: PrincipalPatterns,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// When its first list of revoked certificates is out of date, and with it the bundle.
    pub(super) until: Option<Timestamp>,
    /// Of the files that it was read from.
    pub(super) digest: [u8; 32],
}

/// What the files of a bundle hold.
pub(super) struct Content {
    roots: Vec<u8>,
    revoked: Option<Vec<u8>>,
}

impl Bundle {
    /// The broker's own authority. It vouches for whomever it issues to.
    pub(super) fn own(domain: TrustDomain, root: CertificateDer<'static>) -> Result<Self, BundleError> {
        let roots = vec![root];
        let named = ["/node/*", "/broker/*", "/**"];
        let principals = PrincipalPatterns::parse(named).map_err(BundleError::Verifier)?;
        let verifier = verifier(&roots, Vec::new())?;
        Ok(Self { name: None, domain, principals, roots, verifier, until: None, digest: [0; 32] })
    }

    /// A bundle of the configuration.
    pub(super) fn of(settings: &TrustSettings, content: &Content) -> Result<Self, BundleError> {
        let unusable = |why| BundleError::Root { path: settings.bundle.clone(), why };
        let roots: Vec<_> = CertificateDer::pem_slice_iter(&content.roots)
            .collect::<Result<_, _>>()
            .map_err(|_| unusable("what cannot be read"))?;
        if roots.is_empty() {
            return Err(unusable("no certificate in PEM"));
        }
        for root in &roots {
            check_root(root, &settings.domain).map_err(unusable)?;
        }
        let revoked = match (&settings.crl, &content.revoked) {
            (Some(path), Some(content)) => revocation_lists(path, content)?,
            _ => Vec::new(),
        };
        Ok(Self {
            name: Some(settings.name.clone()),
            domain: settings.domain.clone(),
            principals: settings.principals.clone(),
            until: revoked.iter().filter_map(until).min(),
            verifier: verifier(&roots, revoked)?,
            roots,
            digest: content.digest(),
        })
    }
}

impl Content {
    /// Reads the files that `settings` name.
    pub(super) fn read(settings: &TrustSettings) -> Result<Self, BundleError> {
        let roots = read(&settings.bundle, ROOTS_BYTES)?;
        let revoked = settings.crl.as_deref().map(|path| read(path, REVOKED_BYTES)).transpose()?;
        Ok(Self { roots, revoked })
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        let parts = Sha256::new().chain_update(Sha256::digest(&self.roots));
        parts.chain_update(self.revoked.as_ref().map(Sha256::digest).unwrap_or_default()).finalize().into()
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, BundleError> {
    let fault = |source| BundleError::Unreadable { path: path.to_owned(), source };
    let mut content = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut content)).map_err(fault)?;
    if u64::try_from(content.len()).is_ok_and(|length| length > limit) {
        return Err(BundleError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(content)
}

/// A root that cannot be what its table says that it is, is a mistake: anything that it signed would be believed.
fn check_root(root: &CertificateDer<'_>, domain: &TrustDomain) -> Result<(), &'static str> {
    let (_, root) = X509Certificate::from_der(root).map_err(|_| "what cannot be read")?;
    if !root.is_ca() {
        return Err("a certificate that is not that of an authority");
    }
    let names = root.subject_alternative_name().map_err(|_| "what cannot be read")?;
    let mut domains =
        names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("spiffe://"),
            _ => None,
        });
    match domains.all(|named| named.split('/').next() == Some(domain.as_str())) {
        true => Ok(()),
        false => Err("the authority of another trust domain"),
    }
}

fn revocation_lists(
    path: &Path,
    content: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, BundleError> {
    let fault = || BundleError::Revoked { path: path.to_owned() };
    let lists: Vec<_> = match content.starts_with(DER_SEQUENCE) {
        true => vec![CertificateRevocationListDer::from(content.to_vec())],
        false => CertificateRevocationListDer::pem_slice_iter(content)
            .collect::<Result<_, _>>()
            .map_err(|_| fault())?,
    };
    if lists.is_empty() { Err(fault()) } else { Ok(lists) }
}

/// The next update that a list promises.
fn until(list: &CertificateRevocationListDer<'static>) -> Option<Timestamp> {
    let (_, list) = CertificateRevocationList::from_der(list).ok()?;
    Timestamp::from_second(list.next_update()?.timestamp()).ok()
}

/// With lists of what was revoked, a certificate on whose state none of them speaks is refused, and so is every one once
/// the list is out of date: whoever can hold a newer list back could otherwise keep what it revokes alive.
fn verifier(
    roots: &[CertificateDer<'static>],
    revoked: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, BundleError> {
    let mut store = RootCertStore::empty();
    let unusable = |error: String| BundleError::Verifier(error);
    for root in roots {
        store.add(root.clone()).map_err(|error| unusable(error.to_string()))?;
    }
    let provider = Arc::new(ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider)
        .with_crls(revoked)
        .enforce_revocation_expiration()
        .build()
        .map_err(|error| unusable(error.to_string()))
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, domain, principals, roots, .. } = self;
        let mut shown = f.debug_struct("Bundle");
        shown.field("name", name).field("domain", domain).field("principals", principals);
        shown.field("roots", &roots.len()).finish_non_exhaustive()
    }
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` is larger than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("`{}` has {why}; it is to hold roots of one trust domain, in PEM", path.display())]
    Root { path: PathBuf, why: &'static str },
    #[error("`{}` has no list of revoked certificates that can be read", path.display())]
    Revoked { path: PathBuf },
    #[error("roots or lists of revoked certificates cannot be used: {0}")]
    Verifier(String),
    #[error("a root is in the bundle of trust domain `{other}` too; an authority vouches for one")]
    Shared { other: TrustDomain },
}

const ROOTS_BYTES: u64 = 4 * 1024 * 1024;
const REVOKED_BYTES: u64 = 64 * 1024 * 1024;
/// How DER begins where a list is longer than 127 bytes, as each is.
const DER_SEQUENCE: &[u8] = &[0x30];
