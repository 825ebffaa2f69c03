//! The broker's own certificate authority: one self-signed root that vouches for its trust domain's nodes, brokers and
//! administrators.
//!
//! Every certificate is an X.509-SVID (SPIFFE X.509-SVID standard, sections 2 to 4): exactly one URI name, the SPIFFE ID;
//! no authority bit; key usage digitalSignature. A node's key never leaves the node: it sends a signing request, of
//! which nothing but the public key is used.

use std::sync::Arc;
use std::time::Duration;

use bursar_core::spiffe::TrustDomain;
use bursar_core::{Clock, Secret, SpiffeId};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::break_glass::DESCRIPTION_OID;

/// Issues certificates for one trust domain.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    domain: TrustDomain,
    clock: Arc<dyn Clock>,
}

/// A certificate without its key.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    pub der: CertificateDer<'static>,
    pub not_after: Timestamp,
}

/// A certificate with its key, for whoever cannot make one.
pub struct IssuedIdentity {
    pub certificate: IssuedCertificate,
    key: KeyPair,
}

impl Authority {
    /// Makes a new root. The second part is its key as PKCS#8, to be sealed and kept.
    ///
    /// # Errors
    /// [`AuthorityError::Issue`] when the key or certificate cannot be made.
    pub fn create(domain: TrustDomain, clock: Arc<dyn Clock>) -> Result<(Self, Secret), AuthorityError> {
        let key = KeyPair::generate()?;
        let pkcs8 = Secret::new(key.serialize_der());
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("Bursar {domain}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into()?)];
        valid_for(&mut params, clock.now(), None, ROOT_LIFE);
        let certificate = params.self_signed(&key)?.der().clone();
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok((Self { issuer, certificate, domain, clock }, pkcs8))
    }

    /// Takes up a root that was made before.
    ///
    /// # Errors
    /// [`AuthorityError::Issue`] when certificate or key are not what [`Authority::create`] made.
    pub fn restore(
        domain: TrustDomain,
        certificate: Vec<u8>,
        key: &Secret,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuthorityError> {
        let certificate = CertificateDer::from(certificate);
        let key = KeyPair::try_from(key.expose())?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { issuer, certificate, domain, clock })
    }

    /// The trust domain that this root vouches for.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The root, for trust bundles.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The root in PEM.
    pub fn root_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// A server certificate for a broker that clients reach under `names` (DNS names and IP addresses).
    ///
    /// # Errors
    /// [`AuthorityError::Name`] for a name that is neither.
    pub fn server(&self, id: &SpiffeId, names: &[String]) -> Result<IssuedIdentity, AuthorityError> {
        let mut params = leaf(id)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    name.clone().try_into().map_err(|_| AuthorityError::Name { name: name.clone() })?,
                ),
            });
        }
        self.issue(params, SERVER_LIFE)
    }

    /// A certificate for a person who administers the broker.
    ///
    /// # Errors
    /// [`AuthorityError::Issue`] when the certificate cannot be made.
    pub fn user(&self, id: &SpiffeId) -> Result<IssuedIdentity, AuthorityError> {
        let mut params = leaf(id)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, USER_LIFE)
    }

    /// A certificate for whoever has to get in past policies; it says why.
    ///
    /// # Errors
    /// [`AuthorityError::Issue`] when the certificate cannot be made.
    pub fn break_glass(
        &self,
        id: &SpiffeId,
        reason: &str,
        life: Duration,
    ) -> Result<IssuedIdentity, AuthorityError> {
        let mut params = leaf(id)?;
        params.distinguished_name.push(DnType::CustomDnType(DESCRIPTION_OID.to_vec()), reason);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, life)
    }

    /// A certificate for a node whose key stays with it. `request` is PKCS#10 in DER; its public key is used, the names
    /// and extensions that it asks for are not. It begins no earlier than `from`.
    ///
    /// # Errors
    /// [`AuthorityError::Request`] when it is no signing request, or is not signed by its own key.
    pub fn node(
        &self,
        id: &SpiffeId,
        request: &[u8],
        from: Option<Timestamp>,
    ) -> Result<IssuedCertificate, AuthorityError> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(AuthorityError::Request)?;
        let mut params = leaf(id)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, &request.public_key, from, NODE_LIFE)
    }

    fn issue(&self, params: CertificateParams, life: Duration) -> Result<IssuedIdentity, AuthorityError> {
        let key = KeyPair::generate()?;
        Ok(IssuedIdentity { certificate: self.sign(params, &key, None, life)?, key })
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        from: Option<Timestamp>,
        life: Duration,
    ) -> Result<IssuedCertificate, AuthorityError> {
        let not_after = valid_for(&mut params, self.clock.now(), from, life);
        let der = params.signed_by(key, &self.issuer)?.der().clone();
        Ok(IssuedCertificate { der, not_after })
    }
}

impl IssuedIdentity {
    /// The certificate in PEM.
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate.der)
    }

    /// The key in PEM (PKCS#8).
    pub fn key_pem(&self) -> Secret {
        Secret::from(self.key.serialize_pem())
    }

    /// The key for rustls.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }
}

fn leaf(id: &SpiffeId) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("Bursar");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
    Ok(params)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// Valid from a minute ago, so that a clock that is a little behind accepts it, or from `from` where that is later.
fn valid_for(
    params: &mut CertificateParams,
    now: Timestamp,
    from: Option<Timestamp>,
    life: Duration,
) -> Timestamp {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let from = from.and_then(|from| u64::try_from(from.as_second()).ok()).unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(seconds.saturating_sub(60).max(from));
    let end = seconds.saturating_add(life.as_secs());
    params.not_after = epoch + Duration::from_secs(end);
    Timestamp::from_second(i64::try_from(end).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX)
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(data_encoding::BASE64.encode(der));
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for IssuedIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedIdentity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("the certificate signing request cannot be read")]
    Request(#[source] rcgen::Error),
    #[error("`{name}` is neither a DNS name nor an IP address")]
    Name { name: String },
    #[error("the certificate cannot be made")]
    Issue(#[from] rcgen::Error),
}

const DAY: u64 = 24 * 60 * 60;
const ROOT_LIFE: Duration = Duration::from_secs(3650 * DAY);
const SERVER_LIFE: Duration = Duration::from_secs(30 * DAY);
const USER_LIFE: Duration = Duration::from_secs(365 * DAY);
/// Short, since a node renews by itself and eviction is remembered for this long.
pub const NODE_LIFE: Duration = Duration::from_secs(DAY);
