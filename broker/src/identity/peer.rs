//! From a verified certificate chain to a principal.
//!
//! rustls has checked signatures, times and purpose. What is checked here are the rules that make a certificate an
//! X.509-SVID (SPIFFE X.509-SVID standard, sections 2 and 4): one URI name, a leaf, no signing powers. Whether its
//! authority may vouch for that name is for [`trust`](super::trust).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bursar_core::SpiffeId;
use bursar_core::spiffe::{PrincipalKind, SpiffeIdError, TrustDomain};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::break_glass::{self, BreakGlass, Broken};
use super::{Caller, Method};
use crate::policy::{Facts, PrincipalFacts};

/// Who the certificate of a connection says is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub id: SpiffeId,
    /// SHA-256 of the certificate, as hex.
    pub fingerprint: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// What it was made for, where it says so.
    pub(super) purpose: Option<Arc<str>>,
}

impl Peer {
    /// Reads a leaf certificate in DER.
    ///
    /// # Errors
    /// [`CertificateFault`], which names the rule that it breaks.
    pub fn from_leaf(der: &[u8]) -> Result<Self, CertificateFault> {
        let (_, leaf) = X509Certificate::from_der(der).map_err(|_| CertificateFault::Unreadable)?;
        if leaf.is_ca() {
            return Err(CertificateFault::Authority);
        }
        let signs = leaf.key_usage().ok().flatten().is_some_and(|usage| {
            usage.value.key_cert_sign() || usage.value.crl_sign() || !usage.value.digital_signature()
        });
        if signs {
            return Err(CertificateFault::KeyUsage);
        }
        let names = leaf.subject_alternative_name().map_err(|_| CertificateFault::Unreadable)?;
        let mut uris =
            names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
        let id = match (uris.next(), uris.next()) {
            (Some(uri), None) => SpiffeId::parse(uri)?,
            (None, _) => return Err(CertificateFault::NoSpiffeId),
            (Some(_), Some(_)) => return Err(CertificateFault::ManyUris),
        };
        let validity = leaf.validity();
        Ok(Self {
            id,
            fingerprint: data_encoding::HEXLOWER.encode(&Sha256::digest(der)),
            not_before: at(validity.not_before.timestamp())?,
            not_after: at(validity.not_after.timestamp())?,
            purpose: break_glass::purpose(&leaf),
        })
    }
}

impl Peer {
    /// The caller that this certificate, which was judged, makes of whoever is at `address`, by its chain and the bundles
    /// of `generation`; `domain` is the broker's own.
    pub(super) fn presented(
        self,
        address: SocketAddr,
        chain: Vec<CertificateDer<'static>>,
        generation: u64,
        domain: &TrustDomain,
        glass: &BreakGlass,
    ) -> Presented {
        let node = matches!(self.id.kind(), PrincipalKind::Node { .. }) && self.id.is_in(domain);
        let broken = self.purpose.filter(|_| self.id == glass.id).map(Broken::because);
        let method = if broken.is_some() { Method::BreakGlass } else { Method::Mtls };
        let facts = PrincipalFacts::new(Facts {
            id: self.id,
            method: method.as_str().to_owned(),
            node: None,
            selectors: Vec::new(),
            groups: Vec::new(),
        });
        let caller = Arc::new(Caller {
            facts,
            credential: self.fingerprint,
            credential_expires: self.not_after,
            instance: None,
            ttl: None,
            peer: Some(address),
            account: None,
        });
        Presented {
            caller,
            not_before: self.not_before,
            not_after: self.not_after,
            node,
            broken,
            chain,
            judged_in: AtomicU64::new(generation),
        }
    }
}

fn at(seconds: i64) -> Result<Timestamp, CertificateFault> {
    Timestamp::from_second(seconds).map_err(|_| CertificateFault::Unreadable)
}

/// A peer as a caller: made once for a connection, used by all of its calls.
#[derive(Debug)]
pub struct Presented {
    pub caller: Arc<Caller>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Whether it is that of a node of the broker's own trust domain: of others there are none here.
    pub node: bool,
    /// Whether it came by the break-glass path.
    pub broken: Option<Broken>,
    /// To judge again when the trust bundles have changed.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The generation of the trust bundles by which that was done last.
    pub(super) judged_in: AtomicU64,
}

/// Why a certificate names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("the client certificate cannot be read")]
    Unreadable,
    #[error("the client certificate is that of an authority; present a leaf")]
    Authority,
    #[error(
        "the client certificate's key usage is not that of an X.509-SVID (digitalSignature, no signing powers)"
    )]
    KeyUsage,
    #[error("the client certificate has no URI name; it needs one, a SPIFFE ID")]
    NoSpiffeId,
    #[error("the client certificate has several URI names; an X.509-SVID has exactly one")]
    ManyUris,
    #[error("the client certificate's {0}")]
    SpiffeId(#[from] SpiffeIdError),
    #[error("the client certificate names `{id}`, of whose trust domain this broker knows no authority")]
    UnknownDomain { id: SpiffeId },
    #[error(
        "the client certificate names `{id}`, and no authority that this broker knows for its trust domain vouches for it"
    )]
    NotVouchedFor { id: SpiffeId },
    #[error(
        "the client certificate names `{id}`, for whom its authority may not vouch; see `principals` in the broker's \
         `[identity.trust.{bundle}]`"
    )]
    NotItsPrincipal { id: SpiffeId, bundle: String },
    #[error("the client certificate is for break-glass, and not let in by `[identity.break_glass]`: {why}")]
    BreakGlass { why: &'static str },
    #[error("the client certificate was revoked by its authority")]
    Revoked,
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};

    use super::*;

    fn certificate(shape: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri("spiffe://example.org/user/ada")];
        shape(&mut params);
        params.self_signed(&KeyPair::generate().expect("key")).expect("certificate").der().to_vec()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.to_owned().try_into().expect("uri"))
    }

    fn fault(shape: impl FnOnce(&mut CertificateParams)) -> Option<CertificateFault> {
        Peer::from_leaf(&certificate(shape)).err()
    }

    #[test]
    fn a_proper_leaf_is_read() {
        assert_eq!(fault(|_| ()), None);
    }

    #[test]
    fn each_rule_refuses() {
        use CertificateFault as F;
        let ca = IsCa::Ca(BasicConstraints::Unconstrained);
        assert_eq!(fault(|params| params.is_ca = ca), Some(F::Authority));
        assert_eq!(fault(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]), Some(F::KeyUsage));
        assert_eq!(fault(|params| params.subject_alt_names.clear()), Some(F::NoSpiffeId));
        assert_eq!(fault(|params| params.subject_alt_names.push(uri("spiffe://d/b"))), Some(F::ManyUris));
        assert!(matches!(
            fault(|params| params.subject_alt_names = vec![uri("https://example.org/a")]),
            Some(F::SpiffeId(_))
        ));
        assert!(matches!(
            fault(|params| params.subject_alt_names = vec![uri("spiffe://example.org/user/ada\0")]),
            Some(F::SpiffeId(_))
        ));
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!(Peer::from_leaf(b"\x30\x82garbage"), Err(CertificateFault::Unreadable));
    }
}
